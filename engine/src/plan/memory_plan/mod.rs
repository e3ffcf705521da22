//! Assigns every activation a view into the session's arena.
//!
//! Phases: the lifetime of every tensor ([`Liveness`]), concatenation inputs placed inside their outputs
//! ([`concatenation`]), buffers with padding and lifetime ([`buffers`]), arena offsets ([`layout`]), and
//! views.

mod buffers;
pub(super) mod concatenation;

use super::{
    fusion,
    layout::{self, Buffer, Padding, View},
    liveness::Liveness,
};
use crate::{
    Error,
    error::contract,
    graph::{DType, Graph, Tensor},
};
use concatenation::Placement;
use std::collections::BTreeMap;

/// Maximum arena size in bytes; no image network needs more for its activations.
const MAX_ARENA_LEN: usize = 64 << 20;

/// The view of every activation, and the decisions that lowering must follow.
pub(super) struct MemoryPlan {
    /// By tensor; None for constants.
    pub(super) views: Vec<Option<View>>,
    /// By tensor: the padding of its buffer.
    pub(super) paddings: Vec<Padding>,
    /// Concatenation inputs that are computed inside the output, as (operator, position of the input), and
    /// the tensor.
    pub(super) in_place: BTreeMap<(usize, usize), usize>,
    /// By convolution: the max pool that is fused with it.
    pub(super) fused_pools: BTreeMap<usize, usize>,
    /// By MUL: the LOGISTIC that is fused with it, whose output has no view.
    pub(super) fused_logistics: BTreeMap<usize, usize>,
    pub(super) arena_len: usize,
}

impl MemoryPlan {
    /// Lays out all activations of `graph`. Tensors in `kept` stay readable until the end of a run.
    ///
    /// Errors: [`Error::Contract`] for shapes that contradict each other and for more than [`MAX_ARENA_LEN`]
    /// bytes.
    pub(super) fn new(graph: &Graph<'_>, kept: &[usize]) -> Result<MemoryPlan, Error> {
        let liveness = Liveness::of(graph);
        let fused_pools = fusion::fused_pools(graph, &liveness, kept);
        let fused_logistics = fusion::fused_logistics(graph, &liveness, kept);
        let (placements, in_place) = concatenation::place_inputs(graph, &liveness)?;
        let mut buffers = buffers::create(graph, &liveness, &placements, kept)?;
        for &logistic in fused_logistics.values() {
            // Nothing else is in this buffer, because only a concatenation's inputs share one.
            buffers.remove(&graph.operators[logistic].outputs[0]);
        }
        buffers::fit_windows(graph, &placements, &fused_pools, &mut buffers)?;

        let (roots, buffers): (Vec<usize>, Vec<Buffer>) = buffers.into_iter().unzip();
        let total = buffers.iter().map(Buffer::len).fold(0, usize::saturating_add);
        if total > MAX_ARENA_LEN {
            return Err(contract("activations", format!("at most {MAX_ARENA_LEN} bytes"), total));
        }
        let (offsets, arena_len) = layout::assign_offsets(&buffers);
        let buffer_of = |tensor: usize| {
            let index = roots.binary_search(&placements[tensor].root).ok()?;
            Some((offsets[index], &buffers[index]))
        };
        let is_ring = |tensor: usize| {
            fused_pools.keys().any(|&convolution| graph.operators[convolution].outputs[0] == tensor)
        };
        let view = |tensor: usize| {
            let Some((offset, buffer)) = buffer_of(tensor) else { return Ok(None) };
            view(&graph.tensors[tensor], placements[tensor], offset, buffer, is_ring(tensor)).map(Some)
        };
        let count = graph.tensors.len();
        let views = (0..count).map(view).collect::<Result<Vec<_>, Error>>()?;
        let paddings = (0..count)
            .map(|tensor| buffer_of(tensor).map_or(Padding::default(), |(_, buffer)| buffer.padding))
            .collect();
        Ok(MemoryPlan { views, paddings, in_place, fused_pools, fused_logistics, arena_len })
    }
}

/// The view of a tensor in a buffer that begins at byte `offset` of the arena. A ring stores only the rows
/// that a fused pool needs at a time.
fn view(
    tensor: &Tensor<'_>,
    placement: Placement,
    offset: usize,
    buffer: &Buffer,
    is_ring: bool,
) -> Result<View, Error> {
    let [height, width, channels] = tensor.layout_shape()?;
    let (row, element_len) = (buffer.row(), element_len(tensor)?);
    let stored_rows = if is_ring { buffer.height } else { height };
    let is_inside = placement.top + stored_rows <= buffer.height
        && placement.left + width <= buffer.width
        && placement.channel + channels * element_len <= buffer.pixel;
    if !is_inside {
        return Err(contract(tensor.location(), "a placement inside its buffer", format!("{placement:?}")));
    }
    let start = offset + buffer.origin() + placement.top * row + placement.left * buffer.pixel;
    Ok(View {
        start: start + placement.channel,
        row,
        pixel: buffer.pixel,
        height,
        width,
        channels,
        element_len,
        buffer: offset..offset + buffer.len(),
    })
}

fn element_len(tensor: &Tensor<'_>) -> Result<usize, Error> {
    match tensor.dtype {
        DType::Int8 | DType::Uint8 => Ok(1),
        DType::Float32 => Ok(4),
        other => Err(contract(tensor.location(), "activations of int8, uint8 or float32", other)),
    }
}
