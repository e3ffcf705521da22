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
mod clocks;
mod commands;
mod delivery;
mod demo;
mod detect;
mod doctor;
mod documents;
mod elements;
mod everyday;
mod faults;
mod first_hour;
mod homeassistant;
mod hostile_files;
mod http;
mod init;
mod metrics;
mod packaging;
mod page;
mod recorded;
mod reload;
mod rtsp;
mod service;
mod states;
mod wire;
