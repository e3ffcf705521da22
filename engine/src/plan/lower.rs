//! Turns operators into steps: checks each one's tensors against each other, and computes what can be computed once.
//!
//! Steps are bytes, see [`crate::quant`]: int8 tensors get 128 added to their zero points here, uint8 ones are as they
//! are. A convolution's bias takes the input's zero point with it, so that kernels multiply bytes as they lie.

use super::{
    Activation, Plan, Step, StepInfo,
    layout::{Rim, View},
    places::{self, Geometry, Places},
    weighted::{Steps, Weighted},
};
use crate::{
    Error,
    error::contract,
    graph::{self, Graph, Kind, Op, Operator, Tensor},
    kernels::{KernelSet, Kernels, pooling::PoolWindow, scalar},
    ops::{
        add::Addition,
        convolution::{Convolution, Parts, RowPool},
        depthwise::Depthwise,
        rescale, softmax,
    },
    pack,
    quant::Range,
};

/// Packed weights may be this many times the file, and a little for rounding up small ones: then one tensor of weights
/// that is named by thousands of operators cannot fill the memory.
const MOST_PACKED: usize = 4;
const SMALL_PACKED: usize = 256 << 10;

impl Plan {
    /// Makes the plan for `graph` with `kernels` of `set`. Tensors named in `keep` stay readable.
    ///
    /// Errors: operators that are unknown or whose tensors do not fit; a name in `keep` that no activation has; more
    /// memory than the file's size (`file_len`) gives reason for.
    pub(crate) fn new(
        graph: &Graph<'_>,
        set: KernelSet,
        kernels: &'static Kernels,
        keep: &[&str],
        file_len: usize,
    ) -> Result<Plan, Error> {
        let &[input] = &graph.inputs[..] else {
            return Err(contract("subgraph 0", "one input", graph.inputs.len()));
        };
        if graph.outputs.is_empty() {
            return Err(contract("subgraph 0", "an output", "none"));
        }
        let is_activation = |tensor: &Tensor<'_>| tensor.data.is_none();
        let mut kept = Vec::new();
        for name in keep {
            let found = graph.tensors.iter().position(|tensor| tensor.name == *name && is_activation(tensor));
            kept.push(found.ok_or_else(|| contract("tensors to keep", "names of activations", name))?);
        }
        let to_the_end: Vec<usize> = kept.iter().chain(&graph.outputs).copied().collect();
        let places = places::places(graph, &to_the_end)?;
        let mut lowering = Lowering {
            graph,
            places,
            kernels,
            steps: Vec::new(),
            infos: Vec::new(),
            ready_after: vec![0; graph.tensors.len()],
            packed_len: 0,
            most_packed: MOST_PACKED * file_len + SMALL_PACKED,
        };
        for operator in &graph.operators {
            lowering.operator(operator)?;
            lowering.name_steps(operator);
            for &output in &operator.outputs {
                lowering.ready_after[output] = lowering.steps.len();
            }
        }
        let activation = |&tensor: &usize| lowering.activation(tensor);
        Ok(Plan {
            set,
            kernels,
            input: activation(&input)?,
            outputs: graph.outputs.iter().map(activation).collect::<Result<_, _>>()?,
            kept: kept.iter().map(activation).collect::<Result<_, _>>()?,
            arena_len: lowering.places.arena_len,
            packed_len: lowering.packed_len,
            steps: lowering.steps,
            infos: lowering.infos,
        })
    }
}

struct Lowering<'g, 'a> {
    graph: &'g Graph<'a>,
    places: Places,
    kernels: &'static Kernels,
    steps: Vec<Step>,
    infos: Vec<StepInfo>,
    ready_after: Vec<usize>,
    packed_len: usize,
    most_packed: usize,
}

