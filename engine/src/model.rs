//! The native engine's two nouns: a [`Model`], checked, packed and shared, and a [`Session`], one thread's memory to run
//! it in.

use crate::{
    Error,
    graph::Kind,
    kernels::{self, Features, KernelSet, Kernels},
    ops::{add, copy, mean, pool, rescale, softmax},
    plan::{Activation, Plan, Step, StepInfo},
    tflite,
};
use std::sync::Arc;

/// A network ready to run: immutable, cheap to clone, shared by all sessions.
#[derive(Debug, Clone)]
pub struct Model {
    plan: Arc<Plan>,
}

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// No better kernels than these, even where the CPU has them.
    pub cap: Option<KernelSet>,
    /// Names of inner tensors that can be read after a run, as `fire9/concat`. Each keeps its memory to itself. Of a name
    /// only the first 256 bytes count.
    pub keep: &'a [&'a str],
}

/// What a caller can know of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// As the file has it.
    pub name: String,
    /// As the file has it: batch, height, width, channels.
    pub shape: Vec<usize>,
    /// The type of its elements.
    pub element: Element,
    /// Real value of one step, and the step for 0, in the tensor's own type. (1, 0) for f32.
    pub step: (f32, i32),
}

/// Types of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Signed bytes.
    Int8,
    /// Unsigned bytes.
    Uint8,
    /// f32, little-endian.
    Float32,
}

/// Which tensor to read, or to run up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensor {
    /// One of the model's outputs, in the file's order.
    Output(usize),
    /// One of [`Options::keep`], in that order.
    Kept(usize),
}

impl Model {
    /// Reads, checks and packs a `.tflite` file.
    ///
    /// Errors name table and index, or operator and version; no input panics, none asks for more memory than about four
    /// times its own size and 3 MiB.
    pub fn from_bytes(file: &[u8], options: &Options<'_>) -> Result<Model, Error> {
        let graph = tflite::read(file)?;
        let set = kernels::choose(&Features::detect(), options.cap);
        let kernels = kernels::obtain(set).unwrap_or(&kernels::scalar::KERNELS);
        let plan = Plan::new(&graph, set, kernels, options.keep, file.len())?;
        Ok(Model { plan: Arc::new(plan) })
    }

    /// The kernels that were chosen for this CPU.
    pub fn kernel_set(&self) -> KernelSet {
        self.plan.set
    }

    /// What goes in.
    pub fn input(&self) -> TensorInfo {
        info(&self.plan.input)
    }

    /// What comes out.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.plan.outputs.iter().map(info).collect()
    }

    /// An inner tensor of [`Options::keep`].
    pub fn kept(&self) -> Vec<TensorInfo> {
        self.plan.kept.iter().map(info).collect()
    }

    /// Bytes of packed weights, shared by all sessions.
    pub fn packed_len(&self) -> usize {
        self.plan.packed_len
    }

    /// Bytes of memory that each session takes.
    pub fn session_len(&self) -> usize {
        self.plan.arena_len
    }

    /// Memory to run the model in. This is where it is allocated; runs allocate nothing.
    pub fn session(&self) -> Session {
        Session {
            arena: vec![Line([0; LINE]); self.plan.arena_len.div_ceil(LINE)],
            plan: self.plan.clone(),
            done: 0,
        }
    }

    /// The steps of a run, in order.
    pub fn steps(&self) -> &[StepInfo] {
        &self.plan.infos
    }

    fn find(&self, tensor: Tensor) -> Option<&Activation> {
        find(&self.plan, tensor)
    }

    /// Bytes of a tensor as [`Session::read`] gives it.
    pub fn len_of(&self, tensor: Tensor) -> Option<usize> {
        self.find(tensor).map(|activation| activation.view.len())
    }
}

const LINE: usize = 64;

/// The arena's unit, so that it begins on a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// One thread's memory for a [`Model`].
pub struct Session {
    plan: Arc<Plan>,
    /// All activations, at the plan's places.
    arena: Vec<Line>,
    /// Steps of the last run that were carried out.
    done: usize,
}

impl Session {
    /// Bytes of an input.
    pub fn input_len(&self) -> usize {
        self.plan.input.view.len()
    }

    /// Runs the whole network on `input`: as many bytes as its shape says, row by row, channels innermost. For int8
    /// models each byte is the step plus 128, so an image network's input is its RGB bytes; for uint8 the step; for
    /// f32 four bytes each, little-endian.
    ///
    /// Errors: [`Error::Input`] where the length differs.
    pub fn run(&mut self, input: &[u8]) -> Result<(), Error> {
        self.run_steps(input, usize::MAX)
    }

    /// Runs until `tensor` is whole; what only later tensors need is left out.
    ///
    /// Errors: [`Error::Input`] where the length differs, [`Error::Contract`] where there is no such tensor.
    pub fn run_until(&mut self, input: &[u8], tensor: Tensor) -> Result<(), Error> {
        let ready_after = find(&self.plan, tensor).map(|activation| activation.ready_after);
        let steps = ready_after.ok_or_else(|| no_tensor(tensor))?;
        self.run_steps(input, steps)
    }

