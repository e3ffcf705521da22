//! Lowers MAX_POOL_2D, AVERAGE_POOL_2D and MEAN over height and width.

use super::{Lowering, constant_i32};
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Op, Operator, Window},
    kernels::pooling::PoolWindow,
    plan::{Instruction, channel_params::QuantParams, geometry::window_geometry, layout::View},
    quant::OutputRange,
};

/// Maximum pixels of a mean, so that their values minus the zero point add up to an i32.
const MAX_MEAN_PIXELS: usize = 1 << 23;

impl Lowering<'_, '_> {
    /// Validates a pool and returns its window, output range and output view.
    pub(super) fn pool_operands(
        &self,
        operator: &Operator,
        window: Window,
        size: [usize; 2],
        activation: FusedActivation,
    ) -> Result<(PoolWindow, OutputRange, View), Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let shape = self.graph.tensors[inputs[0]].image_shape()?;
        let to = self.view(output, operator)?;
        let output_shape = self.graph.tensors[output].image_shape()?;
        let geometry = window_geometry(operator, &window, size, shape, output_shape)?;
        if to.channels != shape[2] {
            let expected = format!("an output of {} channels", shape[2]);
            return Err(contract(operator.location(), expected, to.channels));
        }
        let mut range = self.range(output, activation)?;
        // XNNPACK has no int8 average pool and no pool that skips pixels. TensorFlow Lite's own kernels
        // compute these, and they round before they add the zero point.
        let skips_pixels = (0..2).any(|axis| window.strides[axis] > size[axis]);
        if activation == FusedActivation::Relu6
            && (skips_pixels || matches!(operator.op, Op::AveragePool { .. }))
        {
            let QuantParams { scale, zero_point } = self.quant_params(output)?;
            range.high = (f32::from(zero_point) + (6.0 / scale).round()).min(255.0) as u8;
        }
        let window = PoolWindow { size, strides: window.strides, pad_before: geometry.pad_before };
        Ok((window, range, to))
    }

    pub(super) fn max_pool(
        &mut self,
        operator: &Operator,
        window: Window,
        size: [usize; 2],
        activation: FusedActivation,
    ) -> Result<(), Error> {
        if self.memory.fused_pools.values().any(|&pool| pool == operator.index) {
            return Ok(());
        }
        let (window, range, to) = self.pool_operands(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        self.push(operator, Instruction::MaxPool { window, range, from, to })
    }

    pub(super) fn average_pool(
        &mut self,
        operator: &Operator,
        window: Window,
        size: [usize; 2],
        activation: FusedActivation,
    ) -> Result<(), Error> {
        let (window, range, to) = self.pool_operands(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        let is_int8 = self.graph.tensors[operator.inputs[0]].dtype == DType::Int8;
        let type_zero = if is_int8 { 128 } else { 0 };
        self.push(operator, Instruction::AveragePool { window, range, type_zero, from, to })
    }

    pub(super) fn mean(&mut self, operator: &Operator, keep_dims: bool) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        let from = self.view(inputs[0], operator)?;
        let axes = constant_i32(&self.graph.tensors[inputs[1]])
            .ok_or_else(|| contract(operator.location(), "constant int32 axes", "something else"))?;
        let rank = self.graph.tensors[inputs[0]].shape.len() as i32;
        let mut axes: Vec<i32> = axes.iter().map(|&axis| if axis < 0 { axis + rank } else { axis }).collect();
        axes.sort();
        if axes != [1, 2] || rank != 4 {
            return Err(operator.refuse(format!("is over axes {axes:?}, not over height and width")));
        }
        match keep_dims {
            true => self.check_shape(operator, output, &[1, 1, 1, from.channels])?,
            false => self.check_shape(operator, output, &[1, from.channels])?,
        }
        if from.height * from.width > MAX_MEAN_PIXELS {
            return Err(operator.refuse(format!("is over more than {MAX_MEAN_PIXELS} pixels")));
        }
        let (input, result) = (self.quant_params(inputs[0])?, self.quant_params(output)?);
        let factor = input.scale / (result.scale * (from.height * from.width) as f32);
        let range = self.range(output, FusedActivation::None)?;
        let to = self.view(output, operator)?;
        self.push(operator, Instruction::Mean { input_zero: input.zero_point, factor, range, from, to })
    }
}
