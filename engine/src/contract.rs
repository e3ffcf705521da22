//! What a model must be before any engine sees it.
//!
//! Reads the flatbuffer with verification (every offset inside the file), then checks what the schema cannot say: one
//! graph with one int8 RGB input and one int8 map out, operators in an order that can be run, constants as long as
//! their shapes say. After [`read`] an engine may index without surprises.
//!
//! Schema: tensorflow/lite/schema/schema.fbs, version 3 (`TFL3`).

use crate::Error;
use tract_tflite::tflite::{self, BuiltinOperator, Tensor, TensorType};

/// What goes into a model and what comes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// Rows of the input image.
    pub input_height: usize,
    /// Columns of the input image; each pixel is three bytes, R, G, B.
    pub input_width: usize,
    /// Rows of the output map.
    pub map_height: usize,
    /// Columns of the output map.
    pub map_width: usize,
    /// Channels of the output map.
    pub classes: usize,
    /// Real value of one step of the map.
    pub scale: f32,
    /// The step that stands for zero.
    pub zero_point: i8,
}

impl Signature {
    /// Bytes of one input image.
    pub fn input_len(&self) -> usize {
        self.input_height * self.input_width * 3
    }

    /// Steps of one output map.
    pub fn map_len(&self) -> usize {
        self.map_height * self.map_width * self.classes
    }
}

/// One operator of a checked graph: its tensors all exist.
pub(crate) struct Operator<'a> {
    pub(crate) index: usize,
    pub(crate) code: BuiltinOperator,
    pub(crate) version: i32,
    pub(crate) table: tflite::Operator<'a>,
    pub(crate) inputs: Vec<Tensor<'a>>,
    pub(crate) outputs: Vec<Tensor<'a>>,
}

impl Operator<'_> {
    /// The refusal of this operator, for `reason`.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Error {
        let name = match self.code.variant_name() {
            Some(name) => name.to_string(),
            None => format!("builtin code {}", self.code.0),
        };
        Error::Operator { index: self.index, name, version: self.version, reason: reason.into() }
    }
}

/// A checked model.
pub(crate) struct Checked<'a> {
    pub(crate) signature: Signature,
    pub(crate) operators: Vec<Operator<'a>>,
}

/// Reads and checks `model`.
pub(crate) fn read(model: &[u8]) -> Result<Checked<'_>, Error> {
    if model.len() < 8 || &model[4..8] != b"TFL3" {
        return Err(Error::Malformed(format!("no TFL3 mark at byte 4 ({} bytes in all)", model.len())));
    }
    let root = tflite::root_as_model(model).map_err(|e| Error::Malformed(first_line(&e)))?;
    let graph = match root.subgraphs() {
        Some(graphs) if graphs.len() == 1 => graphs.get(0),
        other => {
            let found = other.map_or(0, |graphs| graphs.len());
            return Err(contract("model", "one subgraph", found));
        }
    };
    let tensors = graph.tensors().ok_or_else(|| contract("subgraph 0", "tensors", "none"))?;
    let tensor = |index: i32, whose: &str| {
        usize::try_from(index)
            .ok()
            .filter(|&i| i < tensors.len())
            .map(|i| tensors.get(i))
            .ok_or_else(|| contract(whose, format!("a tensor index below {}", tensors.len()), index))
    };
    let only = |list: Option<flatbuffers::Vector<'_, i32>>, what: &str| match list {
        Some(list) if list.len() == 1 => Ok(list.get(0)),
        other => Err(contract("subgraph 0", format!("one {what}"), other.map_or(0, |l| l.len()))),
    };
    let input_index = only(graph.inputs(), "input")?;
    let output_index = only(graph.outputs(), "output")?;
    let signature = signature(&tensor(input_index, "input")?, &tensor(output_index, "output")?)?;

    let codes = root.operator_codes();
    let mut known = vec![false; tensors.len()];
    for (index, tensor) in tensors.iter().enumerate() {
        check_size(&tensor)?;
        known[index] = is_whole_constant(&root, &tensor)?;
    }
    known[input_index as usize] = true;

    let mut operators = Vec::new();
    for (index, table) in graph.operators().into_iter().flatten().enumerate() {
        let place = format!("operator {index}");
        let code = codes
            .filter(|codes| (table.opcode_index() as usize) < codes.len())
            .map(|codes| codes.get(table.opcode_index() as usize))
            .ok_or_else(|| contract(&place, "a known operator code", table.opcode_index()))?;
        let mut inputs = Vec::new();
        for input in table.inputs().into_iter().flatten() {
            inputs.push(tensor(input, &place)?);
            if !known[input as usize] {
                let expected = "inputs that are constant or computed before";
                return Err(contract(&place, expected, format!("tensor {input}")));
            }
        }
        let mut outputs = Vec::new();
        for output in table.outputs().into_iter().flatten() {
            outputs.push(tensor(output, &place)?);
            known[output as usize] = true;
        }
        // Files older than schema 3a have the code in the deprecated byte; newer ones in both.
        let builtin = code.builtin_code().0.max(i32::from(code.deprecated_builtin_code()));
        let version = code.version();
        let code = BuiltinOperator(builtin);
        operators.push(Operator { index, code, version, table, inputs, outputs });
    }
    if !known[output_index as usize] || output_index == input_index || operators.is_empty() {
        return Err(contract("output", "a tensor that an operator computes", output_index));
    }
    Ok(Checked { signature, operators })
}

