//! `camfire bench`: measures the time of one inference on this machine, as the workers run it.

use super::{output, setup::NetworkArguments};
use crate::{
    error::{Error, ErrorKind},
    workers::model,
};
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

/// Arguments of `camfire bench`.
#[derive(clap::Args)]
#[command(after_help = "Example:\n  camfire bench --threads 4 --json")]
pub struct Arguments {
    #[command(flatten)]
    network: NetworkArguments,
    /// Measure the built-in network of the everyday labels
    #[arg(long, conflicts_with = "model")]
    everyday: bool,
    /// Number of threads, each running its own inferences
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// Seconds to measure for
    #[arg(long, default_value_t = 3.0, value_name = "S")]
    seconds: f64,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

#[derive(serde::Serialize)]
struct Report {
    min_ms: f64,
    median_ms: f64,
    runs: usize,
    per_second: f64,
    engine: &'static str,
    kernel: String,
    threads: u16,
    model: String,
}

/// Runs the network repeatedly on a fixed image and prints the time of one inference.
pub fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    if !(arguments.seconds > 0.0 && arguments.seconds <= 3600.0) {
        let message = format!("--seconds {}: must be above 0, at most 3600", arguments.seconds);
        return Err(Error::new(ErrorKind::Input, message));
    }
    let open = if arguments.everyday { model::open_everyday_engine } else { model::open_engine };
    let (engine, identity) = open(&arguments.network.into())?;
    let duration = Duration::from_secs_f64(arguments.seconds);
    let mut times_ms = Vec::new();
    let results: Vec<Result<Vec<f64>, Error>> = std::thread::scope(|scope| {
        let measure = || measure(engine.as_ref(), duration);
        let threads: Vec<_> = (0..arguments.threads).map(|_| scope.spawn(measure)).collect();
        threads.into_iter().map(|thread| thread.join().expect("measuring does not panic")).collect()
    });
    for result in results {
        times_ms.extend(result?);
    }
    // Warm-up is not part of the measured time, so the rate is computed from the inferences alone.
    let per_second = arguments.threads as f64 * 1e3 * times_ms.len() as f64 / times_ms.iter().sum::<f64>();
    times_ms.sort_by(f64::total_cmp);
    let report = Report {
        min_ms: times_ms[0],
        median_ms: times_ms[times_ms.len() / 2],
        runs: times_ms.len(),
        per_second,
        engine: engine.name(),
        kernel: engine.kernels().to_string(),
        threads: arguments.threads,
        model: identity.name,
    };
    if arguments.json {
        output::line!("{}", serde_json::to_string(&report).expect("finite numbers are JSON"));
    } else {
        let Report { min_ms, median_ms, runs, per_second, engine, kernel, threads, model } = report;
        output::line!("{model}: {engine} ({kernel}), {threads} threads, {runs} runs");
        output::line!("one inference: {min_ms:.2} ms min, {median_ms:.2} ms median");
        output::line!("throughput:    {per_second:.1} per second");
    }
    Ok(ExitCode::SUCCESS)
}

/// Times of single inferences in milliseconds, at least one, after two warm-up runs.
fn measure(engine: &dyn engine::Engine, duration: Duration) -> Result<Vec<f64>, Error> {
    let failed = |e| Error::caused(ErrorKind::System, "cannot run the network", e);
    let mut session = engine.session().map_err(failed)?;
    // The time does not depend on the image.
    let image: Vec<u8> = (0..engine.signature().input_len()).map(|i| (i * 31 % 256) as u8).collect();
    for _ in 0..2 {
        session.run(&image).map_err(failed)?;
    }
    let mut times_ms = Vec::new();
    let end = Instant::now() + duration;
    while times_ms.is_empty() || Instant::now() < end {
        let start = Instant::now();
        session.run(&image).map_err(failed)?;
        times_ms.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times_ms)
}
