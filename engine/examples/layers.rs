//! Where a run's time goes: every step of a model, its best time, and how far that is from the machine's floor.
//!
//!     cargo run --release -p camfire-engine --example layers -- MODEL.tflite [KERNEL-SET]
//!
//! The floor is the step's multiply-adds at the rate of the best step: what the machine has shown that it can do.

use engine::{KernelSet, model};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("which model?")?;
    let cap =
        arguments.next().map(|name| KernelSet::of_name(&name).ok_or("no such kernel set")).transpose()?;
    let bytes = std::fs::read(&file)?;
    let loading = Instant::now();
    let model = model::Model::from_bytes(&bytes, &model::Options { cap, keep: &[] })?;
    let mut session = model.session();
    let input: Vec<u8> = (0..model.input().shape.iter().product()).map(|i| (i * 31 % 256) as u8).collect();
    session.run(&input)?;
    let loaded = loading.elapsed();

    let best = |run: &mut dyn FnMut()| {
        let (end, mut best) = (Instant::now() + Duration::from_millis(300), Duration::MAX);
        while Instant::now() < end {
            let start = Instant::now();
            run();
            best = best.min(start.elapsed());
        }
        best.as_secs_f64() * 1e3
    };
    let whole_ms = best(&mut || session.run(&input).unwrap_or_default());
    let steps: Vec<(String, usize, f64)> = (0..model.steps().len())
        .map(|index| {
            let info = &model.steps()[index];
            (info.name.clone(), info.multiply_adds, best(&mut || session.repeat_step(index)))
        })
        .collect();
    let rate = steps.iter().map(|(_, adds, ms)| *adds as f64 / ms).fold(0.0, f64::max);
    println!("{:60} {:>9} {:>8} {:>8} {:>6}", "step", "M mul-add", "ms", "G/s", "floor");
    for (name, adds, ms) in &steps {
        let adds = *adds as f64;
        println!("{name:60} {:9.2} {ms:8.4} {:8.1} {:5.2}x", adds / 1e6, adds / ms / 1e6, ms * rate / adds);
    }
    let adds: usize = steps.iter().map(|step| step.1).sum();
    let sum: f64 = steps.iter().map(|step| step.2).sum();
    println!("{:60} {:9.2} {sum:8.4}", "all steps", adds as f64 / 1e6);
    println!("whole run {whole_ms:.4} ms; kernels {}", model.kernel_set().name());
    println!("load to first result {:.2} ms", loaded.as_secs_f64() * 1e3);
    println!("packed {} KiB, session {} KiB", model.packed_len() >> 10, model.session_len() >> 10);
    Ok(())
}
