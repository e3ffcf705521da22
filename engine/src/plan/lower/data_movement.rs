//! Lowers operators that move values without computing: CONCATENATION, PAD and RESHAPE.

use super::{Lowering, constant_i32};
use crate::{
    Error,
    error::contract,
    graph::{FusedActivation, Operator},
    ops::rescale,
    plan::{Instruction, layout::View, memory_plan::concatenation::concatenation_axis},
};

impl Lowering<'_, '_> {
    pub(super) fn concatenation(
        &mut self,
        operator: &Operator,
        axis: i32,
        activation: FusedActivation,
    ) -> Result<(), Error> {
        if activation != FusedActivation::None {
            return Err(operator.refuse("has a fused activation, which the native engine does not support"));
        }
        let (inputs, output) = self.operands(operator, 1, usize::MAX)?;
        let axis = concatenation_axis(self.graph, operator, axis)?;
        let mut offset = 0;
        for (position, &input) in inputs.iter().enumerate() {
            if !self.memory.in_place.contains_key(&(operator.index, position)) {
                self.copy_input(operator, input, output, axis, offset)?;
            }
            offset += self.graph.tensors[input].image_shape()?[axis];
        }
        Ok(())
    }

    /// Copies a concatenation input that could not be computed inside the output, rescaled if its scale
    /// differs.
    fn copy_input(
        &mut self,
        operator: &Operator,
        input: usize,
        output: usize,
        axis: usize,
        offset: usize,
    ) -> Result<(), Error> {
        let (from, to) = (self.view(input, operator)?, self.view(output, operator)?);
        let (top, left) = (if axis == 0 { offset } else { 0 }, if axis == 1 { offset } else { 0 });
        let channel = if axis == 2 { offset * to.element_len } else { 0 };
        let to = View { start: to.start + channel, ..to };
        if self.check_same_quantization(operator, input, output).is_ok() {
            return self.push(operator, Instruction::CopyInto { from, to, top, left });
        }
        let (own, whole) = (self.quant_params(input)?, self.quant_params(output)?);
        let table = rescale::concatenation_table(own.scale / whole.scale, own.zero_point, whole.zero_point);
        self.push(operator, Instruction::Rescale { table, from, to, top, left })
    }

    pub(super) fn pad(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let amounts = constant_i32(&self.graph.tensors[inputs[1]]).unwrap_or_default();
        let amounts: Vec<usize> = amounts.iter().filter_map(|&amount| usize::try_from(amount).ok()).collect();
        let &[0, 0, top, bottom, left, right, 0, 0] = &amounts[..] else {
            let reason = "pads an axis other than height and width, or by an amount that is not constant";
            return Err(operator.refuse(reason));
        };
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let padded = |len: usize, before: usize, after: usize| len.checked_add(before)?.checked_add(after);
        let fits = padded(from.height, top, bottom) == Some(to.height)
            && padded(from.width, left, right) == Some(to.width)
            && from.channels == to.channels;
        if !fits || to.element_len != 1 {
            let found = self.graph.tensors[output].shape_text();
            return Err(contract(operator.location(), "an output of the padded size", found));
        }
        let value = self.quant_params(output)?.zero_point;
        self.push(operator, Instruction::Fill { to: to.clone(), value })?;
        self.push(operator, Instruction::CopyInto { from, to, top, left })
    }

    pub(super) fn reshape(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 1, 2)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        if from.len() != to.len() {
            let expected = format!("an output of {} bytes", from.len());
            return Err(contract(operator.location(), expected, to.len()));
        }
        self.push(operator, Instruction::Reshape { from, to })
    }
}