impl<'g, 'a> Lowering<'g, 'a> {
    fn operator(&mut self, operator: &Operator) -> Result<(), Error> {
        match operator.kind {
            Op::Convolution { window, activation } => self.convolution(operator, Some(window), activation),
            Op::FullyConnected { activation } => self.convolution(operator, None, activation),
            Op::Depthwise { window, multiplier, activation } => {
                self.depthwise(operator, window, multiplier, activation)
            }
            Op::MaxPool { window, size, activation } => self.max_pool(operator, window, size, activation),
            Op::AveragePool { window, size, activation } => {
                self.average_pool(operator, window, size, activation)
            }
            Op::Mean { keep_dims } => self.mean(operator, keep_dims),
            Op::Add { activation } => self.add(operator, activation),
            Op::Concatenation { axis, activation } => self.concatenation(operator, axis, activation),
            Op::Pad => self.pad(operator),
            Op::Reshape => self.reshape(operator),
            Op::Quantize => self.quantize(operator),
            Op::Dequantize => self.dequantize(operator),
            Op::Softmax { beta } => self.softmax(operator, beta),
            Op::Unknown => Err(operator.refuse("the native engine does not know")),
        }
    }

    /// Names the steps that `operator` has brought.
    fn name_steps(&mut self, operator: &Operator) {
        let output = operator.outputs.first().map(|&output| &self.graph.tensors[output]);
        let shape = output.map(|output| output.shape_text()).unwrap_or_default();
        while let Some(step) = self.steps.get(self.infos.len()) {
            let (what, multiply_adds) = match step {
                Step::Rim { .. } => (" rim".to_string(), 0),
                Step::Convolution(convolution) => (String::new(), convolution.multiply_adds()),
                Step::ConvolutionPool(convolution, _) => {
                    (" with its pool".to_string(), convolution.multiply_adds())
                }
                _ => (String::new(), 0),
            };
            self.infos.push(StepInfo { name: format!("{}{what} {shape}", operator.place()), multiply_adds });
        }
    }

    fn activation(&self, tensor: usize) -> Result<Activation, Error> {
        let info = &self.graph.tensors[tensor];
        let Some(view) = self.places.views[tensor].clone() else {
            return Err(contract(info.place(), "an activation", "a constant"));
        };
        let step = match info.kind {
            Kind::Float32 => None,
            _ => Some(info.step()?),
        };
        Ok(Activation {
            name: info.name.to_string(),
            shape: info.shape.clone(),
            kind: info.kind,
            step,
            view,
            ready_after: self.ready_after[tensor],
        })
    }

    /// The operator's tensors: as many inputs as `most` allows but at least `least`, and one output.
    fn tensors(&self, operator: &Operator, least: usize, most: usize) -> Result<(Vec<usize>, usize), Error> {
        match &operator.outputs[..] {
            &[output] if (least..=most).contains(&operator.inputs.len()) => {
                Ok((operator.inputs.clone(), output))
            }
            _ => {
                let expected = format!("{least} to {most} inputs and one output");
                let found = format!("{} and {}", operator.inputs.len(), operator.outputs.len());
                Err(contract(operator.place(), expected, found))
            }
        }
    }

    fn view(&self, tensor: usize, operator: &Operator) -> Result<View, Error> {
        let missing = || contract(operator.place(), "an activation", self.graph.tensors[tensor].place());
        self.places.views[tensor].clone().ok_or_else(missing)
    }

    fn steps(&self, tensor: usize) -> Result<Steps, Error> {
        Steps::of(&self.graph.tensors[tensor])
    }

    /// What an output's steps may be after `activation`.
    fn range(&self, output: usize, activation: graph::Activation) -> Result<Range, Error> {
        let Steps { scale, zero } = self.steps(output)?;
        Ok(match activation {
            graph::Activation::None => Range { zero, low: 0, high: 255 },
            graph::Activation::Relu => Range { zero, low: zero, high: 255 },
            graph::Activation::Relu6 => {
                let six = f32::from(zero) + (6.0 / scale).round();
                Range { zero, low: zero, high: six.min(255.0) as u8 }
            }
        })
    }

