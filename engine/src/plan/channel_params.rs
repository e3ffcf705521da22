//! What a convolution needs per output channel: the start value of its sums and the factor of the
//! requantization rule.
//!
//! A model is refused here if any sum or scaled sum could leave an i32, whatever the input and whichever
//! kernel runs, so kernels do not check.

use crate::{
    Error,
    error::contract,
    graph::{DType, Operator, Quantization, Tensor},
    pack::WeightValues,
};

/// Scale and zero point of a tensor with one of each. The zero point is a byte: 128 is added for int8.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct QuantParams {
    pub(super) scale: f32,
    pub(super) zero_point: u8,
}

impl QuantParams {
    pub(super) fn of(tensor: &Tensor<'_>) -> Result<QuantParams, Error> {
        let (scale, zero_point) = tensor.scale_and_zero_point()?;
        let shift = if tensor.dtype == DType::Int8 { 128 } else { 0 };
        Ok(QuantParams { scale, zero_point: (zero_point + shift) as u8 })
    }
}

/// By output channel: the bias, which absorbs the input's zero point, and the factor.
pub(super) struct ChannelParams {
    pub(super) bias: Vec<i32>,
    pub(super) factor: Vec<f32>,
}

/// Bytes of [`ChannelParams`] per channel.
pub(super) const CHANNEL_PARAMS_LEN: usize = 8;

impl ChannelParams {
    /// Computes the parameters of all channels. `axis` is that of the output channels in the weights: 0, or 3
    /// for a depthwise convolution. `values` are those of `weights`; `from` and `to` belong to the input and
    /// the output.
    ///
    /// Errors: [`Error::Contract`] for a bias or scales that do not fit the weights, and for sums that could
    /// overflow.
    pub(super) fn new(
        operator: &Operator,
        weights: &Tensor<'_>,
        values: WeightValues<'_>,
        bias: Option<&Tensor<'_>>,
        axis: usize,
        [from, to]: [QuantParams; 2],
    ) -> Result<ChannelParams, Error> {
        let channels = weights.shape[axis];
        let quantization = quantization(weights, axis)?;
        let given_bias = constant_bias(operator, bias, channels)?;
        // Channels are outermost in a convolution's weights and innermost in a depthwise convolution's.
        let count = values.bytes.len() / channels;
        let distance = if axis == 0 { 1 } else { channels };
        let mut bias = Vec::with_capacity(channels);
        let mut factor = Vec::with_capacity(channels);
        for channel in 0..channels {
            let first = if axis == 0 { channel * count } else { channel };
            let of_channel = || {
                let values = WeightValues { bytes: &values.bytes[first..], ..values };
                values.iter().step_by(distance).take(count).map(i64::from)
            };
            let (sum, magnitude) = (of_channel().sum::<i64>(), of_channel().map(i64::abs).sum::<i64>());
            let given = i64::from(given_bias.get(channel).map_or(0, |&bytes| i32::from_le_bytes(bytes)));
            let scale = quantization.scales.get_or_only(channel).map_or(0.0, f32::from_le_bytes);
            let channel_factor = from.scale * scale / to.scale;
            check_overflow(operator, channel, given.abs() + 512 * magnitude, channel_factor)?;
            bias.push((given - i64::from(from.zero_point) * sum) as i32);
            factor.push(channel_factor);
        }
        Ok(ChannelParams { bias, factor })
    }
}

/// Checks one channel. `bound` covers every sum, whatever the input's bytes and whatever a kernel subtracts
/// from them.
fn check_overflow(operator: &Operator, channel: usize, bound: i64, factor: f32) -> Result<(), Error> {
    if bound > i64::from(i32::MAX) {
        let found = format!("channel {channel}");
        return Err(contract(operator.location(), "sums that fit 32 bits", found));
    }
    if !factor.is_normal() || bound as f32 * factor >= 2f32.powi(31) {
        let found = format!("{factor} in channel {channel}");
        return Err(contract(operator.location(), "scales of similar magnitude", found));
    }
    Ok(())
}

/// The constant bias as little-endian i32, empty if the operator has none.
fn constant_bias<'a>(
    operator: &Operator,
    bias: Option<&Tensor<'a>>,
    channels: usize,
) -> Result<&'a [[u8; 4]], Error> {
    match bias {
        None => Ok(&[]),
        Some(Tensor { dtype: DType::Int32, data: Some(data), shape, .. }) if shape[..] == [channels] => {
            Ok(data.as_chunks().0)
        }
        Some(bias) => {
            let expected = format!("a constant bias of {channels} int32");
            Err(contract(operator.location(), expected, bias.location()))
        }
    }
}

/// The scales of constant weights: one, or one per index along `axis`.
fn quantization<'a>(weights: &Tensor<'a>, axis: usize) -> Result<Quantization<'a>, Error> {
    let Some(quantization) = weights.quantization else {
        return Err(contract(weights.location(), "constant quantized weights", "no quantization"));
    };
    let (scales, channels) = (quantization.scales.len(), weights.shape[axis]);
    let along = usize::try_from(quantization.axis).ok();
    if scales != 1 && (scales != channels || along != Some(axis)) {
        let expected = format!("one scale, or {channels} along axis {axis}");
        let found = format!("{scales} along {}", quantization.axis);
        return Err(contract(weights.location(), expected, found));
    }
    Ok(quantization)
}

/// Returns the values of constant weights relative to their zero point; channels are along `axis`.
///
/// Errors: [`Error::Contract`] for weights that are not constant or leave -128 to 127 around their zero
/// point.
pub(super) fn weight_values<'a>(weights: &Tensor<'a>, axis: usize) -> Result<WeightValues<'a>, Error> {
    let zero_points = quantization(weights, axis)?.zero_points;
    let zero_point = match weights.dtype {
        DType::Int8 if zero_points.iter().map(i64::from_le_bytes).all(|zero| zero == 0) => Some(0),
        DType::Uint8 if zero_points.len() == 1 => {
            zero_points.get_or_only(0).and_then(|zero| u8::try_from(i64::from_le_bytes(zero)).ok())
        }
        _ => None,
    };
    let fits = |byte: &u8, zero: u8| i8::try_from(i16::from(*byte) - i16::from(zero)).is_ok();
    match (zero_point, weights.data) {
        (Some(zero_point), Some(bytes))
            if weights.dtype == DType::Int8 || bytes.iter().all(|byte| fits(byte, zero_point)) =>
        {
            Ok(WeightValues { bytes, zero_point })
        }
        _ => Err(contract(
            weights.location(),
            "constant weights from -128 to 127 around their zero point",
            "others",
        )),
    }
}
