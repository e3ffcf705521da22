//! A network as stored in its file: tensors, and operators in their order of execution. Borrows from the
//! file.

use crate::{Error, error::contract};

/// A validated network; see [`crate::tflite::read`] for the guarantees.
#[derive(Debug)]
pub(crate) struct Graph<'a> {
    pub(crate) tensors: Vec<Tensor<'a>>,
    pub(crate) operators: Vec<Operator>,
    /// Tensors that the caller fills.
    pub(crate) inputs: Vec<usize>,
    /// Tensors that the caller reads.
    pub(crate) outputs: Vec<usize>,
}

/// A tensor: an activation, or a constant with its data.
#[derive(Debug)]
pub(crate) struct Tensor<'a> {
    /// Truncated to [`crate::tflite::MAX_NAME_LEN`] bytes.
    pub(crate) name: &'a str,
    /// Every dimension is at least 1.
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    pub(crate) quantization: Option<Quantization<'a>>,
    /// The bytes of a constant, little-endian, with the length that shape and dtype imply.
    pub(crate) data: Option<&'a [u8]>,
}

/// Element types. Types that the engine does not compute with keep their code for error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DType {
    Float32,
    Int32,
    Uint8,
    Int64,
    Int8,
    Other(u8),
}

/// Scales and zero points: one of each, or one per index along `axis`.
/// A quantized value `q` represents `(q - zero_point) * scale`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantization<'a> {
    /// f32, finite and above 0.
    pub(crate) scales: LeArray<'a, 4>,
    /// i64, as many as scales.
    pub(crate) zero_points: LeArray<'a, 8>,
    pub(crate) axis: i32,
}

/// An array of little-endian numbers of `N` bytes each, borrowed from the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeArray<'a, const N: usize>(&'a [[u8; N]]);

/// An operator with its tensors' indices.
#[derive(Debug)]
pub(crate) struct Operator {
    pub(crate) index: usize,
    /// The schema's name, such as `CONV_2D`.
    pub(crate) name: String,
    pub(crate) version: i32,
    pub(crate) inputs: Vec<usize>,
    /// At least one.
    pub(crate) outputs: Vec<usize>,
    pub(crate) op: Op,
}

/// What an operator does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Op {
    Add {
        activation: FusedActivation,
    },
    AveragePool {
        window: Window,
        size: [usize; 2],
        activation: FusedActivation,
    },
    Concatenation {
        axis: i32,
        activation: FusedActivation,
    },
    Convolution {
        window: Window,
        activation: FusedActivation,
    },
    Depthwise {
        window: Window,
        multiplier: usize,
        activation: FusedActivation,
    },
    Dequantize,
    FullyConnected {
        activation: FusedActivation,
    },
    LeakyRelu {
        slope: f32,
    },
    Logistic,
    MaxPool {
        window: Window,
        size: [usize; 2],
        activation: FusedActivation,
    },
    Mean {
        keep_dims: bool,
    },
    Multiply {
        activation: FusedActivation,
    },
    Pad,
    Quantize,
    Reshape,
    ResizeNearest {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    Softmax {
        beta: f32,
    },
    /// Bit `i` of a mask: the slice begins or ends where axis `i` does. `keeps_axes`: no axis is added or
    /// removed, and ends are positions, not lengths.
    StridedSlice {
        begin_mask: i32,
        end_mask: i32,
        keeps_axes: bool,
    },
    Transpose,
    Unknown,
}

/// How a window moves; pairs are height, width.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    pub(crate) padding: PaddingMode,
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
}

/// What a window reads at the border of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PaddingMode {
    /// Zeros, as many as give ceil(size / stride) outputs.
    Same,
    /// Nothing: the window stays inside the input.
    Valid,
}

/// A clamp that is applied to an operator's output before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FusedActivation {
    None,
    Relu,
    Relu6,
}

impl<'a> Tensor<'a> {
    /// Returns the scale and zero point of an 8-bit activation.
    ///
    /// Errors: [`Error::Contract`] for another type, or for quantization per channel.
    pub(crate) fn scale_and_zero_point(&self) -> Result<(f32, i32), Error> {
        let range = match self.dtype {
            DType::Int8 => -128..=127,
            DType::Uint8 => 0..=255,
            other => return Err(contract(self.location(), "int8 or uint8", other)),
        };
        let expected = "one scale and one zero point within its type";
        let Some(quantization) = &self.quantization else {
            return Err(contract(self.location(), expected, "none"));
        };
        let (scales, zeros) = (quantization.scales, quantization.zero_points);
        match (scales.iter().next().map(f32::from_le_bytes), zeros.iter().next().map(i64::from_le_bytes)) {
            (Some(scale), Some(zero)) if scales.len() == 1 && range.contains(&zero) => {
                Ok((scale, zero as i32))
            }
            (_, zero) => {
                let found = format!("{} scales, zero point {zero:?}", scales.len());
                Err(contract(self.location(), expected, found))
            }
        }
    }

