//! What a convolution multiplies with: weights around zero, start values of its sums, factors of the rounding law.
//!
//! Here it is made sure that no sum can leave an i32, whatever the input and whichever kernel, and that no scaled sum can
//! either: kernels need not look.

use crate::{
    Error,
    error::contract,
    graph::{Kind, Operator, Quantization, Tensor},
    pack::Values,
};

/// One scale and the step for zero of a tensor, as a byte: 128 is added for int8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Steps {
    pub(super) scale: f32,
    pub(super) zero: u8,
}

impl Steps {
    pub(super) fn of(tensor: &Tensor<'_>) -> Result<Steps, Error> {
        let (scale, zero) = tensor.step()?;
        let shift = if tensor.kind == Kind::Int8 { 128 } else { 0 };
        Ok(Steps { scale, zero: (zero + shift) as u8 })
    }
}

/// For each output channel the bias with the input's zero point in it, and the factor.
pub(super) struct Weighted {
    pub(super) bias: Vec<i32>,
    pub(super) factor: Vec<f32>,
}

/// Bytes of a [`Weighted`] for each channel.
pub(super) const WEIGHTED_LEN: usize = 8;

impl Weighted {
    /// `axis` is that of the output channels in the weights: 0, or 3 for a depthwise convolution. `values` are those of
    /// `weights`, `from` and `to` the steps of input and output.
    pub(super) fn new(
        operator: &Operator,
        weights: &Tensor<'_>,
        values: Values<'_>,
        bias: Option<&Tensor<'_>>,
        axis: usize,
        [from, to]: [Steps; 2],
    ) -> Result<Weighted, Error> {
        let channels = weights.shape[axis];
        let quantization = quantization(weights, axis)?;
        let bias: &[[u8; 4]] = match bias {
            None => &[],
            Some(Tensor { kind: Kind::Int32, data: Some(data), shape, .. }) if shape[..] == [channels] => {
                data.as_chunks().0
            }
            Some(bias) => {
                let expected = format!("a constant bias of {channels} int32");
                return Err(contract(operator.place(), expected, bias.place()));
            }
        };
        // Channels are outermost in a convolution's weights and innermost in a depthwise one's.
        let count = values.bytes.len() / channels;
        let distance = if axis == 0 { 1 } else { channels };
        let mut with_zero = Vec::with_capacity(channels);
        let mut factor = Vec::with_capacity(channels);
        for channel in 0..channels {
            let first = if axis == 0 { channel * count } else { channel };
            let of_channel = || {
                let values = Values { bytes: &values.bytes[first..], ..values };
                values.iter().step_by(distance).take(count).map(i64::from)
            };
            let (sum, magnitude) = (of_channel().sum::<i64>(), of_channel().map(i64::abs).sum::<i64>());
            let bias = i64::from(bias.get(channel).map_or(0, |&bytes| i32::from_le_bytes(bytes)));
            let scale = quantization.scales.of(channel).map_or(0.0, f32::from_le_bytes);
            // Whatever the input's bytes and whatever a kernel takes from them first, no sum may leave i32, and no
            // scaled sum what an i32 can hold.
            let bound = bias.abs() + 512 * magnitude;
            let channel_factor = from.scale * scale / to.scale;
            if bound > i64::from(i32::MAX) {
                return Err(contract(
                    operator.place(),
                    "sums that fit 32 bits",
                    format!("channel {channel}"),
                ));
            }
            if !channel_factor.is_normal() || bound as f32 * channel_factor >= 2f32.powi(31) {
                let found = format!("{channel_factor} in channel {channel}");
                return Err(contract(operator.place(), "scales of one magnitude", found));
            }
            with_zero.push((bias - i64::from(from.zero) * sum) as i32);
            factor.push(channel_factor);
        }
        Ok(Weighted { bias: with_zero, factor })
    }
}

/// The scales of constant weights: one, or one for each index along `axis`.
fn quantization<'a>(weights: &Tensor<'a>, axis: usize) -> Result<Quantization<'a>, Error> {
    let Some(quantization) = weights.quantization else {
        return Err(contract(weights.place(), "constant quantized weights", "others"));
    };
    let (scales, channels) = (quantization.scales.len(), weights.shape[axis]);
    let along = usize::try_from(quantization.axis).ok();
    if scales != 1 && (scales != channels || along != Some(axis)) {
        let expected = format!("one scale, or {channels} along axis {axis}");
        return Err(contract(weights.place(), expected, format!("{scales} along {}", quantization.axis)));
    }
    Ok(quantization)
}

/// Constant weights around their zero, whose channels are along `axis`.
pub(super) fn values<'a>(weights: &Tensor<'a>, axis: usize) -> Result<Values<'a>, Error> {
    let zeros = quantization(weights, axis)?.zero_points;
    let zero = match weights.kind {
        Kind::Int8 if zeros.iter().map(i64::from_le_bytes).all(|zero| zero == 0) => Some(0),
        Kind::Uint8 if zeros.len() == 1 => {
            zeros.of(0).and_then(|zero| u8::try_from(i64::from_le_bytes(zero)).ok())
        }
        _ => None,
    };
    let fits = |byte: &u8, zero: u8| i8::try_from(i16::from(*byte) - i16::from(zero)).is_ok();
    match (zero, weights.data) {
        (Some(zero), Some(bytes))
            if weights.kind == Kind::Int8 || bytes.iter().all(|byte| fits(byte, zero)) =>
        {
            Ok(Values { bytes, zero })
        }
        _ => Err(contract(weights.place(), "weights that lie from -128 to 127 around their zero", "others")),
    }
}
