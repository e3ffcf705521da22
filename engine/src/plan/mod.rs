//! From a graph to steps that only have to be carried out: what fits together is checked, activations get their places,
//! weights are packed for the kernels, and operators that go well together become one step.
//!
//! - Concatenations cost nothing: their parts are computed where they belong, see [`layout`].
//! - A convolution whose output only a max pool reads becomes one step with it; its rows never leave the cache.
//! - What lies beyond the edge of a SAME convolution is a rim around its input, filled before each run.

pub(crate) mod layout;
mod lower;
mod places;
mod weighted;

use crate::{
    graph::Kind,
    kernels::{KernelSet, Kernels, pooling::PoolWindow},
    ops::{
        add::Addition,
        convolution::{Convolution, RowPool},
        depthwise::Depthwise,
        rescale, softmax,
    },
    quant::Range,
};
use layout::{Rim, View};

/// No image network needs more for its activations.
const MOST_ARENA: usize = 64 << 20;

/// What a session carries out.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) set: KernelSet,
    pub(crate) kernels: &'static Kernels,
    pub(crate) steps: Vec<Step>,
    /// What each step is, in the same order.
    pub(crate) infos: Vec<StepInfo>,
    /// Bytes of a session's memory, slack included.
    pub(crate) arena_len: usize,
    /// Bytes of all packed weights.
    pub(crate) packed_len: usize,
    pub(crate) input: Activation,
    pub(crate) outputs: Vec<Activation>,
    /// Inner tensors that can be asked for.
    pub(crate) kept: Vec<Activation>,
}

/// What a step is, for whoever measures it.
#[derive(Debug, Clone, PartialEq)]
pub struct StepInfo {
    /// The operator (the first, where several are one step) and the shape that comes out.
    pub name: String,
    /// Multiply-adds of its convolutions; 0 for everything else.
    pub multiply_adds: usize,
}

/// A tensor that a caller may fill or read.
#[derive(Debug, Clone)]
pub(crate) struct Activation {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) kind: Kind,
    /// Real value of a step and the step for zero, in the model's own type; none for f32.
    pub(crate) step: Option<(f32, i32)>,
    pub(crate) view: View,
    /// Steps after which it is whole.
    pub(crate) ready_after: usize,
}

/// One step over the arena.
#[derive(Debug)]
pub(crate) enum Step {
    Rim { view: View, rim: Rim, value: u8 },
    Convolution(Box<Convolution>),
    ConvolutionPool(Box<Convolution>, RowPool),
    MaxPool { window: PoolWindow, range: Range, from: View, to: View },
    AveragePool { window: PoolWindow, range: Range, middle: u8, from: View, to: View },
    Depthwise { depthwise: Box<Depthwise>, from: View, to: View },
    Mean { input_zero: u8, factor: f32, range: Range, from: View, to: View },
    Add { addition: Addition, range: Range, inputs: [View; 2], to: View },
    Fill { to: View, value: u8 },
    IntoRectangle { from: View, to: View, top: usize, left: usize },
    Reshape { from: View, to: View },
    Rescale { table: rescale::Table, from: View, to: View, top: usize, left: usize },
    Dequantize { scale: f32, zero: u8, from: View, to: View },
    QuantizeReal { scale: f32, zero: u8, from: View, to: View },
    Softmax { table: softmax::Table, from: View, to: View },
}
