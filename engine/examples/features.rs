//! Means of one map of a model over many crops: what a head is trained on.
//!
//!     cargo run --release -p camfire-engine --example features -- MODEL.tflite MAP < crops.rgb > means.f32
//!
//! Standard input: crops of the model's input size as RGB bytes, back to back. Standard output: per crop the
//! mean over all positions of every channel of the map, dequantized, f32 little-endian.

use engine::model::{Model, Options, Tensor};
use std::io::{ErrorKind, Read, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("no model given")?;
    let map = arguments.next().ok_or("no map given, such as fire9/concat")?;
    let bytes = std::fs::read(&file)?;
    let outputs = Model::from_bytes(&bytes, &Options::default())?.outputs();
    // The last map of a network is an output, which is read as such.
    let output = outputs.iter().position(|info| info.name == map);
    let keep: &[&str] = if output.is_some() { &[] } else { &[map.as_str()] };
    let model = Model::from_bytes(&bytes, &Options { cap: None, keep })?;
    let tensor = output.map_or(Tensor::Kept(0), Tensor::Output);
    let info = output.map_or_else(|| model.kept().remove(0), |index| model.outputs().remove(index));
    let channels = *info.shape.last().ok_or("the map has no channels")?;
    let (scale, zero_point) = info.quantization;
    let mut session = model.session();
    let mut crop = vec![0; session.input_len()];
    let mut quants = vec![0; model.len_of(tensor).ok_or("no such map")?];
    let positions = (quants.len() / channels) as f32;
    let (mut crops, mut means) = (std::io::stdin().lock(), std::io::stdout().lock());
    loop {
        match crops.read_exact(&mut crop) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(means.flush()?),
            result => result?,
        }
        session.run_until(&crop, tensor)?;
        session.read(tensor, &mut quants)?;
        let mut sums = vec![0i32; channels];
        for position in quants.chunks_exact(channels) {
            for (sum, quant) in sums.iter_mut().zip(position) {
                *sum += *quant as i8 as i32 - zero_point;
            }
        }
        for sum in sums {
            means.write_all(&(sum as f32 * scale / positions).to_le_bytes())?;
        }
    }
}
