//! The native engine's public types: a [`Model`], validated, packed and shared, and a [`Session`], the memory
//! in which one thread runs it.

use crate::{
    Error,
    graph::DType,
    kernels::{self, Features, KernelSet, Kernels},
    ops::{add, copy, mean, multiply, pool, rescale, resize, softmax},
    plan::{Instruction, InstructionInfo, Plan, TensorRef},
    tflite,
};
use std::sync::Arc;

/// A network that is ready to run. It is immutable, cheap to clone and shared by all sessions.
#[derive(Debug, Clone)]
pub struct Model {
    plan: Arc<Plan>,
}

/// Options for loading a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The best kernel set to use, even if the CPU supports a better one.
    pub cap: Option<KernelSet>,
    /// Names of intermediate tensors that can be read after a run, such as "fire9/concat". Their memory is
    /// not reused. Only the first 256 bytes of a name are compared.
    pub keep: &'a [&'a str],
}

/// Describes a tensor to the caller.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorInfo {
    /// The name in the file, truncated to 256 bytes.
    pub name: String,
    /// The shape in the file: batch, height, width, channels.
    pub shape: Vec<usize>,
    /// The element type.
    pub element: Element,
    /// Scale and zero point in the tensor's own type. (1, 0) for f32.
    pub quantization: (f32, i32),
}

/// Element types of inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Signed bytes.
    Int8,
    /// Unsigned bytes.
    Uint8,
    /// f32, little-endian.
    Float32,
}

/// The tensor to read, or to run up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tensor {
    /// One of the model's outputs, in the file's order.
    Output(usize),
    /// One of [`Options::keep`], in its order.
    Kept(usize),
}

impl Model {
    /// Reads, checks and packs a `.tflite` file.
    ///
    /// Errors: [`Error::Malformed`], [`Error::Contract`] or [`Error::Operator`], with the table and index or
    /// the operator and version. No input panics or takes more memory than about four times its own size and
    /// 3 MiB.
    pub fn from_bytes(file: &[u8], options: &Options<'_>) -> Result<Model, Error> {
        let graph = tflite::read(file)?;
        let set = kernels::choose(&Features::detect(), options.cap);
        let kernels = kernels::obtain(set).unwrap_or(&kernels::scalar::KERNELS);
        let plan = Plan::new(&graph, set, kernels, options.keep, file.len())?;
        Ok(Model { plan: Arc::new(plan) })
    }

    /// Returns the kernel set that was chosen for this CPU.
    pub fn kernel_set(&self) -> KernelSet {
        self.plan.set
    }

    /// Describes the input.
    pub fn input(&self) -> TensorInfo {
        info(&self.plan.input)
    }

    /// Describes the outputs, in the file's order.
    pub fn outputs(&self) -> Vec<TensorInfo> {
        self.plan.outputs.iter().map(info).collect()
    }

    /// Describes the intermediate tensors of [`Options::keep`], in its order.
    pub fn kept(&self) -> Vec<TensorInfo> {
        self.plan.kept.iter().map(info).collect()
    }

    /// Returns the bytes of packed weights, which all sessions share.
    pub fn packed_len(&self) -> usize {
        self.plan.packed_len
    }

    /// Returns the bytes of a session's arena.
    pub fn session_len(&self) -> usize {
        self.plan.arena_len
    }

    /// Creates a session and allocates all its memory. Runs allocate nothing.
    pub fn session(&self) -> Session {
        Session {
            arena: vec![Line([0; LINE]); self.plan.arena_len.div_ceil(LINE)],
            plan: self.plan.clone(),
            executed: 0,
        }
    }

    /// Describes the instructions of a run, in order.
    pub fn instructions(&self) -> &[InstructionInfo] {
        &self.plan.infos
    }

    fn find(&self, tensor: Tensor) -> Option<&TensorRef> {
        find(&self.plan, tensor)
    }

    /// Returns the bytes that [`Session::read`] copies for a tensor. None if there is no such tensor.
    pub fn len_of(&self, tensor: Tensor) -> Option<usize> {
        self.find(tensor).map(|found| found.view.len())
    }
}

const LINE: usize = 64;

/// The arena's element type; its alignment makes the arena begin on a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// The memory in which one thread runs a [`Model`].
pub struct Session {
    plan: Arc<Plan>,
    /// All activations, at the offsets of the plan.
    arena: Vec<Line>,
    /// Number of instructions that the last run executed.
    executed: usize,
}

impl Session {
    /// Returns the bytes of an input.
    pub fn input_len(&self) -> usize {
        self.plan.input.view.len()
    }

    /// Runs the whole network on `input`, row by row, channels innermost. Each byte is the quantized value
    /// plus 128 for int8 models, so that an image network's input is RGB bytes, and the quantized value
    /// itself for uint8 models. f32 values are four bytes each, little-endian.
    ///
    /// Errors: [`Error::Input`] when the length differs from [`Session::input_len`].
    pub fn run(&mut self, input: &[u8]) -> Result<(), Error> {
        self.run_instructions(input, usize::MAX)
    }

    /// Runs until `tensor` is complete and skips the rest of the network.
    ///
    /// Errors: [`Error::Input`] as for [`Session::run`], [`Error::Contract`] when there is no such tensor.
    pub fn run_until(&mut self, input: &[u8], tensor: Tensor) -> Result<(), Error> {
        let ready_after = find(&self.plan, tensor).map(|found| found.ready_after);
        let count = ready_after.ok_or_else(|| no_such_tensor(tensor))?;
        self.run_instructions(input, count)
    }

