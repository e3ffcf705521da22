//! A network as its file tells it: tensors, and operators in their order of execution. Borrows from the file.

use crate::{Error, error::contract};

/// A checked network; see [`crate::tflite::read`] for what is promised.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) tensors: Vec<Tensor<'a>>,
    pub(crate) operators: Vec<Operator>,
    /// Tensors that the caller fills.
    pub(crate) inputs: Vec<usize>,
    /// Tensors that the caller wants.
    pub(crate) outputs: Vec<usize>,
}

/// A tensor: an activation, or a constant with its data.
#[derive(Debug)]
pub(crate) struct Tensor<'a> {
    /// Its first bytes, see [`crate::tflite::MOST_NAME`].
    pub(crate) name: &'a str,
    /// Every dimension is at least 1.
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    pub(crate) quantization: Option<Quantization<'a>>,
    /// As long as shape and kind say, little-endian.
    pub(crate) data: Option<&'a [u8]>,
}

/// Element types. Those that nothing here computes with keep their code, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Float32,
    Int32,
    Uint8,
    Int64,
    Int8,
    Other(u8),
}

/// Scales and zero points: one of each, or one for each index along `axis`. A real value is `(q - zero) * scale`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantization<'a> {
    /// f32, finite and above 0.
    pub(crate) scales: Numbers<'a, 4>,
    /// i64, as many as scales.
    pub(crate) zero_points: Numbers<'a, 8>,
    pub(crate) axis: i32,
}

/// A vector of numbers of `N` bytes each, left as they lie in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Numbers<'a, const N: usize>(&'a [[u8; N]]);

/// An operator with its tensors' indices.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) index: usize,
    /// The schema's name, as `CONV_2D`.
    pub(crate) name: String,
    pub(crate) version: i32,
    pub(crate) inputs: Vec<usize>,
    /// At least one.
    pub(crate) outputs: Vec<usize>,
    pub(crate) kind: Op,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op {
    Add { activation: Activation },
    AveragePool { window: Window, size: [usize; 2], activation: Activation },
    Concatenation { axis: i32, activation: Activation },
    Convolution { window: Window, activation: Activation },
    Depthwise { window: Window, multiplier: usize, activation: Activation },
    Dequantize,
    FullyConnected { activation: Activation },
    MaxPool { window: Window, size: [usize; 2], activation: Activation },
    Mean { keep_dims: bool },
    Pad,
    Quantize,
    Reshape,
    Softmax { beta: f32 },
    Unknown,
}

/// How a window moves; pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) padding: Padding,
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
}

/// What lies at the rim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Padding {
    /// As many zeros as it takes for ceil(size / stride) outputs.
    Same,
    /// Nothing: the window stays inside.
    Valid,
}

/// What is done to an output before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Relu,
    Relu6,
}

impl<'a> Tensor<'a> {
    /// The one scale and zero point of an activation of 8 bits.
    pub(crate) fn step(&self) -> Result<(f32, i32), Error> {
        let range = match self.kind {
            Kind::Int8 => -128..=127,
            Kind::Uint8 => 0..=255,
            other => return Err(contract(self.place(), "int8 or uint8", other)),
        };
        let expected = "one scale and one zero point within its type";
        let Some(quantization) = &self.quantization else {
            return Err(contract(self.place(), expected, "none"));
        };
        let (scales, zeros) = (quantization.scales, quantization.zero_points);
        match (scales.iter().next().map(f32::from_le_bytes), zeros.iter().next().map(i64::from_le_bytes)) {
            (Some(scale), Some(zero)) if scales.len() == 1 && range.contains(&zero) => {
                Ok((scale, zero as i32))
            }
            (_, zero) => {
                let found = format!("{} scales, zero point {zero:?}", scales.len());
                Err(contract(self.place(), expected, found))
            }
        }
    }

    /// Its dimensions as an image of one: height, width, channels. A vector (1 x n) is one pixel.
    pub(crate) fn image_shape(&self) -> Result<[usize; 3], Error> {
        match self.shape[..] {
            [1, height, width, channels] => Ok([height, width, channels]),
            [1, channels] => Ok([1, 1, channels]),
            _ => Err(contract(self.place(), "1 x height x width x channels", self.shape_text())),
        }
    }

    /// Elements in all.
    pub(crate) fn volume(&self) -> usize {
        self.shape.iter().product()
    }

    /// How messages call it.
    pub(crate) fn place(&self) -> String {
        format!("tensor {:?}", self.name)
    }

    /// Its shape, for messages.
    pub(crate) fn shape_text(&self) -> String {
        let dimensions: Vec<String> = self.shape.iter().map(|d| d.to_string()).collect();
        dimensions.join(" x ")
    }
}

impl Operator {
    /// The refusal of this operator, for `reason`.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Operator {
            index: self.index,
            name: self.name.clone(),
            version: self.version,
            reason: reason.into(),
        }
    }

    /// How messages call it.
    pub(crate) fn place(&self) -> String {
        format!("operator {} ({})", self.index, self.name)
    }
}

impl<'a, const N: usize> Numbers<'a, N> {
    pub(crate) const EMPTY: Numbers<'static, N> = Numbers(&[]);

    pub(crate) fn new(numbers: &'a [[u8; N]]) -> Numbers<'a, N> {
        Numbers(numbers)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = [u8; N]> + 'a {
        self.0.iter().copied()
    }

    /// Number `index`; the only one there is, whatever the index, where there is one for all.
    pub(crate) fn of(&self, index: usize) -> Option<[u8; N]> {
        if self.0.len() == 1 { self.0.first().copied() } else { self.0.get(index).copied() }
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0.as_flattened()
    }
}

impl Window {
    /// Outputs along `axis` (0 height, 1 width) of an input of `len`, and the padding before the first.
    /// `None` where the window does not fit.
    pub(crate) fn outputs(&self, axis: usize, len: usize, size: usize) -> Option<(usize, usize)> {
        let stride = self.strides[axis];
        let reach = (size.checked_sub(1)?).checked_mul(self.dilations[axis])? + 1;
        match self.padding {
            Padding::Valid => Some((len.checked_sub(reach)? / stride + 1, 0)),
            Padding::Same => {
                let outputs = len.div_ceil(stride);
                Some((outputs, ((outputs - 1) * stride + reach).saturating_sub(len) / 2))
            }
        }
    }
}

impl Kind {
    /// Of `TensorType` in the schema.
    pub(crate) fn of_code(code: u8) -> Kind {
        match code {
            0 => Kind::Float32,
            2 => Kind::Int32,
            3 => Kind::Uint8,
            4 => Kind::Int64,
            9 => Kind::Int8,
            other => Kind::Other(other),
        }
    }

    /// Bytes of one element; `None` where that is no fixed number of whole bytes.
    pub(crate) fn element_len(self) -> Option<usize> {
        match self {
            Kind::Uint8 | Kind::Int8 | Kind::Other(6) => Some(1),
            Kind::Other(1 | 7 | 16 | 18) => Some(2),
            Kind::Float32 | Kind::Int32 | Kind::Other(15) => Some(4),
            Kind::Int64 | Kind::Other(8 | 10 | 12) => Some(8),
            Kind::Other(_) => None,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Float32 => f.write_str("float32"),
            Kind::Int32 => f.write_str("int32"),
            Kind::Uint8 => f.write_str("uint8"),
            Kind::Int64 => f.write_str("int64"),
            Kind::Int8 => f.write_str("int8"),
            Kind::Other(code) => write!(f, "type {code}"),
        }
    }
}
