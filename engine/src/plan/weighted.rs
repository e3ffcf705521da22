//! What a convolution multiplies with: weights around zero, start values of its sums, factors of the rounding law.
//!
//! Here it is made sure that no sum can leave an i32, whatever the input and whichever kernel, and that no scaled sum can
//! either: kernels need not look.

use crate::{
    Error,
    error::contract,
    graph::{Kind, Operator, Tensor},
    quant::Range,
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

/// Weights as int8, and for each output channel the bias with the input's zero point in it, and the factor.
pub(super) struct Weighted {
    pub(super) weights: Vec<i8>,
    pub(super) bias: Vec<i32>,
    pub(super) factor: Vec<f32>,
    pub(super) range: Range,
}

impl Weighted {
    /// `axis` is that of the output channels in the weights: 0, or 3 for a depthwise convolution. `from` and `to` are
    /// the steps of input and output.
    pub(super) fn new(
        operator: &Operator,
        weights: &Tensor<'_>,
        bias: Option<&Tensor<'_>>,
        axis: usize,
        [from, to]: [Steps; 2],
        range: Range,
    ) -> Result<Weighted, Error> {
        let channels = weights.shape[axis];
        let (values, scales) = weights_and_scales(weights, axis)?;
        let bias: Vec<i32> = match bias {
            None => vec![0; channels],
            Some(Tensor { kind: Kind::Int32, data: Some(data), shape, .. }) if shape[..] == [channels] => {
                data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect()
            }
            Some(bias) => {
                let expected = format!("a constant bias of {channels} int32");
                return Err(contract(operator.place(), expected, bias.place()));
            }
        };
        // Channels are outermost in a convolution's weights and innermost in a depthwise one's.
        let (count, distance) = match axis {
            0 => (values.len() / channels, 1),
            _ => (values.len() / channels, channels),
        };
        let mut with_zero = Vec::with_capacity(channels);
        let mut factor = Vec::with_capacity(channels);
        for channel in 0..channels {
            let first = if axis == 0 { channel * count } else { channel };
            let of_channel = || values[first..].iter().step_by(distance).take(count).map(|&w| i64::from(w));
            let (sum, magnitude) = (of_channel().sum::<i64>(), of_channel().map(i64::abs).sum::<i64>());
            // Whatever the input's bytes and whatever a kernel takes from them first, no sum may leave i32, and no
            // scaled sum what an i32 can hold.
            let bound = i64::from(bias[channel]).abs() + 512 * magnitude;
            let channel_factor = from.scale * scales[channel % scales.len()] / to.scale;
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
            with_zero.push((i64::from(bias[channel]) - i64::from(from.zero) * sum) as i32);
            factor.push(channel_factor);
        }
        Ok(Weighted { weights: values, bias: with_zero, factor, range })
    }
}

/// Weights as int8 around zero, and one scale, or one for each index along `axis`.
fn weights_and_scales(weights: &Tensor<'_>, axis: usize) -> Result<(Vec<i8>, Vec<f32>), Error> {
    let (Some(data), Some(quantization)) = (weights.data, &weights.quantization) else {
        return Err(contract(weights.place(), "constant quantized weights", "others"));
    };
    let scales: Vec<f32> = quantization.scales.iter().map(f32::from_le_bytes).collect();
    let zeros: Vec<i64> = quantization.zero_points.iter().map(i64::from_le_bytes).collect();
    let channels = weights.shape[axis];
    let along = usize::try_from(quantization.axis).ok();
    if scales.len() != 1 && (scales.len() != channels || along != Some(axis)) {
        let expected = format!("one scale, or {channels} along axis {axis}");
        let found = format!("{} along {}", scales.len(), quantization.axis);
        return Err(contract(weights.place(), expected, found));
    }
    let values: Option<Vec<i8>> = match weights.kind {
        Kind::Int8 if zeros.iter().all(|&zero| zero == 0) => {
            Some(data.iter().map(|&byte| byte as i8).collect())
        }
        Kind::Uint8 if zeros.len() == 1 => {
            data.iter().map(|&byte| i8::try_from(i64::from(byte) - zeros[0]).ok()).collect()
        }
        _ => None,
    };
    match values {
        Some(values) => Ok((values, scales)),
        None => {
            Err(contract(weights.place(), "weights that lie from -128 to 127 around their zero", "others"))
        }
    }
}
