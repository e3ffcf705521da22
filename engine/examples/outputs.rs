//! Runs a model once and writes all its outputs, one after the other, as bytes of the model's types.
//!
//!     cargo run --release -p camfire-engine --example outputs -- MODEL.tflite INPUT OUTPUT [KERNEL-SET]
//!
//! INPUT contains the model's input as bytes of its type. Prints the name, shape, scale and zero point of
//! each output. `models/recipe/exact.py` compares OUTPUT with LiteRT's.

use engine::{
    KernelSet,
    model::{Element, Model, Options, Tensor},
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().ok_or(format!("no {what} given"));
    let (file, input, output) = (next("model")?, next("input")?, next("output")?);
    let cap = next("kernel set")
        .ok()
        .map(|name| KernelSet::of_name(&name).ok_or("no such kernel set"))
        .transpose()?;
    let model = Model::from_bytes(&std::fs::read(&file)?, &Options { cap, keep: &[] })?;
    if cap.is_some_and(|cap| cap != model.kernel_set()) {
        return Err(format!("this CPU supports only {}", model.kernel_set().name()).into());
    }
    let mut bytes = std::fs::read(&input)?;
    if model.input().element == Element::Int8 {
        bytes.iter_mut().for_each(|byte| *byte ^= 0x80);
    }
    let mut session = model.session();
    session.run(&bytes)?;
    let mut all = Vec::new();
    for (index, info) in model.outputs().iter().enumerate() {
        let (scale, zero_point) = info.quantization;
        println!(
            "{}: {:?} {:?}, scale {scale}, zero point {zero_point}",
            info.name, info.element, info.shape
        );
        let start = all.len();
        all.resize(start + model.len_of(Tensor::Output(index)).unwrap_or_default(), 0);
        session.read(Tensor::Output(index), &mut all[start..])?;
    }
    println!("kernels {}, arena {} KiB", model.kernel_set().name(), model.session_len() >> 10);
    Ok(std::fs::write(&output, all)?)
}
