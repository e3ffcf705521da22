//! Places the inputs of concatenations inside the output's buffer, so that nothing has to be copied.
//!
//! A placement is rejected when an operator would then read and write the same buffer, or when a SAME
//! convolution would read a neighbouring input instead of padding. What cannot be placed is copied, see
//! [`crate::plan::lower`].

use crate::plan::liveness::Liveness;
use crate::{
    Error,
    error::contract,
    graph::{DType, FusedActivation, Graph, Op, Operator, PaddingMode},
};
use std::collections::BTreeMap;

/// Where a tensor lies before buffers have their offsets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    /// The tensor that owns the buffer.
    pub(super) root: usize,
    /// Distance in pixels, and for `channel` in bytes, from the root's first byte.
    pub(super) top: usize,
    pub(super) left: usize,
    pub(super) channel: usize,
}

impl Placement {
    /// A tensor with a buffer of its own.
    fn own_buffer(root: usize) -> Placement {
        Placement { root, top: 0, left: 0, channel: 0 }
    }
}

/// Concatenation inputs that need no copy, as (operator, position of the input), and the tensor.
type InPlace = BTreeMap<(usize, usize), usize>;

/// Returns the placement of every tensor, relative to the tensor that owns its buffer, and the inputs that
/// are placed inside their outputs.
pub(super) fn place_inputs(
    graph: &Graph<'_>,
    liveness: &Liveness,
) -> Result<(Vec<Placement>, InPlace), Error> {
    let (mut placements, mut in_place) = place_all(graph, liveness)?;
    // Rejecting a placement only ever splits buffers, so two or three iterations suffice.
    loop {
        let resolved = resolve(graph, &placements);
        let conflicts = conflicts(graph, &placements, &resolved, &in_place);
        if conflicts.is_empty() {
            return Ok((resolved, in_place));
        }
        conflicts.into_iter().for_each(|tensor| placements[tensor] = Placement::own_buffer(tensor));
        in_place.retain(|_, placed| placements[*placed].root != *placed);
    }
}

/// Places every input that may lie inside its output. Placements are relative to the output of the
/// concatenation.
fn place_all(graph: &Graph<'_>, liveness: &Liveness) -> Result<(Vec<Placement>, InPlace), Error> {
    let count = graph.tensors.len();
    let mut placements: Vec<Placement> = (0..count).map(Placement::own_buffer).collect();
    let mut is_placed = vec![false; count];
    let mut in_place = BTreeMap::new();
    for (index, operator) in graph.operators.iter().enumerate() {
        let Op::Concatenation { axis, activation: FusedActivation::None } = operator.op else { continue };
        let axis = concatenation_axis(graph, operator, axis)?;
        let whole = &graph.tensors[operator.outputs[0]];
        let mut next = Placement::own_buffer(operator.outputs[0]);
        for (position, &input) in operator.inputs.iter().enumerate() {
            let tensor = &graph.tensors[input];
            let [height, width, channels] = tensor.layout_shape()?;
            let placement = next;
            match axis {
                0 => next.top += height,
                1 => next.left += width,
                _ => next.channel += channels,
            }
            let same_quantization = whole.dtype == tensor.dtype
                && whole.scale_and_zero_point().ok() == tensor.scale_and_zero_point().ok();
            // The caller fills a graph input, so it keeps a buffer of its own.
            let is_movable = !is_placed[input] && liveness.written[input] > 0 && tensor.data.is_none();
            if same_quantization && is_movable && tensor.dtype != DType::Float32 {
                is_placed[input] = true;
                placements[input] = placement;
                in_place.insert((index, position), input);
            }
        }
    }
    Ok((placements, in_place))
}

/// Returns the axis of a concatenation: height (0), width (1) or channels (2).
///
/// Errors: [`Error::Operator`] for another axis, [`Error::Contract`] when the inputs do not add up to the
/// output.
pub(in crate::plan) fn concatenation_axis(
    graph: &Graph<'_>,
    operator: &Operator,
    axis: i32,
) -> Result<usize, Error> {
    let &[output] = &operator.outputs[..] else {
        return Err(contract(operator.location(), "one output", operator.outputs.len()));
    };
    let output = &graph.tensors[output];
    let rank = output.shape.len();
    let counted = i64::from(axis) + if axis < 0 { rank as i64 } else { 0 };
    let axis = usize::try_from(counted + 3 - rank as i64).ok().filter(|&axis| axis < 3);
    let axis = axis
        .ok_or_else(|| operator.refuse("concatenates along an axis other than height, width or channels"))?;
    let whole = output.layout_shape()?;
    let mut total = 0;
    for &input in &operator.inputs {
        let input = &graph.tensors[input];
        let shape = input.layout_shape()?;
        let fits = (0..3).all(|other| other == axis || shape[other] == whole[other]);
        if input.shape.len() != rank || !fits {
            return Err(contract(operator.location(), "inputs that fit its output", input.location()));
        }
        total += shape[axis];
    }
    if total != whole[axis] {
        return Err(contract(operator.location(), format!("inputs of {} in total", whole[axis]), total));
    }
    Ok(axis)
}

/// Makes placements relative to the buffer's owner instead of to the next concatenation's output. The output
/// that a tensor is placed in is written after it, so operators are visited in reverse order.
fn resolve(graph: &Graph<'_>, placements: &[Placement]) -> Vec<Placement> {
    let mut resolved = placements.to_vec();
    for &tensor in graph.operators.iter().rev().flat_map(|operator| &operator.outputs) {
        let (placement, parent) = (placements[tensor], resolved[placements[tensor].root]);
        if placement.root != tensor {
            resolved[tensor] = Placement {
                root: parent.root,
                top: placement.top + parent.top,
                left: placement.left + parent.left,
                channel: placement.channel + parent.channel,
            };
        }
    }
    resolved
}

/// Returns whether a tensor covers all pixels of its root, if not all channels. The root's padding is then
/// its own.
fn covers_root(graph: &Graph<'_>, placement: Placement, tensor: usize) -> bool {
    let size =
        |tensor: usize| graph.tensors[tensor].layout_shape().map(|[height, width, _]| [height, width]).ok();
    placement.top + placement.left == 0 && size(placement.root) == size(tensor)
}

/// Returns the placed tensors that need buffers of their own, see the head of this file.
fn conflicts(
    graph: &Graph<'_>,
    placements: &[Placement],
    resolved: &[Placement],
    in_place: &InPlace,
) -> Vec<usize> {
    let is_placed = |tensor: &usize| placements[*tensor].root != *tensor;
    let conflict = |operator: &Operator| {
        let &output = operator.outputs.first()?;
        if let (Op::Convolution { window, .. }, Some(input)) = (&operator.op, operator.inputs.first())
            && window.padding == PaddingMode::Same
            && is_placed(input)
            && !covers_root(graph, resolved[*input], *input)
        {
            return Some(*input);
        }
        operator.inputs.iter().enumerate().find_map(|(position, &input)| {
            let is_shared = resolved[input].root == resolved[output].root
                && !in_place.contains_key(&(operator.index, position));
            if is_shared { [output, input].into_iter().find(is_placed) } else { None }
        })
    };
    graph.operators.iter().filter_map(conflict).collect()
}
