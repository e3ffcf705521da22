//! Profiles a model: the best time of every instruction, and its ratio to this machine's lower bound.
//!
//!     cargo run --release -p camfire-engine --example layers -- MODEL.tflite [KERNEL-SET | --shapes]
//!
//! With `--shapes` it runs nothing but prints every instruction's name and, for convolutions, rows, pixels of
//! a row, channels, runs per pixel and bytes of a run, separated by tabs, for `engine/tools/cycle_model.py`.
//!
//! The lower bound is the instruction's multiply-adds at the highest rate that any instruction reached.

use engine::{ConvolutionShape, KernelSet, model};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("no model given")?;
    let bytes = std::fs::read(&file)?;
    let kernels = arguments.next();
    if kernels.as_deref() == Some("--shapes") {
        return print_shapes(&bytes);
    }
    let cap = kernels.map(|name| KernelSet::of_name(&name).ok_or("no such kernel set")).transpose()?;
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
    let instructions: Vec<(String, usize, f64)> = (0..model.instructions().len())
        .map(|index| {
            let info = &model.instructions()[index];
            (info.name.clone(), info.multiply_adds, best(&mut || session.repeat_instruction(index)))
        })
        .collect();
    let rate = instructions.iter().map(|(_, adds, ms)| *adds as f64 / ms).fold(0.0, f64::max);
    println!("{:60} {:>9} {:>8} {:>8} {:>6}", "instruction", "M mul-add", "ms", "G/s", "bound");
    for (name, adds, ms) in &instructions {
        let adds = *adds as f64;
        println!("{name:60} {:9.2} {ms:8.4} {:8.1} {:5.2}x", adds / 1e6, adds / ms / 1e6, ms * rate / adds);
    }
    let adds: usize = instructions.iter().map(|instruction| instruction.1).sum();
    let sum: f64 = instructions.iter().map(|instruction| instruction.2).sum();
    println!("{:60} {:9.2} {sum:8.4}", "all instructions", adds as f64 / 1e6);
    println!("whole run {whole_ms:.4} ms; kernels {}", model.kernel_set().name());
    println!("load to first result {:.2} ms", loaded.as_secs_f64() * 1e3);
    println!("packed {} KiB, session {} KiB", model.packed_len() >> 10, model.session_len() >> 10);
    Ok(())
}

fn print_shapes(file: &[u8]) -> Result<(), Box<dyn std::error::Error>> {
    for info in model::Model::from_bytes(file, &model::Options::default())?.instructions() {
        match info.convolution {
            Some(ConvolutionShape { rows, columns, channels, runs, run_len }) => {
                println!("{}\t{rows}\t{columns}\t{channels}\t{runs}\t{run_len}", info.name);
            }
            None => println!("{}", info.name),
        }
    }
    Ok(())
}
