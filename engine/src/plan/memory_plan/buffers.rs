//! Creates the buffers: one for every tensor that is not placed inside another, with its size, padding and
//! lifetime.

use super::{Placement, element_len};
use crate::plan::liveness::Liveness;
use crate::{
    Error,
    graph::{Graph, Op, Operator, Window},
    plan::{
        geometry::{window_geometry, window_size},
        layout::{Buffer, Padding},
    },
};
use std::collections::BTreeMap;

/// Buffers by the tensor that owns them.
type Buffers = BTreeMap<usize, Buffer>;

/// Creates the buffers without padding. A buffer lives as long as any tensor in it; tensors in `kept` live to
/// the end.
pub(super) fn create(
    graph: &Graph<'_>,
    liveness: &Liveness,
    placements: &[Placement],
    kept: &[usize],
) -> Result<Buffers, Error> {
    let mut buffers = Buffers::new();
    for (tensor, placement) in placements.iter().enumerate() {
        let info = &graph.tensors[tensor];
        let written = liveness.written[tensor];
        if info.data.is_some() || (written == 0 && !graph.inputs.contains(&tensor)) {
            continue;
        }
        let last_read = liveness.readers[tensor].iter().copied().max().unwrap_or(written);
        let last = if kept.contains(&tensor) { graph.operators.len() + 1 } else { last_read };
        let root = &graph.tensors[placement.root];
        let [height, width, channels] = root.layout_shape()?;
        let buffer = buffers.entry(placement.root).or_insert(Buffer {
            height,
            width,
            pixel: channels * element_len(root)?,
            padding: Padding::default(),
            first: written,
            last,
        });
        buffer.first = buffer.first.min(written);
        buffer.last = buffer.last.max(last);
        info.layout_shape()?;
    }
    Ok(buffers)
}

/// Widens every buffer's padding to what the convolutions over it read, and shrinks the output of a
/// convolution with a fused pool to the rows that the pool needs at a time.
pub(super) fn fit_windows(
    graph: &Graph<'_>,
    placements: &[Placement],
    fused_pools: &BTreeMap<usize, usize>,
    buffers: &mut Buffers,
) -> Result<(), Error> {
    for (index, operator) in graph.operators.iter().enumerate() {
        let Op::Convolution { window, .. } = &operator.op else { continue };
        let (Some(&input), Some(&output)) = (operator.inputs.first(), operator.outputs.first()) else {
            continue;
        };
        let padding = window_padding(graph, operator, window, input, output)?;
        if let Some(buffer) = buffers.get_mut(&placements[input].root) {
            buffer.padding.widen(padding);
        }
        if let Some(&pool) = fused_pools.get(&index)
            && let Op::MaxPool { size, .. } = &graph.operators[pool].op
            && let Some(buffer) = buffers.get_mut(&output)
        {
            buffer.height = size[0].min(buffer.height);
            // The pool's output is written while the convolution still reads its input.
            let pool_output = placements[graph.operators[pool].outputs[0]].root;
            if let Some(pool_buffer) = buffers.get_mut(&pool_output) {
                pool_buffer.first = pool_buffer.first.min(index + 1);
            }
        }
    }
    Ok(())
}

/// The padding that a convolution reads around its input.
fn window_padding(
    graph: &Graph<'_>,
    operator: &Operator,
    window: &Window,
    input: usize,
    output: usize,
) -> Result<Padding, Error> {
    let (input, output) = (graph.tensors[input].image_shape()?, graph.tensors[output].image_shape()?);
    let geometry = window_geometry(operator, window, window_size(graph, operator)?, input, output)?;
    Ok(geometry.padding)
}
