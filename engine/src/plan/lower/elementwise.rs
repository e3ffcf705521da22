//! Lowers operators whose output has their input's shape: ADD, MUL, LEAKY_RELU, LOGISTIC, QUANTIZE,
//! DEQUANTIZE and SOFTMAX.

use super::Lowering;
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Operator},
    ops::{
        add::Addition,
        logistic,
        multiply::{Multiplication, Multiplier},
        rescale, softmax,
    },
    plan::{Instruction, channel_params::QuantParams, layout::View},
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

    pub(super) fn multiply(&mut self, operator: &Operator, activation: FusedActivation) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 2)?;
        self.type_zero(operator)?;
        let [a, b] = self.factors(operator, [inputs[0], inputs[1]], output)?;
        let [a_params, b_params, result] =
            [self.quant_params(a)?, self.quant_params(b)?, self.quant_params(output)?];
        let scales = [a_params.scale, b_params.scale];
        let zero_points = [a_params.zero_point, b_params.zero_point];
        let range = self.range(output, activation)?;
        let Some(multiplication) = Multiplication::new(scales, zero_points, result.scale, range) else {
            return Err(operator.refuse(format!("has scales too far apart: {scales:?} and {}", result.scale)));
        };
        let (from, to) = (self.view(a, operator)?, self.view(output, operator)?);
        let table = |b: &dyn Fn(u8) -> u8| -> rescale::Table {
            Box::new(std::array::from_fn(|value| multiplication.apply(value as u8, b(value as u8))))
        };
        if let Some(&logistic) = self.memory.fused_logistics.get(&operator.index) {
            let logistic = self.logistic_table(&self.graph.operators[logistic])?;
            let table = table(&|value| logistic[usize::from(value)]);
            return self.push(operator, Instruction::Rescale { table, from, to, top: 0, left: 0 });
        }
        let b = match self.multiplier(operator, b, &to)? {
            Multiplier::Channels(values) if values.len() == 1 => {
                let table = table(&|_| values[0]);
                return self.push(operator, Instruction::Rescale { table, from, to, top: 0, left: 0 });
            }
            other => other,
        };
        self.push(operator, Instruction::Multiply { multiplication, a: from, b, to })
    }

    /// Returns the inputs of a multiplication so that the first is an activation of the output's shape. The
    /// product does not depend on their order.
    fn factors(&self, operator: &Operator, inputs: [usize; 2], output: usize) -> Result<[usize; 2], Error> {
        let shape = &self.graph.tensors[output].shape;
        let is_whole =
            |&input: &usize| self.graph.tensors[input].shape == *shape && self.memory.views[input].is_some();
        let [a, b] = inputs;
        if is_whole(&a) {
            Ok([a, b])
        } else if is_whole(&b) {
            Ok([b, a])
        } else {
            let expected = "an input of its output's shape that is not constant";
            Err(contract(operator.location(), expected, self.graph.tensors[a].location()))
        }
    }

    /// Returns the second operand of a multiplication: a constant or one for each channel, or an activation
    /// with the size of the output or of one pixel.
    fn multiplier(&mut self, operator: &Operator, b: usize, to: &View) -> Result<Multiplier, Error> {
        let tensor = &self.graph.tensors[b];
        let is_of_channels = tensor.volume() == to.channels && tensor.shape.last() == Some(&to.channels);
        if let Some(data) = tensor.data
            && (tensor.volume() == 1 || is_of_channels)
        {
            self.budget.count(operator, 0, data.len())?;
            let flip = if tensor.dtype == DType::Int8 { 0x80 } else { 0 };
            return Ok(Multiplier::Channels(data.iter().map(|&byte| byte ^ flip).collect()));
        }
        let view = self.view(b, operator)?;
        if [view.height, view.width, view.channels] == [to.height, to.width, to.channels] {
            return Ok(Multiplier::View(view));
        }
        if [view.height, view.width, view.channels] == [1, 1, to.channels] {
            return Ok(Multiplier::View(View { row: 0, pixel: 0, ..view }));
        }
        Err(operator
            .refuse("multiplies by a tensor that is neither of the output's size nor one pixel of it"))
    }

    pub(super) fn leaky_relu(&mut self, operator: &Operator, slope: f32) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        self.type_zero(operator)?;
        let (input, result) = (self.quant_params(inputs[0])?, self.quant_params(output)?);
        let (scales, zero_points) = ([input.scale, result.scale], [input.zero_point, result.zero_point]);
        let Some(table) = rescale::leaky_relu_table(scales, slope, zero_points) else {
            let ratio = input.scale / result.scale;
            return Err(operator.refuse(format!("has scales too far apart: {ratio}, slope {slope}")));
        };
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        self.push(operator, Instruction::Rescale { table, from, to, top: 0, left: 0 })
    }

    pub(super) fn logistic(&mut self, operator: &Operator) -> Result<(), Error> {
        let table = self.logistic_table(operator)?;
        if self.memory.fused_logistics.values().any(|&logistic| logistic == operator.index) {
            return Ok(());
        }
        let (from, to) =
            (self.view(operator.inputs[0], operator)?, self.view(operator.outputs[0], operator)?);
        self.push(operator, Instruction::Rescale { table, from, to, top: 0, left: 0 })
    }

    /// Validates a LOGISTIC and returns its table.
    fn logistic_table(&self, operator: &Operator) -> Result<rescale::Table, Error> {
        let (inputs, output) = self.operands(operator, 1, 1)?;
        self.check_shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let type_zero = self.type_zero(operator)?;
        let (input, result) = (self.quant_params(inputs[0])?, self.quant_params(output)?);
        let (scales, zero_points) = ([input.scale, result.scale], [input.zero_point, result.zero_point]);
        Ok(logistic::table(scales, zero_points, type_zero))
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
