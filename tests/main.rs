//! The real binary against real parts: mosquitto, GStreamer, an RTSP server, files. Needs what `make test`
//! installs.

#![allow(clippy::unwrap_used, reason = "a test that unwraps says what went wrong by failing there")]

mod support;

mod adaptive;
mod architecture;
mod bad_input;
mod broker;
mod cameras;
mod delivery;
mod demo;
mod faults;
mod metrics;
mod photos;
mod recorded;
mod seeing;
mod service;
mod wire;
