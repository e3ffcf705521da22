//! The operators of the schema that camfire supports: codes, names and options.

use super::flatbuffer::Table;
use crate::{
    Error,
    error::contract,
    graph::{FusedActivation, Op, PaddingMode, Window},
};

/// Codes of `BuiltinOperator` and the schema's names. Unsupported operators are listed for error messages.
const NAMES: &[(i32, &str)] = &[
    (0, "ADD"),
    (1, "AVERAGE_POOL_2D"),
    (2, "CONCATENATION"),
    (3, "CONV_2D"),
    (4, "DEPTHWISE_CONV_2D"),
    (6, "DEQUANTIZE"),
    (9, "FULLY_CONNECTED"),
    (14, "LOGISTIC"),
    (17, "MAX_POOL_2D"),
    (18, "MUL"),
    (19, "RELU"),
    (21, "RELU6"),
    (22, "RESHAPE"),
    (23, "RESIZE_BILINEAR"),
    (25, "SOFTMAX"),
    (28, "TANH"),
    (32, "CUSTOM"),
    (34, "PAD"),
    (39, "TRANSPOSE"),
    (40, "MEAN"),
    (41, "SUB"),
    (43, "SQUEEZE"),
    (45, "STRIDED_SLICE"),
    (49, "SPLIT"),
    (55, "MAXIMUM"),
    (57, "MINIMUM"),
    (82, "REDUCE_MAX"),
    (97, "RESIZE_NEAREST_NEIGHBOR"),
    (98, "LEAKY_RELU"),
    (114, "QUANTIZE"),
    (117, "HARD_SWISH"),
];

/// Returns the schema's name of an operator, or its code if it is not listed.
pub(super) fn code_name(code: i32) -> String {
    match NAMES.iter().find(|(known, _)| *known == code) {
        Some((_, name)) => name.to_string(),
        None => format!("builtin code {code}"),
    }
}

/// Reads the options of operator `code`. Returns [`Op::Unknown`] for an operator that camfire does not
/// support.
pub(super) fn read(code: i32, table: &Table<'_>) -> Result<Op, Error> {
    // The union's type in the neighbouring field identifies the table; a table of another type would be
    // misread.
    let options = |union_type: u8| -> Result<Table<'_>, Error> {
        let found = table.u8(3)?.unwrap_or(0);
        match table.table(4, table.location.clone() + ", options")? {
            Some(options) if found == union_type => Ok(options),
            _ => Err(contract(
                &table.location,
                format!("options of type {union_type}"),
                format!("type {found}"),
            )),
        }
    };
    Ok(match code {
        0 => Op::Add { activation: activation(&options(11)?, 0)? },
        1 | 17 => {
            let options = options(5)?;
            let window = window(&options, None)?;
            let size = [count(&options, 4, 0)?, count(&options, 3, 0)?];
            let activation = activation(&options, 5)?;
            match code {
                1 => Op::AveragePool { window, size, activation },
                _ => Op::MaxPool { window, size, activation },
            }
        }
        2 => {
            let options = options(10)?;
            Op::Concatenation { axis: options.i32(0)?.unwrap_or(0), activation: activation(&options, 1)? }
        }
        3 => {
            let options = options(1)?;
            Op::Convolution { window: window(&options, Some(4))?, activation: activation(&options, 3)? }
        }
        4 => {
            let options = options(2)?;
            let window = window(&options, Some(5))?;
            Op::Depthwise { window, multiplier: count(&options, 3, 0)?, activation: activation(&options, 4)? }
        }
        6 => Op::Dequantize,
        9 => {
            let options = options(8)?;
            if options.u8(1)?.unwrap_or(0) != 0 {
                return Err(contract(&options.location, "weights in row order", "shuffled weights"));
            }
            Op::FullyConnected { activation: activation(&options, 0)? }
        }
        14 => Op::Logistic,
        18 => Op::Multiply { activation: activation(&options(21)?, 0)? },
        22 => Op::Reshape,
        25 => Op::Softmax { beta: options(9)?.f32(0)?.unwrap_or(0.0) },
        34 => Op::Pad,
        39 => Op::Transpose,
        40 => Op::Mean { keep_dims: options(27)?.u8(0)?.unwrap_or(0) != 0 },
        45 => {
            let options = options(32)?;
            let mask = |slot: usize| Ok::<i32, Error>(options.i32(slot)?.unwrap_or(0));
            let has_offset = options.u8(5)?.unwrap_or(0) != 0;
            Op::StridedSlice {
                begin_mask: mask(0)?,
                end_mask: mask(1)?,
                keeps_axes: mask(2)? == 0 && mask(3)? == 0 && mask(4)? == 0 && !has_offset,
            }
        }
        97 => {
            let options = options(74)?;
            let is_set = |slot: usize| Ok::<bool, Error>(options.u8(slot)?.unwrap_or(0) != 0);
            Op::ResizeNearest { align_corners: is_set(0)?, half_pixel_centers: is_set(1)? }
        }
        98 => Op::LeakyRelu { slope: options(75)?.f32(0)?.unwrap_or(0.0) },
        114 => Op::Quantize,
        _ => Op::Unknown,
    })
}

/// Reads how a window moves. `dilations` is the slot of the dilation along the width, which precedes that
/// along the height. None for an operator without dilation.
fn window(options: &Table<'_>, dilations: Option<usize>) -> Result<Window, Error> {
    Ok(Window {
        padding: padding(options, 0)?,
        strides: [count(options, 2, 0)?, count(options, 1, 0)?],
        dilations: match dilations {
            Some(slot) => [count(options, slot + 1, 1)?, count(options, slot, 1)?],
            None => [1, 1],
        },
    })
}

fn padding(options: &Table<'_>, slot: usize) -> Result<PaddingMode, Error> {
    match options.u8(slot)?.unwrap_or(0) {
        0 => Ok(PaddingMode::Same),
        1 => Ok(PaddingMode::Valid),
        other => Err(contract(&options.location, "padding SAME or VALID", other)),
    }
}

fn activation(options: &Table<'_>, slot: usize) -> Result<FusedActivation, Error> {
    match options.u8(slot)?.unwrap_or(0) {
        0 => Ok(FusedActivation::None),
        1 => Ok(FusedActivation::Relu),
        3 => Ok(FusedActivation::Relu6),
        other => Err(contract(&options.location, "activation NONE, RELU or RELU6", other)),
    }
}

/// Reads a stride, a size, a dilation or a multiplier.
fn count(options: &Table<'_>, slot: usize, default: i32) -> Result<usize, Error> {
    let found = options.i32(slot)?.unwrap_or(default);
    match usize::try_from(found) {
        Ok(count @ 1..=1024) => Ok(count),
        _ => Err(contract(&options.location, "sizes, strides and dilations from 1 to 1024", found)),
    }
}
