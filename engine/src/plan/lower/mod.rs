//! Lowers operators to instructions: validates each operator's tensors against each other and precomputes
//! whatever does not depend on the input.
//!
//! Quantized values are unsigned bytes, see [`crate::quant`]: 128 is added to the zero points of int8 tensors
//! here. A convolution's bias absorbs the input's zero point, so that kernels multiply the bytes as stored.

mod budget;
mod convolution;
mod data_movement;
mod elementwise;
mod pooling;

use super::{
    Instruction, InstructionInfo, Plan, TensorRef, channel_params::QuantParams, layout::View,
    memory_plan::MemoryPlan,
};
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Graph, Op, Operator, Tensor},
    kernels::{KernelSet, Kernels},
    ops::resize::Resize,
    quant::OutputRange,
    tflite::MAX_NAME_LEN,
};
use budget::Budget;

impl Plan {
    /// Makes the plan for `graph` with `kernels` of `set`. Tensors named in `keep` stay readable after a run.
    ///
    /// Errors: unknown operators, operators whose tensors do not fit each other, a name in `keep` that no
    /// activation has, and more memory than a file of `file_len` bytes justifies.
    pub(crate) fn new(
        graph: &Graph<'_>,
        set: KernelSet,
        kernels: &'static Kernels,
        keep: &[&str],
        file_len: usize,
    ) -> Result<Plan, Error> {
        // Checked first, because a layout error of an unknown operator would hide the operator's name.
        if let Some(unknown) = graph.operators.iter().find(|operator| operator.op == Op::Unknown) {
            return Err(unknown.refuse("the native engine does not support"));
        }
        let &[input] = &graph.inputs[..] else {
            return Err(contract("subgraph 0", "one input", graph.inputs.len()));
        };
        if graph.outputs.is_empty() {
            return Err(contract("subgraph 0", "an output", "none"));
        }
        let kept = find_kept(graph, keep)?;
        let live_to_end: Vec<usize> = kept.iter().chain(&graph.outputs).copied().collect();
        let mut lowering = Lowering {
            graph,
            memory: MemoryPlan::new(graph, &live_to_end)?,
            kernels,
            instructions: Vec::new(),
            infos: Vec::new(),
            ready_after: vec![0; graph.tensors.len()],
            budget: Budget::new(file_len),
        };
        for operator in &graph.operators {
            lowering.operator(operator)?;
            for &output in &operator.outputs {
                lowering.ready_after[output] = lowering.instructions.len();
            }
        }
        let tensor_ref = |&tensor: &usize| lowering.tensor_ref(tensor);
        Ok(Plan {
            set,
            kernels,
            input: tensor_ref(&input)?,
            outputs: graph.outputs.iter().map(tensor_ref).collect::<Result<_, _>>()?,
            kept: kept.iter().map(tensor_ref).collect::<Result<_, _>>()?,
            arena_len: lowering.memory.arena_len,
            packed_len: lowering.budget.packed_len(),
            instructions: lowering.instructions,
            infos: lowering.infos,
        })
    }
}

/// Finds the activations named in `keep`. Names are compared up to [`MAX_NAME_LEN`] bytes, as they are read.
fn find_kept(graph: &Graph<'_>, keep: &[&str]) -> Result<Vec<usize>, Error> {
    let find = |name: &&str| {
        let name = &name[..name.floor_char_boundary(MAX_NAME_LEN)];
        let found = graph.tensors.iter().position(|tensor| tensor.name == name && tensor.data.is_none());
        found.ok_or_else(|| contract("tensors to keep", "names of activations", name))
    };
    keep.iter().map(find).collect()
}

/// The state of lowering one graph. Each operator family adds its own methods in its own file.
struct Lowering<'g, 'a> {
    graph: &'g Graph<'a>,
    memory: MemoryPlan,
    kernels: &'static Kernels,
    instructions: Vec<Instruction>,
    infos: Vec<InstructionInfo>,
    /// By tensor: the number of instructions after which it is complete.
    ready_after: Vec<usize>,
    budget: Budget,
}

impl Lowering<'_, '_> {
    fn operator(&mut self, operator: &Operator) -> Result<(), Error> {
        match operator.op {
            Op::Convolution { window, activation } => self.convolution(operator, window, activation),
            Op::FullyConnected { activation } => self.fully_connected(operator, activation),
            Op::Depthwise { window, multiplier, activation } => {
                self.depthwise(operator, window, multiplier, activation)
            }
            Op::MaxPool { window, size, activation } => self.max_pool(operator, window, size, activation),
            Op::AveragePool { window, size, activation } => {
                self.average_pool(operator, window, size, activation)
            }
            Op::Mean { keep_dims } => self.mean(operator, keep_dims),
            Op::Add { activation } => self.add(operator, activation),
            Op::Multiply { activation } => self.multiply(operator, activation),
            Op::LeakyRelu { slope } => self.leaky_relu(operator, slope),
            Op::Logistic => self.logistic(operator),
            Op::Concatenation { axis, activation } => self.concatenation(operator, axis, activation),
            Op::Pad => self.pad(operator),
            Op::Reshape => self.reshape(operator),
            Op::ResizeNearest { align_corners, half_pixel_centers } => {
                self.resize_nearest(operator, Resize { align_corners, half_pixel_centers })
            }
            Op::StridedSlice { begin_mask, end_mask, keeps_axes } => {
                self.strided_slice(operator, begin_mask, end_mask, keeps_axes)
            }
            Op::Transpose => self.transpose(operator),
            Op::Quantize => self.quantize(operator),
            Op::Dequantize => self.dequantize(operator),
            Op::Softmax { beta } => self.softmax(operator, beta),
            Op::Unknown => Err(operator.refuse("the native engine does not support")),
        }
    }

