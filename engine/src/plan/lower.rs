//! Turns operators into steps: checks each one's tensors against each other, and computes what can be computed once.
//!
//! Steps are bytes, see [`crate::quant`]: int8 tensors get 128 added to their zero points here, uint8 ones are as they
//! are. A convolution's bias takes the input's zero point with it, so that kernels multiply bytes as they lie.

use super::{
    Activation, Plan, Step, StepInfo,
    layout::{Rim, View},
    places::{self, Geometry, Places},
    weighted::{self, Steps, WEIGHTED_LEN, Weighted},
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
    pack::{self, Values},
    quant::Range,
    tflite::MOST_NAME,
};

/// What a plan may take at the least, whatever the CPU: one and a half times the file, which has all weights in it once,
/// and something for steps and tables. So one tensor that thousands of operators name cannot fill the memory.
fn most_needed(file_len: usize) -> usize {
    file_len / 2 * 3 + (768 << 10)
}

/// What weights packed for this CPU may take: twice the file where bytes become words, and room for rounding up. Beyond
/// that convolutions go to the law itself, which rounds nothing up: slower, but the same model loads on every CPU.
fn most_packed(file_len: usize) -> usize {
    file_len / 2 * 5 + (256 << 10)
}

/// Pixels whose steps less their zero point add up to what an i32 can hold.
const MOST_MEAN: usize = 1 << 23;

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
        // First of all: a layout of what is not known would only hide its name.
        if let Some(unknown) = graph.operators.iter().find(|operator| operator.kind == Op::Unknown) {
            return Err(unknown.refuse("the native engine does not know"));
        }
        let &[input] = &graph.inputs[..] else {
            return Err(contract("subgraph 0", "one input", graph.inputs.len()));
        };
        if graph.outputs.is_empty() {
            return Err(contract("subgraph 0", "an output", "none"));
        }
        let is_activation = |tensor: &Tensor<'_>| tensor.data.is_none();
        let mut kept = Vec::new();
        for name in keep {
            let name = &name[..name.floor_char_boundary(MOST_NAME)];
            let found = graph.tensors.iter().position(|tensor| tensor.name == name && is_activation(tensor));
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
            file_len,
            needed_len: 0,
            packed_len: 0,
        };
        for operator in &graph.operators {
            lowering.operator(operator)?;
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
    file_len: usize,
    /// Bytes of all that is kept, weights as short as they can be.
    needed_len: usize,
    /// Bytes of weights as they are packed.
    packed_len: usize,
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

    /// Adds a step of `operator`, with its name.
    fn push(&mut self, operator: &Operator, step: Step) -> Result<(), Error> {
        let output = operator.outputs.first().map(|&output| &self.graph.tensors[output]);
        let shape = output.map(|output| output.shape_text()).unwrap_or_default();
        let (what, multiply_adds) = match &step {
            Step::Rim { .. } => (" rim", 0),
            Step::Convolution(convolution) => ("", convolution.multiply_adds()),
            Step::ConvolutionPool(convolution, _) => (" with its pool", convolution.multiply_adds()),
            _ => ("", 0),
        };
        let name = format!("{}{what} {shape}", operator.place());
        let behind = match &step {
            Step::Convolution(_) | Step::ConvolutionPool(..) => size_of::<Convolution>(),
            Step::Depthwise { .. } => size_of::<Depthwise>(),
            Step::Rescale { table, .. } => size_of_val(&**table),
            Step::Softmax { table, .. } => size_of_val(&**table),
            _ => 0,
        };
        self.count(operator, size_of::<Step>() + behind + size_of::<StepInfo>() + name.len(), 0)?;
        self.steps.push(step);
        self.infos.push(StepInfo { name, multiply_adds });
        Ok(())
    }

    /// Counts `kept` bytes, before they are allocated together with `passing` ones that are soon free again.
    fn count(&mut self, operator: &Operator, kept: usize, passing: usize) -> Result<(), Error> {
        self.needed_len = self.needed_len.saturating_add(kept);
        let (needed, most) = (self.needed_len.saturating_add(passing), most_needed(self.file_len));
        if needed > most {
            let expected = format!("at most {most} bytes for a file of {}", self.file_len);
            return Err(contract(operator.place(), expected, needed));
        }
        Ok(())
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
                let six = (f32::from(zero) + 6.0 / scale).round_ties_even();
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
        let values = weighted::values(weights, 0)?;
        // A weight that a kernel cannot take without overflow goes to the law itself.
        let lowest = values.iter().min().unwrap_or(0);
        let fits = self.kernels.blocks.iter().all(|kernel| lowest >= kernel.lowest_weight);
        let (taps, k) = Convolution::runs(geometry.size, dilations, &from);
        let law_len = pack::packed_len(scalar::KERNELS.blocks, channels, taps, k);
        self.count(operator, law_len + size_of::<usize>() * taps, WEIGHTED_LEN * channels)?;
        let own_len = self.packed_len + pack::packed_len(self.kernels.blocks, channels, taps, k);
        let (kernels, packed_len) = match fits && own_len <= most_packed(self.file_len) {
            true => (self.kernels, own_len),
            false => (&scalar::KERNELS, self.packed_len + law_len),
        };
        self.packed_len = packed_len;
        let range = self.range(output, activation)?;
        let Weighted { bias, factor } = self.weighted(operator, &inputs, values, output, 0)?;
        let rim = self.places.rims[input];
        if geometry.rim != Rim::default() {
            let step = Step::Rim { view: whole(&from, rim), rim, value: self.steps(input)?.zero };
            self.push(operator, step)?;
        }
        let parts = Parts {
            weights: values,
            size: geometry.size,
            strides,
            dilations,
            before: geometry.before,
            bias: &bias,
            factor: &factor,
            range,
        };
        let pool = self.places.pooled.get(&operator.index).map(|&pool| &self.graph.operators[pool]);
        let ring = match pool.map(|pool| &pool.kind) {
            Some(Op::MaxPool { size, .. }) => Some(size[0].min(to.height)),
            _ => None,
        };
        let Some(convolution) = Convolution::new(kernels, &parts, &from, &to, ring) else {
            return Err(operator.refuse("does not fit its layout"));
        };
        let convolution = Box::new(convolution);
        match pool {
            None => self.push(operator, Step::Convolution(convolution)),
            Some(pool) => {
                let Op::MaxPool { window, size, activation } = pool.kind else {
                    return Err(pool.refuse("is no pool"));
                };
                let (window, range, pool_to) = self.pool_parts(pool, window, size, activation)?;
                let pool = RowPool { window, range, to: pool_to };
                self.push(operator, Step::ConvolutionPool(convolution, pool))
            }
        }
    }

    fn weighted(
        &self,
        operator: &Operator,
        inputs: &[usize],
        values: Values<'_>,
        output: usize,
        axis: usize,
    ) -> Result<Weighted, Error> {
        let (weights, bias) =
            (&self.graph.tensors[inputs[1]], inputs.get(2).map(|&bias| &self.graph.tensors[bias]));
        let (from, to) = (self.steps(inputs[0])?, self.steps(output)?);
        Weighted::new(operator, weights, values, bias, axis, [from, to])
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
        if self.graph.tensors[inputs[0]].kind == Kind::Uint8 {
            // TensorFlow Lite computes these in a fixed point of its own, not by the law.
            return Err(operator.refuse("is of uint8, which the native engine only knows of int8"));
        }
        let size = places::window_size(self.graph, operator)?;
        if to.channels != from.channels * multiplier {
            let expected = format!("{multiplier} output channels for each of {}", from.channels);
            return Err(contract(operator.place(), expected, to.channels));
        }
        self.shape(operator, inputs[1], &[1, size[0], size[1], to.channels])?;
        let input_shape = [from.height, from.width, from.channels];
        let geometry =
            places::geometry(operator, &window, size, input_shape, [to.height, to.width, to.channels])?;
        let values = weighted::values(&self.graph.tensors[inputs[1]], 3)?;
        let kept = values.bytes.len() + WEIGHTED_LEN * to.channels;
        self.count(operator, kept, 0)?;
        self.packed_len += kept;
        let range = self.range(output, activation)?;
        let Weighted { mut bias, factor } = self.weighted(operator, &inputs, values, output, 3)?;
        let input_zero = self.steps(inputs[0])?.zero;
        // This one takes the zero point from every byte; what lies beyond the edge adds nothing.
        for (channel, bias) in bias.iter_mut().enumerate() {
            let of_channel = values.iter().skip(channel).step_by(to.channels);
            *bias += i32::from(input_zero) * of_channel.map(i32::from).sum::<i32>();
        }
        let weights = values.iter().collect();
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
        self.push(operator, Step::Depthwise { depthwise: Box::new(depthwise), from, to })
    }

    fn pool_parts(
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
        let mut range = self.range(output, activation)?;
        // XNNPACK has no int8 average, and no pool that leaves pixels out: TensorFlow Lite's own kernels have, which round
        // before they add the zero point.
        let leaves_out = (0..2).any(|axis| window.strides[axis] > size[axis]);
        if activation == graph::Activation::Relu6
            && (leaves_out || matches!(operator.kind, Op::AveragePool { .. }))
        {
            let Steps { scale, zero } = self.steps(output)?;
            range.high = (f32::from(zero) + (6.0 / scale).round()).min(255.0) as u8;
        }
        let window = PoolWindow { size, strides: window.strides, before: geometry.before };
        Ok((window, range, to))
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
        let (window, range, to) = self.pool_parts(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        self.push(operator, Step::MaxPool { window, range, from, to })
    }

    fn average_pool(
        &mut self,
        operator: &Operator,
        window: graph::Window,
        size: [usize; 2],
        activation: graph::Activation,
    ) -> Result<(), Error> {
        let (window, range, to) = self.pool_parts(operator, window, size, activation)?;
        let from = self.view(operator.inputs[0], operator)?;
        let middle = if self.graph.tensors[operator.inputs[0]].kind == Kind::Int8 { 128 } else { 0 };
        self.push(operator, Step::AveragePool { window, range, middle, from, to })
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
        if from.height * from.width > MOST_MEAN {
            return Err(operator.refuse(format!("is over more than {MOST_MEAN} pixels")));
        }
        let (input, result) = (self.steps(inputs[0])?, self.steps(output)?);
        let factor = input.scale / (result.scale * (from.height * from.width) as f32);
        let range = self.range(output, graph::Activation::None)?;
        let to = self.view(output, operator)?;
        self.push(operator, Step::Mean { input_zero: input.zero, factor, range, from, to })
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
        self.push(operator, Step::Add { addition, range, inputs, to })
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
        let axis = places::joined_axis(self.graph, operator, axis)?;
        let mut joined = 0;
        for (position, &input) in inputs.iter().enumerate() {
            if !self.places.in_place.contains_key(&(operator.index, position)) {
                self.copy_part(operator, input, output, axis, joined)?;
            }
            joined += self.graph.tensors[input].image_shape()?[axis];
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
            return self.push(operator, Step::IntoRectangle { from, to, top, left });
        }
        let (own, whole) = (self.steps(input)?, self.steps(output)?);
        let table = rescale::concatenation_table(own.scale / whole.scale, own.zero, whole.zero);
        self.push(operator, Step::Rescale { table, from, to, top, left })
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
        self.push(operator, Step::Fill { to: to.clone(), value: self.steps(output)?.zero })?;
        self.push(operator, Step::IntoRectangle { from, to, top, left })
    }

    fn reshape(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 2)?;
        self.same_steps(operator, inputs[0], output)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        if from.len() != to.len() {
            return Err(contract(operator.place(), format!("an output of {} bytes", from.len()), to.len()));
        }
        self.push(operator, Step::Reshape { from, to })
    }

    fn quantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let result = self.steps(output)?;
        if self.graph.tensors[inputs[0]].kind == Kind::Float32 {
            let step = Step::QuantizeReal { scale: result.scale, zero: result.zero, from, to };
            return self.push(operator, step);
        }
        let input = self.steps(inputs[0])?;
        let scales = [input.scale, result.scale];
        let (table, within) = match self.graph.tensors[inputs[0]].kind == self.graph.tensors[output].kind {
            true => (rescale::quantize_table(scales, input.zero, result.zero), ""),
            false => (rescale::retype_table(scales, input.zero, result.zero), " between int8 and uint8"),
        };
        let Some(table) = table else {
            let ratio = input.scale / result.scale;
            return Err(operator.refuse(format!("has scales too far apart{within}: {ratio}")));
        };
        self.push(operator, Step::Rescale { table, from, to, top: 0, left: 0 })
    }

    fn dequantize(&mut self, operator: &Operator) -> Result<(), Error> {
        let (inputs, output) = self.tensors(operator, 1, 1)?;
        self.shape(operator, output, &self.graph.tensors[inputs[0]].shape.clone())?;
        if self.graph.tensors[output].kind != Kind::Float32 {
            return Err(contract(operator.place(), "a float32 output", self.graph.tensors[output].kind));
        }
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let Steps { scale, zero } = self.steps(inputs[0])?;
        self.push(operator, Step::Dequantize { scale, zero, from, to })
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
        self.push(operator, Step::Softmax { table: softmax::table(input.scale, beta), from, to })
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
