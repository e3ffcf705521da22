//! camfire: cameras in, what is seen out over MQTT.
//!
//! The way of one frame, left to right, never back:
//!
//! ```text
//! camera -> newest-frame slot -> ready queue -> worker: motion, tracks, looks -> messages -> publisher: outbox -> MQTT
//!                                                                             -> pictures -> store -> disk
//! ```
//!
//! `cli/` has a file a subcommand; [`daemon`] starts the stages ([`camera`], [`workers`], [`publish`], [`store`], [`web`])
//! and joins them by [`queue`]s; [`vision`] is what is done to a frame, pure; [`reporter`] puts it into words; [`record`]s are
//! what is counted on the way, told by [`stats`] and [`metrics`]; [`config`] is what the user wants, [`control`] what was
//! asked for meanwhile.

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
mod frame;
mod lifecycle;
mod procfs;
mod publish;
mod queue;
mod store;
mod sync;
mod vision;
mod web;
mod wire;
mod workers;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Edge video analytics: watches cameras, sees what is in them, tells MQTT.
#[derive(Parser)]
#[command(name = "camfire", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The daemon: watch the configured cameras and publish what is seen
    Run(cli::run::Arguments),
    /// See it work: the bundled clip, a private broker, and what comes out of it
    Demo(cli::demo::Arguments),
    /// Tell everything that is wrong with a configuration
    Check(cli::check::Arguments),
    /// Tell what this machine has: GStreamer, cameras, CPU, engine, broker
    Doctor(cli::doctor::Arguments),
    /// Run a recording through the whole analysis and print what happens in it
    Analyze(cli::analyze::Arguments),
    /// Classify photos with the very same eyes as the daemon
    Classify(cli::classify::Arguments),
    /// Take one picture of a camera
    Snapshot(cli::snapshot::Arguments),
    /// Time the network on this machine
    Bench(cli::bench::Arguments),
    /// Put invented boards on a broker, to see what it takes
    Simulate(cli::simulate::Arguments),
    /// Subscribe and print what is seen as it comes
    Watch(cli::watch::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => cli::run::run(arguments),
        Command::Demo(arguments) => cli::demo::run(arguments),
        Command::Check(arguments) => cli::check::run(arguments),
        Command::Doctor(arguments) => cli::doctor::run(arguments),
        Command::Analyze(arguments) => cli::analyze::run(arguments),
        Command::Classify(arguments) => cli::classify::run(arguments),
        Command::Snapshot(arguments) => cli::snapshot::run(arguments),
        Command::Bench(arguments) => cli::bench::run(arguments),
        Command::Simulate(arguments) => cli::simulate::run(arguments),
        Command::Watch(arguments) => cli::watch::run(arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("camfire: {error}");
        ExitCode::from(error.exit_code())
    })
}