    /// Adds an instruction that belongs to `operator`.
    ///
    /// Errors: [`Error::Contract`] when the memory budget is exceeded.
    fn push(&mut self, operator: &Operator, instruction: Instruction) -> Result<(), Error> {
        let output = operator.outputs.first().map(|&output| &self.graph.tensors[output]);
        let shape = output.map(|output| output.shape_text()).unwrap_or_default();
        let (suffix, convolution) = match &instruction {
            Instruction::FillPadding { .. } => (" padding", None),
            Instruction::Convolution(convolution) => ("", Some(convolution.shape())),
            Instruction::ConvolutionPool(convolution, _) => (" with its pool", Some(convolution.shape())),
            _ => ("", None),
        };
        let multiply_adds = convolution
            .map_or(0, |shape| shape.rows * shape.columns * shape.channels * shape.runs * shape.run_len);
        let name = format!("{}{suffix} {shape}", operator.location());
        self.budget.count_instruction(operator, &instruction, &name)?;
        self.instructions.push(instruction);
        self.infos.push(InstructionInfo { name, multiply_adds, convolution });
        Ok(())
    }

    fn tensor_ref(&self, tensor: usize) -> Result<TensorRef, Error> {
        let info = &self.graph.tensors[tensor];
        let Some(view) = self.memory.views[tensor].clone() else {
            return Err(contract(info.location(), "an activation", "a constant"));
        };
        let quantization = match info.dtype {
            DType::Float32 => None,
            _ => Some(info.scale_and_zero_point()?),
        };
        Ok(TensorRef {
            name: info.name.to_string(),
            shape: info.shape.clone(),
            dtype: info.dtype,
            quantization,
            view,
            ready_after: self.ready_after[tensor],
        })
    }

    /// Returns the operator's inputs, of which there must be `min` to `max`, and its only output.
    fn operands(&self, operator: &Operator, min: usize, max: usize) -> Result<(Vec<usize>, usize), Error> {
        match &operator.outputs[..] {
            &[output] if (min..=max).contains(&operator.inputs.len()) => {
                Ok((operator.inputs.clone(), output))
            }
            _ => {
                let expected = format!("{min} to {max} inputs and one output");
                let found = format!("{} and {}", operator.inputs.len(), operator.outputs.len());
                Err(contract(operator.location(), expected, found))
            }
        }
    }

    fn view(&self, tensor: usize, operator: &Operator) -> Result<View, Error> {
        let missing =
            || contract(operator.location(), "an activation", self.graph.tensors[tensor].location());
        self.memory.views[tensor].clone().ok_or_else(missing)
    }

    fn quant_params(&self, tensor: usize) -> Result<QuantParams, Error> {
        QuantParams::of(&self.graph.tensors[tensor])
    }

    /// Returns the range of an output's quantized values after its fused activation.
    fn range(&self, output: usize, activation: FusedActivation) -> Result<OutputRange, Error> {
        let QuantParams { scale, zero_point } = self.quant_params(output)?;
        Ok(match activation {
            FusedActivation::None => OutputRange { zero_point, low: 0, high: 255 },
            FusedActivation::Relu => OutputRange { zero_point, low: zero_point, high: 255 },
            FusedActivation::Relu6 => {
                let six = (f32::from(zero_point) + 6.0 / scale).round_ties_even();
                OutputRange { zero_point, low: zero_point, high: six.min(255.0) as u8 }
            }
        })
    }

    /// Refuses an operator whose input and output differ in type, scale or zero point.
    fn check_same_quantization(&self, operator: &Operator, input: usize, output: usize) -> Result<(), Error> {
        let (from, to) = (&self.graph.tensors[input], &self.graph.tensors[output]);
        if from.dtype == to.dtype
            && (from.dtype == DType::Float32 || from.scale_and_zero_point()? == to.scale_and_zero_point()?)
        {
            return Ok(());
        }
        let expected = "an output with its input's type, scale and zero point";
        Err(contract(operator.location(), expected, to.location()))
    }

    /// Refuses an operator whose tensors are not all int8 or all uint8, and returns the byte that is 0 in
    /// that type.
    fn type_zero(&self, operator: &Operator) -> Result<u8, Error> {
        let types = || operator.inputs.iter().chain(&operator.outputs).map(|&t| self.graph.tensors[t].dtype);
        if types().all(|dtype| dtype == DType::Int8) {
            Ok(128)
        } else if types().all(|dtype| dtype == DType::Uint8) {
            Ok(0)
        } else {
            let found: Vec<String> = types().map(|dtype| dtype.to_string()).collect();
            Err(contract(operator.location(), "only int8 or only uint8 tensors", found.join(", ")))
        }
    }

    /// Refuses an operator whose tensor does not have the shape `expected`.
    fn check_shape(&self, operator: &Operator, tensor: usize, expected: &[usize]) -> Result<(), Error> {
        let info = &self.graph.tensors[tensor];
        if info.shape == expected {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(|d| d.to_string()).collect();
        let expected = format!("{} of {}", info.location(), expected.join(" x "));
        Err(contract(operator.location(), expected, info.shape_text()))
    }
}

/// Returns the values of a constant int32 tensor of at most 64 bytes: axes and padding amounts.
fn constant_i32(tensor: &Tensor<'_>) -> Option<Vec<i32>> {
    match (tensor.dtype, tensor.data) {
        (DType::Int32, Some(data)) if data.len() <= 64 => {
            Some(data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect())
        }
        _ => None,
    }
}
