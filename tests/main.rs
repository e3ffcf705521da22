//! Integration tests of the built binary with a real mosquitto, GStreamer, an RTSP server and files.
//! `make test` installs what they need.

#![allow(clippy::unwrap_used, reason = "in a test, a panic on unwrap is an acceptable failure report")]

mod support;

mod adaptive;
mod analyze;
mod architecture;
mod bad_input;
mod broker;
mod cameras;
mod classify;
mod delivery;
mod demo;
mod everyday;
mod faults;
mod metrics;
mod recorded;
mod reload;
mod service;
mod wire;
