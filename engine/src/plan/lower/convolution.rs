//! Lowers CONV_2D, FULLY_CONNECTED and DEPTHWISE_CONV_2D.

use super::Lowering;
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Op, Operator, Window},
    kernels::{Kernels, pooling::PoolWindow, scalar},
    ops::{
        convolution::{Convolution, ConvolutionSpec, RowPool},
        depthwise::Depthwise,
    },
    pack::{self, WeightValues},
    plan::{
        Instruction,
        channel_params::{CHANNEL_PARAMS_LEN, ChannelParams, weight_values},
        geometry::{WindowGeometry, window_geometry, window_size},
        layout::{Padding, View},
    },
};

/// A validated convolution: where it reads and writes, and how its window moves.
struct Shape {
    from: View,
    to: View,
    geometry: WindowGeometry,
    strides: [usize; 2],
    dilations: [usize; 2],
}

impl Lowering<'_, '_> {
    pub(super) fn convolution(
        &mut self,
        operator: &Operator,
        window: Window,
        activation: FusedActivation,
    ) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 3)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let size = window_size(self.graph, operator)?;
        let [input_shape, output_shape] = [inputs[0], output].map(|t| self.graph.tensors[t].image_shape());
        let geometry = window_geometry(operator, &window, size, input_shape?, output_shape?)?;
        let shape = Shape { from, to, geometry, strides: window.strides, dilations: window.dilations };
        self.any_convolution(operator, &inputs, output, shape, activation)
    }

    /// A fully connected layer is a convolution over a single pixel.
    pub(super) fn fully_connected(
        &mut self,
        operator: &Operator,
        activation: FusedActivation,
    ) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 3)?;
        let (input, weights) = (&self.graph.tensors[inputs[0]], &self.graph.tensors[inputs[1]]);
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let &[_, depth] = &weights.shape[..] else {
            let found = weights.shape_text();
            return Err(contract(operator.location(), "weights of two dimensions", found));
        };
        if input.volume() != depth || !(from.is_one_row() && from.is_dense_in_rows()) {
            let expected = format!("an input of {depth} contiguous values");
            return Err(contract(operator.location(), expected, input.shape_text()));
        }
        if to.height != 1 || to.width != 1 {
            return Err(contract(operator.location(), "an output of one pixel", "more"));
        }
        let from = View { height: 1, width: 1, channels: depth, pixel: depth, row: depth, ..from };
        let geometry = WindowGeometry::one_pixel();
        let shape = Shape { from, to, geometry, strides: [1, 1], dilations: [1, 1] };
        self.any_convolution(operator, &inputs, output, shape, activation)
    }

    /// Packs the weights and adds the instructions: the padding's fill if the window reads any, then the
    /// convolution with the pool that is fused with it.
    fn any_convolution(
        &mut self,
        operator: &Operator,
        inputs: &[usize],
        output: usize,
        shape: Shape,
        activation: FusedActivation,
    ) -> Result<(), Error> {
        let Shape { from, to, geometry, strides, dilations } = shape;
        let weights = &self.graph.tensors[inputs[1]];
        if (weights.shape.last(), weights.shape[0]) != (Some(&from.channels), to.channels) {
            let expected = format!("weights of {} x ... x {}", to.channels, from.channels);
            return Err(contract(operator.location(), expected, weights.shape_text()));
        }
        let values = weight_values(weights, 0)?;
        let runs = Convolution::runs(geometry.size, dilations, &from);
        let kernels = self.choose_kernels(operator, values, to.channels, runs)?;
        let range = self.range(output, activation)?;
        let ChannelParams { bias, factor } = self.channel_params(operator, inputs, values, output, 0)?;
        self.fill_padding(operator, inputs[0], &from, &geometry)?;
        let spec = ConvolutionSpec {
            weights: values,
            size: geometry.size,
            strides,
            dilations,
            pad_before: geometry.pad_before,
            bias: &bias,
            factor: &factor,
            range,
        };
        let pool = self.memory.fused_pools.get(&operator.index).map(|&pool| &self.graph.operators[pool]);
        let ring = match pool.map(|pool| &pool.op) {
            Some(Op::MaxPool { size, .. }) => Some(size[0].min(to.height)),
            _ => None,
        };
        let Some(convolution) = Convolution::new(kernels, &spec, &from, &to, ring) else {
            return Err(operator.refuse("does not fit its layout"));
        };
        self.push_convolution(operator, Box::new(convolution), pool)
    }

    /// Adds the convolution, fused with `pool` if there is one.
    fn push_convolution(
        &mut self,
        operator: &Operator,
        convolution: Box<Convolution>,
        pool: Option<&Operator>,
    ) -> Result<(), Error> {
        let Some(pool) = pool else {
            return self.push(operator, Instruction::Convolution(convolution));
        };
        let Op::MaxPool { window, size, activation } = pool.op else {
            return Err(pool.refuse("is not a pool"));
        };
        let (window, range, to) = self.pool_operands(pool, window, size, activation)?;
        self.push(operator, Instruction::ConvolutionPool(convolution, RowPool { window, range, to }))
    }

    /// Returns the kernels for one convolution and counts its packed weights. The reference kernel replaces
    /// this CPU's kernels if a weight could overflow in them or if packing for them would exceed the budget.
    /// `runs` is the number of runs of consecutive bytes in a window and their length.
    fn choose_kernels(
        &mut self,
        operator: &Operator,
        values: WeightValues<'_>,
        channels: usize,
        runs: (usize, usize),
    ) -> Result<&'static Kernels, Error> {
        let (taps, k) = runs;
        let min_weight = values.iter().min().unwrap_or(0);
        let is_safe = self.kernels.blocks.iter().all(|kernel| min_weight >= kernel.min_weight);
        let reference_len = pack::packed_len(scalar::KERNELS.blocks, channels, taps, k);
        let retained = reference_len + size_of::<usize>() * taps;
        self.budget.count(operator, retained, CHANNEL_PARAMS_LEN * channels)?;
        let own_len = pack::packed_len(self.kernels.blocks, channels, taps, k);
        let (kernels, packed_len) = match is_safe && self.budget.fits_packed(own_len) {
            true => (self.kernels, own_len),
            false => (&scalar::KERNELS, reference_len),
        };
        self.budget.add_packed(packed_len);
        Ok(kernels)
    }

    /// Adds the instruction that fills the padding around a convolution's input, if its window reads any.
    fn fill_padding(
        &mut self,
        operator: &Operator,
        input: usize,
        from: &View,
        geometry: &WindowGeometry,
    ) -> Result<(), Error> {
        if geometry.padding == Padding::default() {
            return Ok(());
        }
        let padding = self.memory.paddings[input];
        let value = self.quant_params(input)?.zero_point;
        let view = whole_buffer(from, padding);
        self.push(operator, Instruction::FillPadding { view, padding, value })
    }

    fn channel_params(
        &self,
        operator: &Operator,
        inputs: &[usize],
        values: WeightValues<'_>,
        output: usize,
        axis: usize,
    ) -> Result<ChannelParams, Error> {
        let weights = &self.graph.tensors[inputs[1]];
        let bias = inputs.get(2).map(|&bias| &self.graph.tensors[bias]);
        let (from, to) = (self.quant_params(inputs[0])?, self.quant_params(output)?);
        ChannelParams::new(operator, weights, values, bias, axis, [from, to])
    }

    pub(super) fn depthwise(
        &mut self,
        operator: &Operator,
        window: Window,
        multiplier: usize,
        activation: FusedActivation,
    ) -> Result<(), Error> {
        let (inputs, output) = self.operands(operator, 2, 3)?;
        let (from, to) = (self.view(inputs[0], operator)?, self.view(output, operator)?);
        let geometry = self.depthwise_geometry(operator, &inputs, window, multiplier, (&from, &to))?;
        let values = weight_values(&self.graph.tensors[inputs[1]], 3)?;
        let retained = values.bytes.len() + CHANNEL_PARAMS_LEN * to.channels;
        self.budget.count(operator, retained, 0)?;
        self.budget.add_packed(retained);
        let range = self.range(output, activation)?;
        let ChannelParams { mut bias, factor } = self.channel_params(operator, &inputs, values, output, 3)?;
        let input_zero = self.quant_params(inputs[0])?.zero_point;
        // This operator subtracts the zero point from every input byte, because it skips what lies outside
        // the input. The bias must not contain it.
        for (channel, bias) in bias.iter_mut().enumerate() {
            let of_channel = values.iter().skip(channel).step_by(to.channels);
            *bias += i32::from(input_zero) * of_channel.map(i32::from).sum::<i32>();
        }
        let weights = values.iter().collect();
        let depthwise = Depthwise {
            window: PoolWindow {
                size: geometry.size,
                strides: window.strides,
                pad_before: geometry.pad_before,
            },
            dilations: window.dilations,
            multiplier,
            weights,
            bias,
            factor,
            input_zero,
            range,
        };
        self.push(operator, Instruction::Depthwise { depthwise: Box::new(depthwise), from, to })
    }

    /// Validates the shapes of a depthwise convolution and returns its geometry.
    fn depthwise_geometry(
        &self,
        operator: &Operator,
        inputs: &[usize],
        window: Window,
        multiplier: usize,
        (from, to): (&View, &View),
    ) -> Result<WindowGeometry, Error> {
        if self.graph.tensors[inputs[0]].dtype == DType::Uint8 {
            // TensorFlow Lite computes these in a fixed point of its own instead of by the requantization
            // rule.
            return Err(operator.refuse("has uint8 input, but the native engine supports only int8"));
        }
        let size = window_size(self.graph, operator)?;
        if to.channels != from.channels * multiplier {
            let expected = format!("{multiplier} output channels for each of {}", from.channels);
            return Err(contract(operator.location(), expected, to.channels));
        }
        self.check_shape(operator, inputs[1], &[1, size[0], size[1], to.channels])?;
        let [input_shape, output_shape] =
            [inputs[0], operator.outputs[0]].map(|tensor| self.graph.tensors[tensor].image_shape());
        window_geometry(operator, &window, size, input_shape?, output_shape?)
    }
}

/// The rectangle of the whole buffer that `view` lies in, without padding.
fn whole_buffer(view: &View, padding: Padding) -> View {
    let rows = view.buffer.len() / view.row;
    View {
        height: rows - padding.top - padding.bottom,
        width: view.row / view.pixel - padding.left - padding.right,
        channels: view.pixel,
        ..view.clone()
    }
}
