//! Reads a `.tflite` file into a [`Graph`] and validates it, so that later code can index without checks.
//!
//! After [`read`] every tensor that an operator refers to exists, inputs are constant or computed by an
//! earlier operator, shapes multiply to at most [`MAX_ELEMENTS`], constants are as long as their shapes
//! imply, and scales are finite and above zero. Whether an operator's tensors fit each other is checked by
//! the engine that runs it.
//!
//! Memory and time: data stays in the file, but a file may refer to one table, vector or string a million
//! times. So every count has a maximum, far above the needs of image networks.
//!
//! Schema: tensorflow/lite/schema/schema.fbs, version 3 (`TFL3`). A field's slot is its position in that
//! file.

mod flatbuffer;
mod operator;

use crate::{
    Error,
    error::contract,
    graph::{DType, Graph, LeArray, Operator, Quantization, Tensor},
};
use flatbuffer::{Table, Tables};

/// No image network has a larger tensor, and below this limit products of sizes do not overflow.
const MAX_ELEMENTS: usize = 1 << 28;
/// Batch, height, width, channels, and two more for unusual reshapes.
const MAX_DIMENSIONS: usize = 6;
/// Tensors of one operator; concatenations have the most.
const MAX_OPERANDS: usize = 64;
/// EfficientNet-B7 has some 1500 tensors and 600 operators.
const MAX_TENSORS: usize = 4096;
const MAX_OPERATORS: usize = 2048;
/// Tensors of all operators together: on average three inputs and one output each.
const MAX_TOTAL_OPERANDS: usize = 4 * MAX_OPERATORS;
/// Bytes of a tensor's name; longer names are truncated. Converters join the names of all operators that they
/// fuse.
pub(crate) const MAX_NAME_LEN: usize = 256;

/// Reads and checks a model.
///
/// Errors: [`Error::Malformed`] when an offset points outside the file, [`Error::Contract`] when the tables
/// contradict each other. Both name the table and its index.
pub(crate) fn read(file: &[u8]) -> Result<Graph<'_>, Error> {
    let model = Table::root(file, b"TFL3")?;
    let graphs = model.tables(2, "subgraph")?;
    if graphs.len() != 1 {
        return Err(contract("model", "one subgraph", graphs.len()));
    }
    let subgraph = graphs.get(0)?;
    let buffers = model.tables(4, "buffer")?;
    let codes = model.tables(1, "operator code")?;

    let tables = at_most(subgraph.tables(0, "tensor")?, MAX_TENSORS, "tensors")?;
    let mut tensors = Vec::new();
    // Scales are read once per tensor that refers to them. A file that does not share them can contain a
    // third as many with their zero points.
    let mut scales_left = file.len() / 4;
    for index in 0..tables.len() {
        tensors.push(read_tensor(&tables.get(index)?, &buffers, &mut scales_left)?);
    }
    let graph_tensors =
        |slot: usize| -> Result<Vec<usize>, Error> { indices(&subgraph, slot, tensors.len()) };
    let (inputs, outputs) = (graph_tensors(1)?, graph_tensors(2)?);
    let mut known: Vec<bool> = tensors.iter().map(|tensor| tensor.data.is_some()).collect();
    for &input in &inputs {
        known[input] = true;
    }

    if let Some(repeated) = (1..outputs.len()).find(|&index| outputs[..index].contains(&outputs[index])) {
        return Err(contract(
            "subgraph 0",
            "each output once",
            format!("tensor {} twice", outputs[repeated]),
        ));
    }

    let operators = read_operators(&subgraph, &codes, &mut known)?;
    if let Some(output) = outputs.iter().find(|&&output| !known[output]) {
        return Err(contract("subgraph 0", "outputs that an operator computes", format!("tensor {output}")));
    }
    Ok(Graph { tensors, operators, inputs, outputs })
}

/// Reads the operators in their order of execution. `known` records for each tensor whether it has a value.
fn read_operators(
    subgraph: &Table<'_>,
    codes: &Tables<'_>,
    known: &mut [bool],
) -> Result<Vec<Operator>, Error> {
    let tables = at_most(subgraph.tables(3, "operator")?, MAX_OPERATORS, "operators")?;
    let mut operators = Vec::new();
    let mut operands = 0;
    for index in 0..tables.len() {
        let table = tables.get(index)?;
        let operator = read_operator(index, &table, codes, known.len())?;
        operands += operator.inputs.len() + operator.outputs.len();
        if operands > MAX_TOTAL_OPERANDS {
            let expected = format!("at most {MAX_TOTAL_OPERANDS} tensors in all operators so far");
            return Err(contract(&table.location, expected, operands));
        }
        if let Some(&input) = operator.inputs.iter().find(|&&input| !known[input]) {
            let expected = "inputs that are constant or computed by an earlier operator";
            return Err(contract(&table.location, expected, format!("tensor {input}")));
        }
        for &output in &operator.outputs {
            if known[output] {
                let expected = "outputs that no other operator writes";
                return Err(contract(&table.location, expected, format!("tensor {output}")));
            }
            known[output] = true;
        }
        operators.push(operator);
    }
    Ok(operators)
}

/// Returns `tables` if there are at most `max`.
fn at_most<'a>(tables: Tables<'a>, max: usize, what: &str) -> Result<Tables<'a>, Error> {
    match tables.len() {
        len if len <= max => Ok(tables),
        len => Err(contract("subgraph 0", format!("at most {max} {what}"), len)),
    }
}