/// The input's and output's half of the contract.
fn signature(input: &Tensor<'_>, output: &Tensor<'_>) -> Result<Signature, Error> {
    let place = format!("input {:?}", name(input));
    expect_int8(input, &place)?;
    let [1, input_height, input_width, 3] = dimensions(input)[..] else {
        return Err(contract(&place, "1 x height x width x 3", shape_text(input)));
    };
    let (scale, zero_point) = quantization(input, &place)?;
    if scale != 1.0 || zero_point != -128 {
        return Err(contract(
            &place,
            "raw RGB bytes (scale 1, zero point -128)",
            format!("scale {scale}, zero point {zero_point}"),
        ));
    }
    let place = format!("output {:?}", name(output));
    expect_int8(output, &place)?;
    let [1, map_height, map_width, classes] = dimensions(output)[..] else {
        return Err(contract(&place, "a map of 1 x height x width x classes", shape_text(output)));
    };
    let (scale, zero_point) = quantization(output, &place)?;
    Ok(Signature {
        input_height,
        input_width,
        map_height,
        map_width,
        classes,
        scale,
        zero_point: zero_point as i8,
    })
}

/// Refuses shapes that no image network has, so that sizes can be multiplied without a thought.
fn check_size(tensor: &Tensor<'_>) -> Result<(), Error> {
    const MOST: usize = 1 << 28;
    let volume = dimensions(tensor)
        .iter()
        .try_fold(1, |volume: usize, &dimension| volume.checked_mul(dimension))
        .filter(|volume| (1..=MOST).contains(volume));
    match volume {
        Some(_) => Ok(()),
        None => {
            let place = format!("tensor {:?}", name(tensor));
            Err(contract(place, format!("1 to {MOST} elements"), shape_text(tensor)))
        }
    }
}

/// Whether `tensor` carries its own data; an error where it has some, but not what its shape and type ask for.
fn is_whole_constant(root: &tflite::Model<'_>, tensor: &Tensor<'_>) -> Result<bool, Error> {
    let place = format!("tensor {:?}", name(tensor));
    let buffers = root.buffers().ok_or_else(|| contract("model", "buffers", "none"))?;
    let index = tensor.buffer() as usize;
    if index >= buffers.len() {
        return Err(contract(&place, format!("a buffer index below {}", buffers.len()), index));
    }
    let Some(data) = buffers.get(index).data().filter(|data| !data.is_empty()) else {
        return Ok(false);
    };
    let element_len = match tensor.type_() {
        TensorType::INT8 | TensorType::UINT8 | TensorType::BOOL => 1,
        TensorType::INT16 | TensorType::UINT16 | TensorType::FLOAT16 => 2,
        TensorType::INT32 | TensorType::UINT32 | TensorType::FLOAT32 => 4,
        TensorType::INT64 | TensorType::UINT64 | TensorType::FLOAT64 => 8,
        other => return Err(contract(&place, "constants of a numeric type", type_name(other))),
    };
    let expected = dimensions(tensor)
        .iter()
        .try_fold(element_len, |len: usize, &dimension| len.checked_mul(dimension))
        .unwrap_or(usize::MAX);
    if data.len() != expected {
        return Err(contract(&place, format!("{expected} bytes of data"), data.len()));
    }
    Ok(true)
}

/// The tensor's shape; a negative (unknown) dimension counts as 0, which no rule accepts.
pub(crate) fn dimensions(tensor: &Tensor<'_>) -> Vec<usize> {
    tensor.shape().into_iter().flatten().map(|d| usize::try_from(d).unwrap_or(0)).collect()
}

/// The one scale and zero point of an activation.
pub(crate) fn quantization(tensor: &Tensor<'_>, place: &str) -> Result<(f32, i64), Error> {
    let refuse =
        |found: String| contract(place, "one scale above 0 and one zero point from -128 to 127", found);
    let table = tensor.quantization().ok_or_else(|| refuse("none".into()))?;
    let scales: Vec<f32> = table.scale().into_iter().flatten().collect();
    let zero_points: Vec<i64> = table.zero_point().into_iter().flatten().collect();
    match (&scales[..], &zero_points[..]) {
        (&[scale], &[zero]) if scale.is_normal() && scale > 0.0 && (-128..=127).contains(&zero) => {
            Ok((scale, zero))
        }
        _ => Err(refuse(format!("scales {scales:?}, zero points {zero_points:?}"))),
    }
}

/// Refuses a tensor that is not int8.
pub(crate) fn expect_int8(tensor: &Tensor<'_>, place: &str) -> Result<(), Error> {
    match tensor.type_() {
        TensorType::INT8 => Ok(()),
        other => Err(contract(place, "int8", type_name(other))),
    }
}

/// The tensor's name, for messages.
pub(crate) fn name<'a>(tensor: &Tensor<'a>) -> &'a str {
    tensor.name().unwrap_or("")
}

/// Shorthand for [`Error::Contract`].
pub(crate) fn contract(place: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::Contract { place: place.into(), expected: expected.into(), found: found.to_string() }
}

fn type_name(kind: TensorType) -> String {
    kind.variant_name().map_or_else(|| format!("type {}", kind.0), str::to_lowercase)
}

fn shape_text(tensor: &Tensor<'_>) -> String {
    let dimensions: Vec<String> = tensor.shape().into_iter().flatten().map(|d| d.to_string()).collect();
    dimensions.join(" x ")
}

/// The verifier's error continues with a trace of tables; its first line says it.
fn first_line(error: &impl std::fmt::Display) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}
