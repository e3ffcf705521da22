//! camfire: an edge video analytics daemon that analyses camera streams and publishes the results over MQTT.
//!
//! The path of a frame:
//!
//! ```text
//! camera stage -> slot (newest frame) -> ready queue -> worker: motion detection, tracking, inference
//!     worker -> message queue -> publisher: outbox -> MQTT broker
//!     worker -> picture queue -> store -> disk
//! ```
//!
//! - `cli/` has one file per subcommand.
//! - [`daemon`] starts the stages ([`camera`], [`workers`], [`publish`], [`store`], [`web`]) and connects
//!   them with queues ([`queue`]).
//! - [`vision`] analyses frames without I/O. [`workers::reporter`] turns the results into messages, which
//!   [`wire`] defines.
//! - [`counters`] holds all counts. They are published as stats messages and as metrics.
//! - [`config`] is the user's configuration, [`control`] the changes that commands make at run time.

#![forbid(unsafe_code)]

mod backoff;
mod camera;
mod cli;
mod clock;
mod config;
mod control;
mod counters;
mod daemon;
mod error;
mod files;
mod frame;
mod hex;
mod lifecycle;
mod procfs;
mod publish;
mod queue;
mod recent_log;
mod store;
mod sync;
mod vision;
mod web;
mod wire;
mod workers;

use clap::{CommandFactory, Parser, Subcommand};
use std::process::ExitCode;

/// Edge video analytics: analyses camera streams and publishes the results over MQTT.
#[derive(Parser)]
#[command(name = "camfire", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon: analyse the configured cameras and publish the results
    Run(cli::run::Arguments),
    /// Analyse the bundled clip, publish to a private broker and print the events
    Demo(cli::demo::Arguments),
    /// Validate a configuration
    Check(cli::check::Arguments),
    /// Write a first configuration: find cameras and the broker, try them, and write a file
    Init(cli::init::Arguments),
    /// Report what works and what is missing: machine, GStreamer, cameras and their streams, broker
    Doctor(cli::doctor::Arguments),
    /// Analyse a recording and print its events
    Analyze(cli::analyze::Arguments),
    /// Classify photos with the same preprocessing and model as the daemon
    Classify(cli::classify::Arguments),
    /// Find people, vehicles and animals in photos with a detection network
    Detect(cli::detect::Arguments),
    /// Save one frame of a camera as a JPEG image
    Snapshot(cli::snapshot::Arguments),
    /// Measure the network's inference time on this machine
    Bench(cli::bench::Arguments),
    /// Simulate devices that publish to a broker
    Simulate(cli::simulate::Arguments),
    /// Subscribe to a broker and print events as they arrive
    Watch(cli::watch::Arguments),
    /// Set a password or a token for the web server
    WebPassword(cli::web_password::Arguments),
    /// Write man pages, shell completions and the configuration reference into a folder
    #[command(hide = true)]
    Generate(cli::generate::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => cli::run::run(arguments),
        Command::Demo(arguments) => cli::demo::run(arguments),
        Command::Check(arguments) => cli::check::run(arguments),
        Command::Init(arguments) => cli::init::run(arguments),
        Command::Doctor(arguments) => cli::doctor::run(arguments),
        Command::Analyze(arguments) => cli::analyze::run(arguments),
        Command::Classify(arguments) => cli::classify::run(arguments),
        Command::Detect(arguments) => cli::detect::run(arguments),
        Command::Snapshot(arguments) => cli::snapshot::run(arguments),
        Command::Bench(arguments) => cli::bench::run(arguments),
        Command::Simulate(arguments) => cli::simulate::run(arguments),
        Command::Watch(arguments) => cli::watch::run(arguments),
        Command::WebPassword(arguments) => cli::web_password::run(arguments),
        Command::Generate(arguments) => cli::generate::run(arguments, Arguments::command()),
    };
    result.unwrap_or_else(|error| {
        cli::output::note!("camfire: {error}");
        ExitCode::from(error.exit_code())
    })
}
