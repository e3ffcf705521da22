//! Turns a graph into a flat list of instructions: validates operators against each other, assigns every
//! activation its bytes in the arena, packs weights for the kernels and fuses operators that are faster as
//! one instruction.
//!
//! - Concatenations are free: their inputs are computed directly into the output's buffer, see
//!   [`memory_plan`].
//! - A convolution whose output is read only by one max pool is fused with it, so its rows never leave the
//!   cache.
//! - The activation `x * logistic(x)` of two operators is one table of 256.
//! - The border that a SAME convolution reads is padding around its input, filled before each run.

mod channel_params;
mod fusion;
mod geometry;
pub(crate) mod layout;
mod liveness;
mod lower;
mod memory_plan;

use crate::{
    graph::DType,
    kernels::{KernelSet, Kernels, pooling::PoolWindow},
    ops::{
        add::Addition,
        convolution::{Convolution, RowPool},
        depthwise::Depthwise,
        multiply::{Multiplication, Multiplier},
        rescale,
        resize::Resize,
        softmax,
    },
    quant::OutputRange,
};
use layout::{Padding, View};

/// The program that a session executes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) set: KernelSet,
    pub(crate) kernels: &'static Kernels,
    pub(crate) instructions: Vec<Instruction>,
    /// One description per instruction, in the same order.
    pub(crate) infos: Vec<InstructionInfo>,
    /// Size of a session's arena in bytes, slack included.
    pub(crate) arena_len: usize,
    /// Total size of the packed weights in bytes.
    pub(crate) packed_len: usize,
    pub(crate) input: TensorRef,
    pub(crate) outputs: Vec<TensorRef>,
    /// Intermediate tensors that callers may read.
    pub(crate) kept: Vec<TensorRef>,
}

/// Describes an instruction, for profiling.
#[derive(Debug, Clone, PartialEq)]
pub struct InstructionInfo {
    /// The operator (the first one, if several are fused) and its output shape.
    pub name: String,
    /// Multiply-adds of its convolution; 0 for every other operator.
    pub multiply_adds: usize,
    /// How its convolution is divided. None for every other operator.
    pub convolution: Option<ConvolutionShape>,
}

/// How a convolution is divided into sums, for models of CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvolutionShape {
    /// Output rows; 1 if all are computed as one long row.
    pub rows: usize,
    /// Pixels of a row.
    pub columns: usize,
    /// Output channels.
    pub channels: usize,
    /// Runs of consecutive bytes that an output pixel reads.
    pub runs: usize,
    /// Bytes of a run.
    pub run_len: usize,
}

/// Refers to an activation tensor that callers may write or read.
#[derive(Debug, Clone)]
pub(crate) struct TensorRef {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) dtype: DType,
    /// Scale and zero point in the model's own type. None for f32.
    pub(crate) quantization: Option<(f32, i32)>,
    pub(crate) view: View,
    /// Number of instructions after which the tensor is complete.
    pub(crate) ready_after: usize,
}

/// One operation on the arena.
#[derive(Debug)]
pub(crate) enum Instruction {
    FillPadding {
        view: View,
        padding: Padding,
        value: u8,
    },
    Convolution(Box<Convolution>),
    ConvolutionPool(Box<Convolution>, RowPool),
    MaxPool {
        window: PoolWindow,
        range: OutputRange,
        from: View,
        to: View,
    },
    AveragePool {
        window: PoolWindow,
        range: OutputRange,
        type_zero: u8,
        from: View,
        to: View,
    },
    Depthwise {
        depthwise: Box<Depthwise>,
        from: View,
        to: View,
    },
    Mean {
        input_zero: u8,
        factor: f32,
        range: OutputRange,
        from: View,
        to: View,
    },
    Add {
        addition: Addition,
        range: OutputRange,
        inputs: [View; 2],
        to: View,
    },
    Multiply {
        multiplication: Multiplication,
        a: View,
        b: Multiplier,
        to: View,
    },
    Fill {
        to: View,
        value: u8,
    },
    CopyInto {
        from: View,
        to: View,
        top: usize,
        left: usize,
    },
    Reshape {
        from: View,
        to: View,
    },
    /// Copies one element for each of the output, at these distances in the input along the output's rows,
    /// columns and channels.
    Gather {
        from: View,
        distances: [usize; 3],
        to: View,
    },
    ResizeNearest {
        resize: Resize,
        from: View,
        to: View,
    },
    Rescale {
        table: rescale::Table,
        from: View,
        to: View,
        top: usize,
        left: usize,
    },
    Dequantize {
        scale: f32,
        zero_point: u8,
        from: View,
        to: View,
    },
    QuantizeFloat {
        scale: f32,
        zero_point: u8,
        from: View,
        to: View,
    },
    Softmax {
        table: softmax::Table,
        from: View,
        to: View,
    },
}
