//! Reads a `.tflite` file into a [`Graph`]: what the schema says, checked so far that everything later may index.
//!
//! After [`read`] every tensor an operator names exists, inputs are constant or computed before, shapes multiply to at
//! most [`MOST_ELEMENTS`], constants are as long as their shapes say, and scales are finite and above zero. Whether an
//! operator's tensors fit each other is for whoever runs it.
//!
//! Memory: tables are read one by one and data stays in the file, so a small file cannot ask for much.
//!
//! Schema: tensorflow/lite/schema/schema.fbs, version 3 (`TFL3`). A field's slot is its position in that file.

mod flatbuffer;
mod operator;

use crate::{
    Error,
    error::contract,
    graph::{Graph, Kind, Numbers, Operator, Quantization, Tensor},
};
use flatbuffer::Table;

/// No image network has a larger tensor; below it sizes can be multiplied without a thought.
const MOST_ELEMENTS: usize = 1 << 28;
/// Batch, height, width, channels, and room for the odd reshape.
const MOST_DIMENSIONS: usize = 6;
/// Tensors of one operator; concatenations have the most.
const MOST_OPERANDS: usize = 64;

/// Reads and checks a model.
///
/// Errors: [`Error::Malformed`] where an offset leads out of the file, [`Error::Contract`] where the tables do not fit
/// each other. Both name table and index.
pub(crate) fn read(file: &[u8]) -> Result<Graph<'_>, Error> {
    let model = Table::root(file, b"TFL3")?;
    let graphs = model.tables(2, "subgraph")?;
    if graphs.len() != 1 {
        return Err(contract("model", "one subgraph", graphs.len()));
    }
    let subgraph = graphs.get(0)?;
    let buffers = model.tables(4, "buffer")?;
    let codes = model.tables(1, "operator code")?;

    let tables = subgraph.tables(0, "tensor")?;
    let mut tensors = Vec::new();
    for index in 0..tables.len() {
        tensors.push(read_tensor(&tables.get(index)?, &buffers)?);
    }
    let ends = |slot: usize| -> Result<Vec<usize>, Error> { indices(&subgraph, slot, tensors.len()) };
    let (inputs, outputs) = (ends(1)?, ends(2)?);
    let mut known: Vec<bool> = tensors.iter().map(|tensor| tensor.data.is_some()).collect();
    for &input in &inputs {
        known[input] = true;
    }

    let tables = subgraph.tables(3, "operator")?;
    let mut operators = Vec::new();
    for index in 0..tables.len() {
        let table = tables.get(index)?;
        let operator = read_operator(index, &table, &codes, tensors.len())?;
        if let Some(&input) = operator.inputs.iter().find(|&&input| !known[input]) {
            let expected = "inputs that are constant or computed before";
            return Err(contract(&table.place, expected, format!("tensor {input}")));
        }
        for &output in &operator.outputs {
            if known[output] {
                let expected = "outputs that nothing else writes";
                return Err(contract(&table.place, expected, format!("tensor {output}")));
            }
            known[output] = true;
        }
        operators.push(operator);
    }
    if let Some(output) = outputs.iter().find(|&&output| !known[output]) {
        return Err(contract("subgraph 0", "outputs that an operator computes", format!("tensor {output}")));
    }
    Ok(Graph { tensors, operators, inputs, outputs })
}