fn read_tensor<'a>(
    table: &Table<'a>,
    buffers: &Tables<'a>,
    scales_left: &mut usize,
) -> Result<Tensor<'a>, Error> {
    let name = table.string(3, MAX_NAME_LEN)?;
    let location =
        || if name.is_empty() { table.location.clone() } else { format!("{} {name:?}", table.location) };
    let numbers = table.numbers::<4>(0)?.unwrap_or(LeArray::EMPTY);
    if numbers.len() > MAX_DIMENSIONS {
        return Err(contract(location(), format!("at most {MAX_DIMENSIONS} dimensions"), numbers.len()));
    }
    let dimensions: Vec<i32> = numbers.iter().map(i32::from_le_bytes).collect();
    let shape: Option<Vec<usize>> =
        dimensions.iter().map(|&d| usize::try_from(d).ok().filter(|&d| d > 0)).collect();
    let volume = shape.as_ref().and_then(|shape| shape.iter().try_fold(1usize, |all, &d| all.checked_mul(d)));
    let (Some(shape), Some(volume)) = (shape, volume.filter(|&volume| volume <= MAX_ELEMENTS)) else {
        let found: Vec<String> = dimensions.iter().map(|d| d.to_string()).collect();
        return Err(contract(location(), format!("1 to {MAX_ELEMENTS} elements"), found.join(" x ")));
    };
    let dtype = DType::of_code(table.u8(1)?.unwrap_or(0));
    let quantization = match table.table(4, table.location.clone() + ", quantization")? {
        Some(table) => read_quantization(&table, &shape, scales_left)?,
        None => None,
    };

    let buffer = table.u32(2)?.unwrap_or(0) as usize;
    if buffer >= buffers.len() {
        return Err(contract(location(), format!("a buffer index below {}", buffers.len()), buffer));
    }
    let buffer = buffers.get(buffer)?;
    if buffer.u64(1)?.unwrap_or(0) > 1 {
        return Err(contract(location(), "data inside the flatbuffer", "data appended after it"));
    }
    let data = buffer.vector(0)?.filter(|data| !data.is_empty());
    if let Some(data) = data {
        let Some(element_len) = dtype.element_len() else {
            return Err(contract(location(), "constants of a numeric type", dtype));
        };
        let expected = volume * element_len;
        if data.len() != expected {
            return Err(contract(location(), format!("{expected} bytes of data"), data.len()));
        }
    }
    Ok(Tensor { name, shape, dtype, quantization, data })
}

/// Returns None for a table without scales, by which the converter marks a tensor that is not quantized.
fn read_quantization<'a>(
    table: &Table<'a>,
    shape: &[usize],
    scales_left: &mut usize,
) -> Result<Option<Quantization<'a>>, Error> {
    let scales = table.numbers(2)?.unwrap_or(LeArray::EMPTY);
    let zero_points = table.numbers(3)?.unwrap_or(LeArray::EMPTY);
    if scales.len() == 0 {
        return Ok(None);
    }
    let max = shape.iter().copied().max().unwrap_or(1);
    if scales.len() > max {
        return Err(contract(&table.location, format!("at most {max} scales"), scales.len()));
    }
    if scales.len() > 1 {
        let left = scales_left.checked_sub(scales.len());
        *scales_left = left
            .ok_or_else(|| contract(&table.location, "scales of its own", "more than the file contains"))?;
    }
    if let Some(scale) =
        scales.iter().map(f32::from_le_bytes).find(|scale| !scale.is_normal() || *scale < 0.0)
    {
        return Err(contract(&table.location, "scales that are finite and above 0", scale));
    }
    if zero_points.len() != scales.len() {
        let found = format!("{} scales and {} zero points", scales.len(), zero_points.len());
        return Err(contract(&table.location, "a zero point for each scale", found));
    }
    let axis = table.i32(6)?.unwrap_or(0);
    Ok(Some(Quantization { scales, zero_points, axis }))
}

fn read_operator(
    index: usize,
    table: &Table<'_>,
    codes: &Tables<'_>,
    tensors: usize,
) -> Result<Operator, Error> {
    let code = table.u32(0)?.unwrap_or(0) as usize;
    if code >= codes.len() {
        return Err(contract(&table.location, format!("an operator code below {}", codes.len()), code));
    }
    let code = codes.get(code)?;
    // Files older than schema 3a have the code in the deprecated byte; newer ones in both.
    let builtin = code.i32(3)?.unwrap_or(0).max(i32::from(code.u8(0)?.unwrap_or(0) as i8));
    let version = code.i32(2)?.unwrap_or(1);
    let inputs = indices(table, 1, tensors)?;
    let outputs = indices(table, 2, tensors)?;
    if outputs.is_empty() {
        return Err(contract(&table.location, "at least one output", "none"));
    }
    let op = operator::read(builtin, table)?;
    Ok(Operator { index, name: operator::code_name(builtin), version, inputs, outputs, op })
}

/// Returns the tensor indices in vector `slot`. An omitted optional input (-1) ends the list.
fn indices(table: &Table<'_>, slot: usize, tensors: usize) -> Result<Vec<usize>, Error> {
    let numbers = table.numbers::<4>(slot)?.unwrap_or(LeArray::EMPTY);
    if numbers.len() > MAX_OPERANDS {
        return Err(contract(&table.location, format!("at most {MAX_OPERANDS} tensors"), numbers.len()));
    }
    let mut found = Vec::new();
    for number in numbers.iter().map(i32::from_le_bytes) {
        match usize::try_from(number) {
            Ok(index) if index < tensors => found.push(index),
            Err(_) if number == -1 => break,
            _ => return Err(contract(&table.location, format!("a tensor index below {tensors}"), number)),
        }
    }
    Ok(found)
}