    /// Returns height, width and channels of a batch of one image. A vector (1 x n) is one pixel.
    ///
    /// Errors: [`Error::Contract`] for any other shape.
    pub(crate) fn image_shape(&self) -> Result<[usize; 3], Error> {
        match self.shape[..] {
            [1, height, width, channels] => Ok([height, width, channels]),
            [1, channels] => Ok([1, 1, channels]),
            _ => Err(contract(self.location(), "1 x height x width x channels", self.shape_text())),
        }
    }

    /// Returns height, width and channels of a batch of one. Lists of vectors (1 x n x channels), which
    /// detectors put their maps into, have one row. Only operators that move values or compute them one by
    /// one accept those.
    ///
    /// Errors: [`Error::Contract`] for any other shape.
    pub(crate) fn layout_shape(&self) -> Result<[usize; 3], Error> {
        match self.shape[..] {
            [1, width, channels] => Ok([1, width, channels]),
            _ => self.image_shape(),
        }
    }

    /// Returns the number of elements.
    pub(crate) fn volume(&self) -> usize {
        self.shape.iter().product()
    }

    /// Returns how error messages refer to the tensor.
    pub(crate) fn location(&self) -> String {
        format!("tensor {:?}", self.name)
    }

    /// Returns the shape for error messages.
    pub(crate) fn shape_text(&self) -> String {
        let dimensions: Vec<String> = self.shape.iter().map(|d| d.to_string()).collect();
        dimensions.join(" x ")
    }
}

impl Operator {
    /// Creates an [`Error::Operator`]. `reason` completes the sentence "operator ..., which".
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Error {
        Error::Operator {
            index: self.index,
            name: self.name.clone(),
            version: self.version,
            reason: reason.into(),
        }
    }

    /// Returns how error messages refer to the operator.
    pub(crate) fn location(&self) -> String {
        format!("operator {} ({})", self.index, self.name)
    }
}

impl<'a, const N: usize> LeArray<'a, N> {
    pub(crate) const EMPTY: LeArray<'static, N> = LeArray(&[]);

    pub(crate) fn new(numbers: &'a [[u8; N]]) -> LeArray<'a, N> {
        LeArray(numbers)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = [u8; N]> + 'a {
        self.0.iter().copied()
    }

    /// Returns number `index`, or the only number if there is just one for all indices.
    pub(crate) fn get_or_only(&self, index: usize) -> Option<[u8; N]> {
        if self.0.len() == 1 { self.0.first().copied() } else { self.0.get(index).copied() }
    }

    pub(crate) fn as_bytes(&self) -> &'a [u8] {
        self.0.as_flattened()
    }
}

impl Window {
    /// Returns the number of outputs along `axis` (0 height, 1 width) of an input of `len`, and the padding
    /// before the first. None if the window does not fit.
    pub(crate) fn outputs(&self, axis: usize, len: usize, size: usize) -> Option<(usize, usize)> {
        let stride = self.strides[axis];
        let extent = (size.checked_sub(1)?).checked_mul(self.dilations[axis])? + 1;
        match self.padding {
            PaddingMode::Valid => Some((len.checked_sub(extent)? / stride + 1, 0)),
            PaddingMode::Same => {
                let outputs = len.div_ceil(stride);
                Some((outputs, ((outputs - 1) * stride + extent).saturating_sub(len) / 2))
            }
        }
    }
}

impl DType {
    /// Returns the type with a code of `TensorType` in the schema.
    pub(crate) fn of_code(code: u8) -> DType {
        match code {
            0 => DType::Float32,
            2 => DType::Int32,
            3 => DType::Uint8,
            4 => DType::Int64,
            9 => DType::Int8,
            other => DType::Other(other),
        }
    }

    /// Returns the bytes of one element. None if that is not a fixed number of whole bytes.
    pub(crate) fn element_len(self) -> Option<usize> {
        match self {
            DType::Uint8 | DType::Int8 | DType::Other(6) => Some(1),
            DType::Other(1 | 7 | 16 | 18) => Some(2),
            DType::Float32 | DType::Int32 | DType::Other(15) => Some(4),
            DType::Int64 | DType::Other(8 | 10 | 12) => Some(8),
            DType::Other(_) => None,
        }
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DType::Float32 => f.write_str("float32"),
            DType::Int32 => f.write_str("int32"),
            DType::Uint8 => f.write_str("uint8"),
            DType::Int64 => f.write_str("int64"),
            DType::Int8 => f.write_str("int8"),
            DType::Other(code) => write!(f, "type {code}"),
        }
    }
}