    /// Refuses an operator whose input and output differ in scale or zero point.
    fn same_steps(&self, operator: &Operator, input: usize, output: usize) -> Result<(), Error> {
        let (from, to) = (&self.graph.tensors[input], &self.graph.tensors[output]);
        if from.kind == to.kind && (from.kind == Kind::Float32 || from.step()? == to.step()?) {
            return Ok(());
        }
        Err(contract(operator.place(), "an output with its input's type, scale and zero point", to.place()))
    }

    /// Refuses shapes that are not as they should be.
    fn shape(&self, operator: &Operator, tensor: usize, expected: &[usize]) -> Result<(), Error> {
        let info = &self.graph.tensors[tensor];
        if info.shape == expected {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(|d| d.to_string()).collect();
        let expected = format!("{} of {}", info.place(), expected.join(" x "));
        Err(contract(operator.place(), expected, info.shape_text()))
    }

    /// A convolution, or with no window a fully connected layer, which is one over a single pixel.
    fn convolution(
        &mut self,
        operator: &Operator,
        window: Option<graph::Window>,
        activation: graph::Activation,
    ) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 2, 3)?;
        let (input, weights) = (inputs[0], &self.graph.tensors[inputs[1]]);
        let (mut from, to) = (self.view(input, operator)?, self.view(output, operator)?);
        let (strides, dilations, geometry, channels, depth) = match window {
            Some(window) => {
                let size = places::window_size(self.graph, operator)?;
                let [input_shape, output_shape] =
                    [input, output].map(|t| self.graph.tensors[t].image_shape());
                let geometry = places::geometry(operator, &window, size, input_shape?, output_shape?)?;
                (window.strides, window.dilations, geometry, weights.shape[0], weights.shape[3])
            }
            None => {
                let &[channels, depth] = &weights.shape[..] else {
                    return Err(contract(
                        operator.place(),
                        "weights of two dimensions",
                        weights.shape_text(),
                    ));
                };
                if self.graph.tensors[input].volume() != depth
                    || !(from.is_one_row() && from.is_dense_in_rows())
                {
                    let found = self.graph.tensors[input].shape_text();
                    return Err(contract(operator.place(), format!("an input of {depth} in one run"), found));
                }
                from = View { height: 1, width: 1, channels: depth, pixel: depth, row: depth, ..from };
                if to.height != 1 || to.width != 1 {
                    return Err(contract(operator.place(), "an output of one pixel", "more"));
                }
                let geometry = Geometry { size: [1, 1], before: [0, 0], rim: Rim::default() };
                ([1, 1], [1, 1], geometry, channels, depth)
            }
        };
        if (depth, channels) != (from.channels, to.channels) {
            let expected = format!("weights of {} x ... x {}", to.channels, from.channels);
            return Err(contract(operator.place(), expected, weights.shape_text()));
        }
        let Weighted { weights, bias, factor, range } =
            self.weighted(operator, &inputs, output, 0, activation)?;
        let rim = self.places.rims[input];
        if geometry.rim != Rim::default() {
            self.steps.push(Step::Rim { view: whole(&from, rim), rim, value: self.steps(input)?.zero });
        }
        let parts = Parts {
            weights: &weights,
            size: geometry.size,
            strides,
            dilations,
            before: geometry.before,
            bias: &bias,
            factor: &factor,
            range,
        };
        let pool = self.places.pooled.get(&operator.index).map(|&pool| &self.graph.operators[pool]);
        let kept_rows = match pool.map(|pool| &pool.kind) {
            Some(Op::MaxPool { size, .. }) => size[0].min(to.height),
            _ => to.height,
        };
        // A weight that a kernel cannot take without overflow goes to the law itself.
        let lowest = weights.iter().copied().min().unwrap_or(0);
        let fits = self.kernels.blocks.iter().all(|kernel| lowest >= kernel.lowest_weight);
        let kernels = if fits { self.kernels } else { &scalar::KERNELS };
        let (taps, k) = Convolution::runs(geometry.size, dilations, &from);
        self.count_packed(operator, pack::packed_len(kernels.blocks, channels, taps, k))?;
        let Some(convolution) = Convolution::new(kernels, &parts, &from, &to, kept_rows) else {
            return Err(operator.refuse("does not fit its layout"));
        };
        let convolution = Box::new(convolution);
        match pool {
            None => self.steps.push(Step::Convolution(convolution)),
            Some(pool) => {
                let Op::MaxPool { window, size, activation } = pool.kind else {
                    return Err(pool.refuse("is no pool"));
                };
                let (window, range, pool_to) = self.max_pool_parts(pool, window, size, activation)?;
                let pool = RowPool { window, range, to: pool_to };
                self.steps.push(Step::ConvolutionPool(convolution, pool));
            }
        }
        Ok(())
    }

    fn count_packed(&mut self, operator: &Operator, len: usize) -> Result<(), Error> {
        self.packed_len += len;
        if self.packed_len > self.most_packed {
            let expected = format!("weights of at most {} bytes in all, packed", self.most_packed);
            return Err(contract(operator.place(), expected, self.packed_len));
        }
        Ok(())
    }

    fn weighted(
        &self,
        operator: &Operator,
        inputs: &[usize],
        output: usize,
        axis: usize,
        activation: graph::Activation,
    ) -> Result<Weighted, Error> {
        let (weights, bias) =
            (&self.graph.tensors[inputs[1]], inputs.get(2).map(|&bias| &self.graph.tensors[bias]));
        let (from, to) = (self.steps(inputs[0])?, self.steps(output)?);
        Weighted::new(operator, weights, bias, axis, [from, to], self.range(output, activation)?)
    }

    fn depthwise(
        &mut self,
        operator: &Operator,
        window: graph::Window,
        multiplier: usize,
        activation: graph::Activation,
    ) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 2, 3)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let size = places::window_size(self.graph, operator)?;
        if to.channels != from.channels * multiplier {
            let expected = format!("{multiplier} output channels for each of {}", from.channels);
            return Err(contract(operator.place(), expected, to.channels));
        }
        self.shape(operator, inputs[1], &[1, size[0], size[1], to.channels])?;
        let input_shape = [from.height, from.width, from.channels];
        let geometry =
            places::geometry(operator, &window, size, input_shape, [to.height, to.width, to.channels])?;
        let Weighted { weights, bias, factor, range } =
            self.weighted(operator, &inputs, output, 3, activation)?;
        self.count_packed(operator, weights.len())?;
        let input_zero = self.steps(inputs[0])?.zero;
        // This one takes the zero point from every byte; what lies beyond the edge adds nothing.
        let plain = |channel: usize| -> i32 {
            weights.iter().skip(channel).step_by(to.channels).map(|&w| i32::from(w)).sum()
        };
        let bias = bias.iter().enumerate().map(|(c, bias)| bias + i32::from(input_zero) * plain(c)).collect();
        let depthwise = Depthwise {
            window: PoolWindow { size, strides: window.strides, before: geometry.before },
            dilations: window.dilations,
            multiplier,
            weights,
            bias,
            factor,
            input_zero,
            range,
        };
        self.steps.push(Step::Depthwise { depthwise: Box::new(depthwise), from, to });
        Ok(())
    }

    fn max_pool_parts(
        &self,
        operator: &Operator,
        window: graph::Window,
        size: [usize; 2],
        activation: graph::Activation,
    ) -> Result<(PoolWindow, Range, View), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.same_steps(operator, inputs[0], output)?;
        let shape = self.graph.tensors[inputs[0]].image_shape()?;
        let to = self.view(output, operator)?;
        let output_shape = [to.height, to.width, to.channels];
        let geometry = places::geometry(operator, &window, size, shape, output_shape)?;
        if to.channels != shape[2] {
            return Err(contract(
                operator.place(),
                format!("an output of {} channels", shape[2]),
                to.channels,
            ));
        }
        let window = PoolWindow { size, strides: window.strides, before: geometry.before };
        Ok((window, self.range(output, activation)?, to))
    }

    fn max_pool(
        &mut self,
        operator: &Operator,
        window: graph::Window,
        size: [usize; 2],
        activation: graph::Activation,
    ) -> Result<(), Error> {
        if self.places.pooled.values().any(|&pool| pool == operator.index) {
            return Ok(());
        }
        let (window, range, to) = self.max_pool_parts(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        self.steps.push(Step::MaxPool { window, range, from, to });
        Ok(())
    }

    fn average_pool(
        &mut self,
        operator: &Operator,
        window: graph::Window,
        size: [usize; 2],
        activation: graph::Activation,
    ) -> Result<(), Error> {
        let (window, range, to) = self.max_pool_parts(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        let middle = if self.graph.tensors[operator.inputs[0]].kind == Kind::Int8 { 128 } else { 0 };
        self.steps.push(Step::AveragePool { window, range, middle, from, to });
        Ok(())
    }

    fn mean(&mut self, operator: &Operator, keep_dims: bool) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 2, 2)?;
        let from = self.view(inputs[0], operator)?;
        let axes = constant_i32(&self.graph.tensors[inputs[1]])
            .ok_or_else(|| contract(operator.place(), "constant int32 axes", "something else"))?;
        let rank = self.graph.tensors[inputs[0]].shape.len() as i32;
        let mut axes: Vec<i32> = axes.iter().map(|&axis| if axis < 0 { axis + rank } else { axis }).collect();
        axes.sort();
        if axes != [1, 2] || rank != 4 {
            return Err(operator.refuse(format!("is over axes {axes:?}, not over height and width")));
        }
        match keep_dims {
            true => self.shape(operator, output, &[1, 1, 1, from.channels])?,
            false => self.shape(operator, output, &[1, from.channels])?,
        }
        let (input, result) = (self.steps(inputs[0])?, self.steps(output)?);
        let factor = input.scale / (result.scale * (from.height * from.width) as f32);
        let range = self.range(output, graph::Activation::None)?;
        let to = self.view(output, operator)?;
        self.steps.push(Step::Mean { input_zero: input.zero, factor, range, from, to });
        Ok(())
    }

    fn add(&mut self, operator: &Operator, activation: graph::Activation) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 2, 2)?;
        let shape = self.graph.tensors[output].shape.clone();
        self.shape(operator, inputs[0], &shape)?;
        self.shape(operator, inputs[1], &shape)?;
        let result = self.steps(output)?;
        let [a, b] = [self.steps(inputs[0])?, self.steps(inputs[1])?];
        let ratios = [a.scale / result.scale, b.scale / result.scale];
        let Some(addition) = Addition::new(ratios, [a.zero, b.zero]) else {
            return Err(operator.refuse(format!("has scales too far apart: {ratios:?}")));
        };
        let range = self.range(output, activation)?;
        let inputs = [self.view(inputs[0], operator)?, self.view(inputs[1], operator)?];
        let to = self.view(output, operator)?;
        self.steps.push(Step::Add { addition, range, inputs, to });
        Ok(())
    }

    fn concatenation(
        &mut self,
        operator: &Operator,
        axis: i32,
        activation: graph::Activation,
    ) -> Result<(), Error> {
        if activation != graph::Activation::None {
            return Err(operator.refuse("has an activation, which the native engine does not know"));
        }
        let (inputs, output) = self.tensors(operator, 1, usize::MAX)?;
        let whole = self.graph.tensors[output].image_shape()?;
        let rank = self.graph.tensors[output].shape.len() as i32;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis } + 3 - rank).unwrap_or(3);
        let mut joined = 0;
        for (position, &input) in inputs.iter().enumerate() {
            let shape = self.graph.tensors[input].image_shape()?;
            let fits = axis < 3 && (0..3).all(|other| other == axis || shape[other] == whole[other]);
            if !fits || joined + shape[axis] > whole[axis] {
                return Err(contract(
                    operator.place(),
                    "inputs that fit its output",
                    self.graph.tensors[input].place(),
                ));
            }
            if !self.places.in_place.contains_key(&(operator.index, position)) {
                self.copy_part(operator, input, output, axis, joined)?;
            }
            joined += shape[axis];
        }
        if joined != whole[axis] {
            return Err(contract(operator.place(), format!("inputs of {} in all", whole[axis]), joined));
        }
        Ok(())
    }

    /// A part of a concatenation that could not be computed where it belongs.
    fn copy_part(
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
        if self.same_steps(operator, input, output).is_ok() {
            self.steps.push(Step::IntoRectangle { from, to, top, left });
            return Ok(());
        }
        let (own, whole) = (self.steps(input)?, self.steps(output)?);
        let table = rescale::concatenation_table(own.scale / whole.scale, own.zero, whole.zero);
        self.steps.push(Step::Rescale { table, from, to, top, left });
        Ok(())
    }

    fn pad(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 2, 2)?;
        self.same_steps(operator, inputs[0], output)?;
        let amounts = constant_i32(&self.graph.tensors[inputs[1]]).unwrap_or_default();
        let amounts: Vec<usize> = amounts.iter().filter_map(|&amount| usize::try_from(amount).ok()).collect();
        let &[0, 0, top, bottom, left, right, 0, 0] = &amounts[..] else {
            return Err(operator.refuse("pads other than height and width, or by what is not constant"));
        };
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let expected = |len: usize, before: usize, after: usize| len.checked_add(before)?.checked_add(after);
        let fits = expected(from.height, top, bottom) == Some(to.height)
            && expected(from.width, left, right) == Some(to.width)
            && from.channels == to.channels;
        if !fits || to.element_len != 1 {
            return Err(contract(
                operator.place(),
                "an output of the padded size",
                self.graph.tensors[output].shape_text(),
            ));
        }
        self.steps.push(Step::Fill { to: to.clone(), value: self.steps(output)?.zero });
        self.steps.push(Step::IntoRectangle { from, to, top, left });
        Ok(())
    }

    fn reshape(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 2)?;
        self.same_steps(operator, inputs[0], output)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        if from.len() != to.len() {
            return Err(contract(operator.place(), format!("an output of {} bytes", from.len()), to.len()));
        }
        self.steps.push(Step::Reshape { from, to });
        Ok(())
    }

    fn quantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let result = self.steps(output)?;
        if self.graph.tensors[inputs[0]].kind == Kind::Float32 {
            self.steps.push(Step::QuantizeReal { scale: result.scale, zero: result.zero, from, to });
            return Ok(());
        }
        let input = self.steps(inputs[0])?;
        let ratio = input.scale / result.scale;
        let Some(table) = rescale::quantize_table(ratio, input.zero, result.zero) else {
            return Err(operator.refuse(format!("has scales too far apart: {ratio}")));
        };
        self.steps.push(Step::Rescale { table, from, to, top: 0, left: 0 });
        Ok(())
    }

    fn dequantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        if self.graph.tensors[output].kind != Kind::Float32 {
            return Err(contract(operator.place(), "a float32 output", self.graph.tensors[output].kind));
        }
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let Steps { scale, zero } = self.steps(inputs[0])?;
        self.steps.push(Step::Dequantize { scale, zero, from, to });
        Ok(())
    }

    fn softmax(&mut self, operator: &Operator, beta: f32) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let (input, result) = (self.steps(inputs[0])?, self.steps(output)?);
        if result != (Steps { scale: 1.0 / 256.0, zero: 0 }) || !beta.is_finite() || beta < 0.0 {
            return Err(
                operator.refuse(format!("gives steps of {} by beta {beta}, not of 1/256", result.scale))
            );
        }
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        self.steps.push(Step::Softmax { table: softmax::table(input.scale, beta), from, to });
        Ok(())
    }
}

/// The rectangle of a whole buffer, out of any view of it.
fn whole(view: &View, rim: Rim) -> View {
    let rows = view.buffer.len() / view.row;
    View {
        height: rows - rim.top - rim.bottom,
        width: view.row / view.pixel - rim.left - rim.right,
        channels: view.pixel,
        ..view.clone()
    }
}

fn constant_i32(tensor: &Tensor<'_>) -> Option<Vec<i32>> {
    match (tensor.kind, tensor.data) {
        (Kind::Int32, Some(data)) if data.len() <= 64 => {
            Some(data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect())
        }
        _ => None,
    }
}
