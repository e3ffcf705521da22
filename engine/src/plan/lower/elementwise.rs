//! Lowers operators whose output has their input's shape: ADD, QUANTIZE, DEQUANTIZE and SOFTMAX.

use super::Lowering;
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Operator},
    ops::{add::Addition, rescale, softmax},
    plan::{Instruction, channel_params::QuantParams},
};

impl Lowering<'_, '_> {
    pub(super) fn add(&mut self, operator: &Operator, activation: FusedActivation) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        let shape = self.graph.tensors[output].shape.clone();
        self.check_shape(operator, inputs[0], &shape)?;
        self.check_shape(operator, inputs[1], &shape)?;
        let result = self.quant_params(output)?;
        let [a, b] = [self.quant_params(inputs[0])?, self.quant_params(inputs[1])?];
        let ratios = [a.scale / result.scale, b.scale / result.scale];
        let Some(addition) = Addition::new(ratios, [a.zero_point, b.zero_point]) else {
            return Err(operator.refuse(format!("has scales too far apart: {ratios:?}")));
        };
        let range = self.range(output, activation)?;
        let inputs = [self.view(inputs[0], operator)?, self.view(inputs[1], operator)?];
        let to = self.view(output, operator)?;
        self.push(operator, Instruction::Add { addition, range, inputs, to })
    }

    pub(super) fn quantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let QuantParams { scale, zero_point } = self.quant_params(output)?;
        let (from_type, to_type) = (self.graph.tensors[inputs[0]].dtype, self.graph.tensors[output].dtype);
        if from_type == DType::Float32 {
            return self.push(operator, Instruction::QuantizeFloat { scale, zero_point, from, to });
        }
        let input = self.quant_params(inputs[0])?;
        let scales = [input.scale, scale];
        let (table, which) = match from_type == to_type {
            true => (rescale::quantize_table(scales, input.zero_point, zero_point), ""),
            false => (rescale::retype_table(scales, input.zero_point, zero_point), " between int8 and uint8"),
        };
        let Some(table) = table else {
            let ratio = input.scale / scale;
            return Err(operator.refuse(format!("has scales too far apart{which}: {ratio}")));
        };
        self.push(operator, Instruction::Rescale { table, from, to, top: 0, left: 0 })
    }

    pub(super) fn dequantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let to_type = self.graph.tensors[output].dtype;
        if to_type != DType::Float32 {
            return Err(contract(operator.location(), "a float32 output", to_type));
        }
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let QuantParams { scale, zero_point } = self.quant_params(inputs[0])?;
        self.push(operator, Instruction::Dequantize { scale, zero_point, from, to })
    }

    pub(super) fn softmax(&mut self, operator: &Operator, beta: f32) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let (input, result) = (self.quant_params(inputs[0])?, self.quant_params(output)?);
        let is_standard = result == (QuantParams { scale: 1.0 / 256.0, zero_point: 0 });
        if !is_standard || !beta.is_finite() || beta < 0.0 {
            let reason =
                format!("has an output scale of {} and beta {beta}, not a scale of 1/256", result.scale);
            return Err(operator.refuse(reason));
        }
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let table = softmax::table(input.scale, beta);
        self.push(operator, Instruction::Softmax { table, from, to })
    }
}
