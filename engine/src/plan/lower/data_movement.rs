//! Lowers operators that move values without computing: CONCATENATION, PAD, RESHAPE,
//! RESIZE_NEAREST_NEIGHBOR, STRIDED_SLICE and TRANSPOSE.

use super::{Lowering, constant_i32};
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Operator},
    ops::{rescale, resize::Resize},
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
            offset += self.graph.tensors[input].layout_shape()?[axis];
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
        for tensor in [inputs[0], output] {
            self.graph.tensors[tensor].image_shape()?;
        }
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

    pub(super) fn resize_nearest(&mut self, operator: &Operator, resize: Resize) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let dtype = self.graph.tensors[inputs[0]].dtype;
        if dtype != DType::Int8 {
            // For uint8 LiteRT finds the pixels in fixed point, which differs from the rule for int8.
            return Err(
                operator.refuse(format!("has {dtype} input, but the native engine supports only int8"))
            );
        }
        let [_, _, channels] = self.graph.tensors[inputs[0]].image_shape()?;
        let size = constant_i32(&self.graph.tensors[inputs[1]]).unwrap_or_default();
        let size: Vec<usize> = size.iter().filter_map(|&size| usize::try_from(size).ok()).collect();
        let &[height, width] = &size[..] else {
            return Err(operator.refuse("resizes to a height and width that are not two constants"));
        };
        self.check_shape(operator, output, &[1, height, width, channels])?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        self.push(operator, Instruction::ResizeNearest { resize, from, to })
    }

    /// A slice is another view of its input's buffer, which is copied.
    pub(super) fn strided_slice(
        &mut self,
        operator: &Operator,
        begin_mask: i32,
        end_mask: i32,
        keeps_axes: bool,
    ) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 4, 4)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let input = &self.graph.tensors[inputs[0]];
        let rank = input.shape.len();
        let constant = |input: usize| {
            constant_i32(&self.graph.tensors[inputs[input]]).filter(|values| values.len() == rank)
        };
        let (Some(begin), Some(end), Some(strides)) = (constant(1), constant(2), constant(3)) else {
            return Err(operator.refuse("slices by amounts that are not one constant for each axis"));
        };
        if !keeps_axes {
            return Err(operator.refuse("adds or removes axes, or slices by lengths"));
        }
        let from = self.view(inputs[0], operator)?;
        let distances = axis_distances(&from, rank);
        let (mut start, mut sliced, mut shape) = (from.start, vec![0; rank], Vec::with_capacity(rank));
        for axis in 0..rank {
            let len = input.shape[axis];
            let Some(stride) = usize::try_from(strides[axis]).ok().filter(|&stride| stride > 0) else {
                return Err(operator.refuse(format!("slices axis {axis} by a stride of {}", strides[axis])));
            };
            // Longer strides give the same single index, and this one cannot overflow.
            let stride = stride.min(len);
            let first = if begin_mask >> axis & 1 == 1 { 0 } else { position(begin[axis], len) };
            let end = if end_mask >> axis & 1 == 1 { len } else { position(end[axis], len) };
            if first >= end {
                return Err(operator.refuse(format!("slices nothing from axis {axis}")));
            }
            start += first * distances[axis];
            sliced[axis] = stride * distances[axis];
            shape.push((end - first).div_ceil(stride));
        }
        self.check_shape(operator, output, &shape)?;
        let to = self.view(output, operator)?;
        let [row, pixel, channel] = last_three(&sliced);
        let from = View { start, height: to.height, width: to.width, channels: to.channels, ..from };
        if channel != from.element_len {
            return self.push(operator, Instruction::Gather { from, distances: [row, pixel, channel], to });
        }
        // A view of one row or one pixel keeps the distances of its buffer, which must not be 0.
        let (row, pixel) = (row.max(from.row), pixel.max(from.pixel));
        self.push(operator, Instruction::CopyInto { from: View { row, pixel, ..from }, to, top: 0, left: 0 })
    }

    pub(super) fn transpose(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        self.check_same_quantization(operator, inputs[0], output)?;
        let input = &self.graph.tensors[inputs[0]];
        let rank = input.shape.len();
        let order = constant_i32(&self.graph.tensors[inputs[1]]).unwrap_or_default();
        let axis = |&axis: &i32| usize::try_from(if axis < 0 { axis + rank as i32 } else { axis }).ok();
        let order: Vec<usize> = order.iter().filter_map(axis).collect();
        let mut sorted = order.clone();
        sorted.sort();
        if !sorted.iter().copied().eq(0..rank) {
            return Err(operator.refuse("has an order of axes that is not constant or lists one twice"));
        }
        let shape: Vec<usize> = order.iter().map(|&axis| input.shape[axis]).collect();
        self.check_shape(operator, output, &shape)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let distances = axis_distances(&from, rank);
        let distances: Vec<usize> = order.iter().map(|&axis| distances[axis]).collect();
        self.push(operator, Instruction::Gather { distances: last_three(&distances), from, to })
    }
}

/// Returns the distance in bytes between neighbours along each axis of a tensor of `rank` axes. The first
/// axis has only one index.
fn axis_distances(view: &View, rank: usize) -> Vec<usize> {
    let last = [view.row, view.pixel, view.element_len];
    [&[0], &last[4 - rank..]].concat()
}

/// Returns the values of the last three axes; an axis that a shorter list does not have counts 0.
fn last_three(values: &[usize]) -> [usize; 3] {
    std::array::from_fn(|index| (index + values.len()).checked_sub(3).map_or(0, |axis| values[axis]))
}

/// Returns the position that a slice's begin or end refers to on an axis of `len`. Negative ones count from
/// the end, and those outside the axis are moved to its ends.
fn position(index: i32, len: usize) -> usize {
    let index = i64::from(index) + if index < 0 { len as i64 } else { 0 };
    index.clamp(0, len as i64) as usize
}