    /// Carries out one step of [`Model::steps`] once more, for measuring; whole runs do them all in order.
    pub fn repeat_step(&mut self, index: usize) {
        if let Some(step) = self.plan.steps.get(index) {
            run_step(self.plan.kernels, step, bytes_mut(&mut self.arena));
        }
    }

    fn run_steps(&mut self, input: &[u8], steps: usize) -> Result<(), Error> {
        let plan = &self.plan;
        let to = &plan.input.view;
        if input.len() != to.len() {
            return Err(Error::Input { expected: to.len(), found: input.len() });
        }
        let arena = bytes_mut(&mut self.arena);
        let row_len = to.width * to.pixel_len();
        for (y, row) in input.chunks_exact(row_len).enumerate() {
            let start = to.buffer.start + to.at(y, 0);
            if to.is_dense_in_rows() {
                arena[start..start + row_len].copy_from_slice(row);
            } else {
                for (x, pixel) in row.chunks_exact(to.pixel_len()).enumerate() {
                    arena[start + x * to.pixel..][..pixel.len()].copy_from_slice(pixel);
                }
            }
        }
        self.done = steps.min(plan.steps.len());
        for step in &plan.steps[..self.done] {
            run_step(plan.kernels, step, arena);
        }
        Ok(())
    }

    /// Copies a tensor of the last run into `into`, in the model's own type: int8 as two's complement.
    ///
    /// Errors: [`Error::Contract`] where there is no such tensor, the last run ended before it, or `into` is not
    /// [`Model::len_of`] bytes long.
    pub fn read(&self, tensor: Tensor, into: &mut [u8]) -> Result<(), Error> {
        let activation = find(&self.plan, tensor).ok_or_else(|| no_tensor(tensor))?;
        let from = &activation.view;
        if activation.ready_after > self.done || into.len() != from.len() {
            let expected = format!("a run up to it and {} bytes", from.len());
            return Err(crate::error::contract(activation.name.clone(), expected, into.len()));
        }
        let flip = if activation.kind == Kind::Int8 { 0x80 } else { 0 };
        let arena = bytes(&self.arena);
        let copy = |into: &mut [u8], start: usize| {
            for (to, from) in into.iter_mut().zip(&arena[start..]) {
                *to = from ^ flip;
            }
        };
        let row_len = from.width * from.pixel_len();
        for (y, row) in into.chunks_exact_mut(row_len).enumerate() {
            let start = from.buffer.start + from.at(y, 0);
            if from.is_dense_in_rows() {
                copy(row, start);
            } else {
                for (x, pixel) in row.chunks_exact_mut(from.pixel_len()).enumerate() {
                    copy(pixel, start + x * from.pixel);
                }
            }
        }
        Ok(())
    }
}

fn run_step(kernels: &Kernels, step: &Step, arena: &mut [u8]) {
    match step {
        Step::Rim { view, rim, value } => copy::fill_rim(arena, view, *rim, *value),
        Step::Convolution(convolution) => convolution.run(arena),
        Step::ConvolutionPool(convolution, pool) => convolution.run_pooled(arena, pool),
        Step::MaxPool { window, range, from, to } => pool::max(arena, kernels, window, *range, from, to),
        Step::AveragePool { window, range, middle, from, to } => {
            pool::average(arena, window, *range, *middle, from, to);
        }
        Step::Depthwise { depthwise, from, to } => depthwise.run(arena, from, to),
        Step::Mean { input_zero, factor, range, from, to } => {
            mean::mean(arena, *input_zero, *factor, *range, from, to);
        }
        Step::Add { addition, range, inputs: [a, b], to } => add::add(arena, addition, *range, [a, b], to),
        Step::Fill { to, value } => copy::fill(arena, to, *value),
        Step::IntoRectangle { from, to, top, left } => copy::into_rectangle(arena, from, to, *top, *left),
        Step::Reshape { from, to } => copy::reshape(arena, from, to),
        Step::Rescale { table, from, to, top, left } => rescale::apply(arena, table, from, to, *top, *left),
        Step::Dequantize { scale, zero, from, to } => rescale::dequantize(arena, *scale, *zero, from, to),
        Step::QuantizeReal { scale, zero, from, to } => {
            rescale::quantize_real(arena, *scale, *zero, from, to)
        }
        Step::Softmax { table, from, to } => softmax::softmax(arena, table, from, to),
    }
}

fn info(activation: &Activation) -> TensorInfo {
    TensorInfo {
        name: activation.name.clone(),
        shape: activation.shape.clone(),
        element: match activation.kind {
            Kind::Int8 => Element::Int8,
            Kind::Uint8 => Element::Uint8,
            _ => Element::Float32,
        },
        step: activation.step.unwrap_or((1.0, 0)),
    }
}

fn find(plan: &Plan, tensor: Tensor) -> Option<&Activation> {
    match tensor {
        Tensor::Output(index) => plan.outputs.get(index),
        Tensor::Kept(index) => plan.kept.get(index),
    }
}

fn no_tensor(tensor: Tensor) -> Error {
    crate::error::contract("session", "a tensor that the model has", format!("{tensor:?}"))
}

fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes without padding, any of which is a u8.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above, and the lines are borrowed mutably for as long.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}