fn read_tensor<'a>(table: &Table<'a>, buffers: &flatbuffer::Tables<'a>) -> Result<Tensor<'a>, Error> {
    let name = table.string(3)?;
    let place = || if name.is_empty() { table.place.clone() } else { format!("{} {name:?}", table.place) };
    let numbers = table.numbers::<4>(0)?.unwrap_or(Numbers::EMPTY);
    if numbers.len() > MOST_DIMENSIONS {
        return Err(contract(place(), format!("at most {MOST_DIMENSIONS} dimensions"), numbers.len()));
    }
    let dimensions: Vec<i32> = numbers.iter().map(i32::from_le_bytes).collect();
    let shape: Option<Vec<usize>> =
        dimensions.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d > 0)).collect();
    let volume = shape.as_ref().and_then(|shape| shape.iter().try_fold(1usize, |all, &d| all.checked_mul(d)));
    let (Some(shape), Some(volume)) = (shape, volume.filter(|&volume| volume <= MOST_ELEMENTS)) else {
        let found: Vec<String> = dimensions.iter().map(|d| d.to_string()).collect();
        return Err(contract(place(), format!("1 to {MOST_ELEMENTS} elements"), found.join(" x ")));
    };
    let kind = Kind::of_code(table.u8(1)?.unwrap_or(0));
    let quantization = match table.table(4, table.place.clone() + ", quantization")? {
        Some(table) => read_quantization(&table)?,
        None => None,
    };

    let buffer = table.u32(2)?.unwrap_or(0) as usize;
    if buffer >= buffers.len() {
        return Err(contract(place(), format!("a buffer index below {}", buffers.len()), buffer));
    }
    let buffer = buffers.get(buffer)?;
    if buffer.u64(1)?.unwrap_or(0) > 1 {
        return Err(contract(place(), "data inside the flatbuffer", "data appended behind it"));
    }
    let data = buffer.vector(0)?.filter(|data| !data.is_empty());
    if let Some(data) = data {
        let Some(element_len) = kind.element_len() else {
            return Err(contract(place(), "constants of a numeric type", kind));
        };
        let expected = volume * element_len;
        if data.len() != expected {
            return Err(contract(place(), format!("{expected} bytes of data"), data.len()));
        }
    }
    Ok(Tensor { name, shape, kind, quantization, data })
}

/// `None` for a table without scales, which is how the converter marks a tensor that is not quantized.
fn read_quantization<'a>(table: &Table<'a>) -> Result<Option<Quantization<'a>>, Error> {
    let scales = table.numbers(2)?.unwrap_or(Numbers::EMPTY);
    let zero_points = table.numbers(3)?.unwrap_or(Numbers::EMPTY);
    if scales.len() == 0 {
        return Ok(None);
    }
    if let Some(scale) =
        scales.iter().map(f32::from_le_bytes).find(|scale| !scale.is_normal() || *scale < 0.0)
    {
        return Err(contract(&table.place, "scales that are finite and above 0", scale));
    }
    if zero_points.len() != scales.len() {
        let found = format!("{} scales and {} zero points", scales.len(), zero_points.len());
        return Err(contract(&table.place, "a zero point for each scale", found));
    }
    let axis = table.i32(6)?.unwrap_or(0);
    Ok(Some(Quantization { scales, zero_points, axis }))
}

fn read_operator(
    index: usize,
    table: &Table<'_>,
    codes: &flatbuffer::Tables<'_>,
    tensors: usize,
) -> Result<Operator, Error> {
    let code = table.u32(0)?.unwrap_or(0) as usize;
    if code >= codes.len() {
        return Err(contract(&table.place, format!("an operator code below {}", codes.len()), code));
    }
    let code = codes.get(code)?;
    // Files older than schema 3a have the code in the deprecated byte; newer ones in both.
    let builtin = code.i32(3)?.unwrap_or(0).max(i32::from(code.u8(0)?.unwrap_or(0) as i8));
    let version = code.i32(2)?.unwrap_or(1);
    let inputs = indices(table, 1, tensors)?;
    let outputs = indices(table, 2, tensors)?;
    if outputs.is_empty() {
        return Err(contract(&table.place, "at least one output", "none"));
    }
    let kind = operator::read(builtin, table)?;
    Ok(Operator { index, name: operator::code_name(builtin), version, inputs, outputs, kind })
}

/// Tensor indices in vector `slot`. An optional input that is left out (-1) ends the list.
fn indices(table: &Table<'_>, slot: usize, tensors: usize) -> Result<Vec<usize>, Error> {
    let numbers = table.numbers::<4>(slot)?.unwrap_or(Numbers::EMPTY);
    if numbers.len() > MOST_OPERANDS {
        return Err(contract(&table.place, format!("at most {MOST_OPERANDS} tensors"), numbers.len()));
    }
    let mut found = Vec::new();
    for number in numbers.iter().map(i32::from_le_bytes) {
        match usize::try_from(number) {
            Ok(index) if index < tensors => found.push(index),
            Err(_) if number == -1 => break,
            _ => return Err(contract(&table.place, format!("a tensor index below {tensors}"), number)),
        }
    }
    Ok(found)
}