    /// Runs until all of [`Options::keep`] are complete and skips the rest of the network, which
    /// [`Session::finish`] runs.
    ///
    /// Errors: [`Error::Input`] as for [`Session::run`].
    pub fn run_until_kept(&mut self, input: &[u8]) -> Result<(), Error> {
        let count = self.plan.kept.iter().map(|kept| kept.ready_after).max().unwrap_or_default();
        self.run_instructions(input, count)
    }

    /// Runs what the last run skipped. Does nothing if it skipped nothing.
    pub fn finish(&mut self) {
        let arena = bytes_mut(&mut self.arena);
        for instruction in &self.plan.instructions[self.executed..] {
            execute(self.plan.kernels, instruction, arena);
        }
        self.executed = self.plan.instructions.len();
    }

    /// Executes one of [`Model::instructions`] again, for profiling. Does nothing if there is no such
    /// instruction.
    pub fn repeat_instruction(&mut self, index: usize) {
        if let Some(instruction) = self.plan.instructions.get(index) {
            execute(self.plan.kernels, instruction, bytes_mut(&mut self.arena));
        }
    }

    /// Copies `input` into the arena and executes the first `count` instructions.
    fn run_instructions(&mut self, input: &[u8], count: usize) -> Result<(), Error> {
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
        self.executed = count.min(plan.instructions.len());
        for instruction in &plan.instructions[..self.executed] {
            execute(plan.kernels, instruction, arena);
        }
        Ok(())
    }

    /// Copies a tensor of the last run into `into`, in the model's own type, int8 as two's complement.
    ///
    /// Errors: [`Error::Contract`] when there is no such tensor, when the last run ended before it was
    /// complete, or when the length of `into` differs from [`Model::len_of`].
    pub fn read(&self, tensor: Tensor, into: &mut [u8]) -> Result<(), Error> {
        let found = find(&self.plan, tensor).ok_or_else(|| no_such_tensor(tensor))?;
        let from = &found.view;
        if found.ready_after > self.executed || into.len() != from.len() {
            let expected = format!("a run up to this tensor and {} bytes", from.len());
            return Err(crate::error::contract(found.name.clone(), expected, into.len()));
        }
        let flip = if found.dtype == DType::Int8 { 0x80 } else { 0 };
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

fn execute(kernels: &Kernels, instruction: &Instruction, arena: &mut [u8]) {
    match instruction {
        Instruction::FillPadding { view, padding, value } => {
            copy::fill_padding(arena, view, *padding, *value)
        }
        Instruction::Convolution(convolution) => convolution.run(arena),
        Instruction::ConvolutionPool(convolution, pool) => convolution.run_pooled(arena, pool),
        Instruction::MaxPool { window, range, from, to } => {
            pool::max(arena, kernels, window, *range, from, to)
        }
        Instruction::AveragePool { window, range, type_zero, from, to } => {
            pool::average(arena, window, *range, *type_zero, from, to);
        }
        Instruction::Depthwise { depthwise, from, to } => depthwise.run(arena, kernels, from, to),
        Instruction::Mean { input_zero, factor, range, from, to } => {
            mean::mean(arena, *input_zero, *factor, *range, from, to);
        }
        Instruction::Add { addition, range, inputs: [a, b], to } => {
            add::add(arena, addition, *range, [a, b], to)
        }
        Instruction::Multiply { multiplication, a, b, to } => {
            multiply::multiply(arena, multiplication, a, b, to)
        }
        Instruction::Fill { to, value } => copy::fill(arena, to, *value),
        Instruction::CopyInto { from, to, top, left } => copy::copy_into(arena, from, to, *top, *left),
        Instruction::Reshape { from, to } => copy::reshape(arena, from, to),
        Instruction::Gather { from, distances, to } => copy::gather(arena, from, *distances, to),
        Instruction::ResizeNearest { resize, from, to } => resize::nearest(arena, *resize, from, to),
        Instruction::Rescale { table, from, to, top, left } => {
            rescale::apply(arena, table, from, to, *top, *left)
        }
        Instruction::Dequantize { scale, zero_point, from, to } => {
            rescale::dequantize(arena, *scale, *zero_point, from, to)
        }
        Instruction::QuantizeFloat { scale, zero_point, from, to } => {
            rescale::quantize_f32(arena, *scale, *zero_point, from, to)
        }
        Instruction::Softmax { table, from, to } => softmax::softmax(arena, table, from, to),
    }
}

fn info(tensor: &TensorRef) -> TensorInfo {
    TensorInfo {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        element: match tensor.dtype {
            DType::Int8 => Element::Int8,
            DType::Uint8 => Element::Uint8,
            _ => Element::Float32,
        },
        quantization: tensor.quantization.unwrap_or((1.0, 0)),
    }
}

fn find(plan: &Plan, tensor: Tensor) -> Option<&TensorRef> {
    match tensor {
        Tensor::Output(index) => plan.outputs.get(index),
        Tensor::Kept(index) => plan.kept.get(index),
    }
}

fn no_such_tensor(tensor: Tensor) -> Error {
    crate::error::contract("session", "a tensor of the model", format!("{tensor:?}"))
}

fn bytes(lines: &[Line]) -> &[u8] {
    // SAFETY: a line is 64 bytes without padding, and every byte is a valid u8.
    unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * LINE) }
}

fn bytes_mut(lines: &mut [Line]) -> &mut [u8] {
    // SAFETY: as above, and the lines are borrowed mutably for the same lifetime.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * LINE) }
}
