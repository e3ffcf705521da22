//! Decides which tensors share a buffer, how wide its rim is and how long it is needed, and gives every tensor its view.

use super::layout::{self, Buffer, Rim, View};
use crate::{
    Error,
    error::contract,
    graph::{Activation, Graph, Kind, Op, Operator, Padding},
};
use std::collections::BTreeMap;

/// Every activation's view, and what else the steps need to know of the layout.
pub(super) struct Places {
    /// By tensor; none for constants.
    pub(super) views: Vec<Option<View>>,
    /// By tensor: the rim of its buffer.
    pub(super) rims: Vec<Rim>,
    /// Concatenation inputs that are already where they belong: (operator, input's position) and the tensor.
    pub(super) in_place: BTreeMap<(usize, usize), usize>,
    /// By convolution: the max pool that takes its rows.
    pub(super) pooled: BTreeMap<usize, usize>,
    pub(super) arena_len: usize,
}

/// Rim and window of a convolution over an input.
pub(super) struct Geometry {
    pub(super) size: [usize; 2],
    pub(super) before: [usize; 2],
    pub(super) rim: Rim,
}

/// Checks an input against its window and the output's size.
pub(super) fn geometry(
    operator: &Operator,
    window: &crate::graph::Window,
    size: [usize; 2],
    input: [usize; 3],
    output: [usize; 3],
) -> Result<Geometry, Error> {
    let mut before = [0; 2];
    let mut after = [0; 2];
    for axis in 0..2 {
        let found = window.outputs(axis, input[axis], size[axis]);
        let Some((outputs, padding)) = found.filter(|&(outputs, _)| outputs == output[axis]) else {
            let expected = match found {
                Some((outputs, _)) => format!("{outputs} outputs along axis {}", axis + 1),
                None => "a window that fits its input".to_string(),
            };
            return Err(contract(operator.place(), expected, output[axis]));
        };
        before[axis] = padding;
        let reach = (outputs - 1) * window.strides[axis] + (size[axis] - 1) * window.dilations[axis] + 1;
        after[axis] = reach.saturating_sub(input[axis] + padding);
    }
    let rim = Rim { top: before[0], left: before[1], bottom: after[0], right: after[1] };
    Ok(Geometry { size, before, rim })
}

/// The window's height and width of a convolution's weights.
pub(super) fn window_size(graph: &Graph<'_>, operator: &Operator) -> Result<[usize; 2], Error> {
    let weights = operator.inputs.get(1).map(|&index| &graph.tensors[index]);
    match weights.map(|weights| &weights.shape[..]) {
        Some(&[_, height, width, _]) => Ok([height, width]),
        _ => Err(contract(operator.place(), "weights of four dimensions", "others")),
    }
}

/// Where a tensor lies before buffers have their places.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// The tensor whose buffer it is.
    root: usize,
    /// Pixels and bytes from the root's first.
    top: usize,
    left: usize,
    channel: usize,
}

impl Part {
    /// A tensor with a buffer of its own.
    fn whole(root: usize) -> Part {
        Part { root, top: 0, left: 0, channel: 0 }
    }
}

/// Lays out all activations of `graph`. `kept` tensors are needed to the end.
pub(super) fn places(graph: &Graph<'_>, kept: &[usize]) -> Result<Places, Error> {
    let count = graph.tensors.len();
    let steps = graph.operators.len();
    // The step that makes a tensor, and those that read it. Inputs are there before the first step.
    let mut made = vec![0; count];
    let mut readers: Vec<Vec<usize>> = vec![Vec::new(); count];
    for (step, operator) in graph.operators.iter().enumerate() {
        operator.outputs.iter().for_each(|&output| made[output] = step + 1);
        operator.inputs.iter().for_each(|&input| readers[input].push(step + 1));
    }
    let pooled = pooled(graph, &readers, kept);

    let mut parts: Vec<Part> = (0..count).map(Part::whole).collect();
    let mut taken = vec![false; count];
    let mut in_place = BTreeMap::new();
    for (index, operator) in graph.operators.iter().enumerate() {
        let Op::Concatenation { axis, activation: Activation::None } = operator.kind else { continue };
        let axis = joined_axis(graph, operator, axis)?;
        let mut part = Part::whole(operator.outputs[0]);
        for (position, &input) in operator.inputs.iter().enumerate() {
            let [height, width, channels] = graph.tensors[input].image_shape()?;
            let place = part;
            match axis {
                0 => part.top += height,
                1 => part.left += width,
                _ => part.channel += channels,
            }
            let (whole, own) = (&graph.tensors[operator.outputs[0]], &graph.tensors[input]);
            let same_steps = whole.kind == own.kind && whole.step().ok() == own.step().ok();
            // An input of the graph or a pooled convolution's ring has a place of its own.
            let free = !taken[input] && made[input] > 0 && own.data.is_none();
            if same_steps && free && own.kind != Kind::Float32 {
                taken[input] = true;
                parts[input] = place;
                in_place.insert((index, position), input);
            }
        }
    }
    // Taking parts out only ever splits buffers, so two or three rounds do.
    let parts = loop {
        let resolved = resolve(graph, &parts);
        let conflicts = conflicts(graph, &parts, &resolved, &in_place);
        if conflicts.is_empty() {
            break resolved;
        }
        conflicts.into_iter().for_each(|tensor| parts[tensor] = Part::whole(tensor));
        in_place.retain(|_, placed| parts[*placed].root != *placed);
    };

    let mut buffers: BTreeMap<usize, Buffer> = BTreeMap::new();
    for (tensor, part) in parts.iter().enumerate() {
        let info = &graph.tensors[tensor];
        if info.data.is_some() || (made[tensor] == 0 && !graph.inputs.contains(&tensor)) {
            continue;
        }
        let last = readers[tensor].iter().copied().max().unwrap_or(made[tensor]);
        let last = if kept.contains(&tensor) { steps + 1 } else { last };
        let root = &graph.tensors[part.root];
        let [height, width, channels] = root.image_shape()?;
        let element_len = element_len(root)?;
        let buffer = buffers.entry(part.root).or_insert(Buffer {
            height,
            width,
            pixel: channels * element_len,
            rim: Rim::default(),
            first: made[tensor],
            last,
        });
        buffer.first = buffer.first.min(made[tensor]);
        buffer.last = buffer.last.max(last);
        info.image_shape()?;
    }
    for (step, operator) in graph.operators.iter().enumerate() {
        if let Op::Convolution { window, .. } = &operator.kind
            && let (Some(&input), Some(&output)) = (operator.inputs.first(), operator.outputs.first())
        {
            let shapes = (graph.tensors[input].image_shape()?, graph.tensors[output].image_shape()?);
            let geometry = geometry(operator, window, window_size(graph, operator)?, shapes.0, shapes.1)?;
            let part = parts[input];
            if let Some(buffer) = buffers.get_mut(&part.root) {
                buffer.rim.widen(geometry.rim);
            }
            if let Some(&pool) = pooled.get(&step)
                && let Op::MaxPool { size, .. } = &graph.operators[pool].kind
                && let Some(buffer) = buffers.get_mut(&output)
            {
                buffer.height = size[0].min(buffer.height);
                // The pool's output is written while the convolution still reads its input.
                let pool_output = parts[graph.operators[pool].outputs[0]].root;
                if let Some(pool_buffer) = buffers.get_mut(&pool_output) {
                    pool_buffer.first = pool_buffer.first.min(step + 1);
                }
            }
        }
    }

    let (roots, list): (Vec<usize>, Vec<Buffer>) = buffers.into_iter().unzip();
    let total = list.iter().map(Buffer::len).fold(0, usize::saturating_add);
    if total > super::MOST_ARENA {
        return Err(contract("activations", format!("at most {} bytes", super::MOST_ARENA), total));
    }
    let (starts, arena_len) = layout::place(&list);
    let buffer_of = |tensor: usize| {
        let index = roots.binary_search(&parts[tensor].root).ok()?;
        Some((starts[index], &list[index]))
    };
    let rings: Vec<usize> = pooled.keys().map(|&step| graph.operators[step].outputs[0]).collect();
    let view = |tensor: usize| -> Result<Option<View>, Error> {
        let Some((start, buffer)) = buffer_of(tensor) else { return Ok(None) };
        let info = &graph.tensors[tensor];
        let [height, width, channels] = info.image_shape()?;
        let part = parts[tensor];
        let (row, element_len) = (buffer.row(), element_len(info)?);
        // Of what a pool takes row by row only some have a place.
        let rows = if rings.contains(&tensor) { buffer.height } else { height };
        let inside = part.top + rows <= buffer.height
            && part.left + width <= buffer.width
            && part.channel + channels * element_len <= buffer.pixel;
        if !inside {
            return Err(contract(info.place(), "a place inside its buffer", format!("{part:?}")));
        }
        Ok(Some(View {
            start: start + buffer.origin() + part.top * row + part.left * buffer.pixel + part.channel,
            row,
            pixel: buffer.pixel,
            height,
            width,
            channels,
            element_len,
            buffer: start..start + buffer.len(),
        }))
    };
    let views = (0..count).map(view).collect::<Result<Vec<_>, Error>>()?;
    let rims =
        (0..count).map(|tensor| buffer_of(tensor).map_or(Rim::default(), |found| found.1.rim)).collect();
    Ok(Places { views, rims, in_place, pooled, arena_len })
}

/// Along which of height (0), width (1) and channels (2) a concatenation joins, and that its inputs fit its output.
pub(super) fn joined_axis(graph: &Graph<'_>, operator: &Operator, axis: i32) -> Result<usize, Error> {
    let &[output] = &operator.outputs[..] else {
        return Err(contract(operator.place(), "one output", operator.outputs.len()));
    };
    let output = &graph.tensors[output];
    let rank = output.shape.len();
    let counted = i64::from(axis) + if axis < 0 { rank as i64 } else { 0 };
    let axis = usize::try_from(counted + 3 - rank as i64).ok().filter(|&axis| axis < 3);
    let axis =
        axis.ok_or_else(|| operator.refuse("joins along an axis other than height, width or channels"))?;
    let whole = output.image_shape()?;
    let mut joined = 0;
    for &input in &operator.inputs {
        let input = &graph.tensors[input];
        let shape = input.image_shape()?;
        let fits = (0..3).all(|other| other == axis || shape[other] == whole[other]);
        if input.shape.len() != rank || !fits {
            return Err(contract(operator.place(), "inputs that fit its output", input.place()));
        }
        joined += shape[axis];
    }
    if joined != whole[axis] {
        return Err(contract(operator.place(), format!("inputs of {} in all", whole[axis]), joined));
    }
    Ok(axis)
}

/// A part of a part is a part of the whole: every tensor's place within its root. What a tensor is a part of is made after
/// it, so that roots come first from the end.
fn resolve(graph: &Graph<'_>, parts: &[Part]) -> Vec<Part> {
    let mut resolved = parts.to_vec();
    for &tensor in graph.operators.iter().rev().flat_map(|operator| &operator.outputs) {
        let (part, of) = (parts[tensor], resolved[parts[tensor].root]);
        if part.root != tensor {
            resolved[tensor] = Part {
                root: of.root,
                top: part.top + of.top,
                left: part.left + of.left,
                channel: part.channel + of.channel,
            };
        }
    }
    resolved
}

/// Whether a tensor has all pixels of its root, if not all channels: then the root's rim is its own.
fn is_whole(graph: &Graph<'_>, part: Part, tensor: usize) -> bool {
    let size =
        |tensor: usize| graph.tensors[tensor].image_shape().map(|[height, width, _]| [height, width]).ok();
    part.top + part.left == 0 && size(part.root) == size(tensor)
}

/// Parts that must have buffers of their own after all: an operator would read and write the same buffer, or look beyond
/// the part's edge and see its neighbour instead of nothing.
fn conflicts(
    graph: &Graph<'_>,
    parts: &[Part],
    resolved: &[Part],
    in_place: &BTreeMap<(usize, usize), usize>,
) -> Vec<usize> {
    let placed = |tensor: &usize| parts[*tensor].root != *tensor;
    let conflict = |operator: &Operator| {
        let &output = operator.outputs.first()?;
        if let (Op::Convolution { window, .. }, Some(input)) = (&operator.kind, operator.inputs.first())
            && window.padding == Padding::Same
            && placed(input)
            && !is_whole(graph, resolved[*input], *input)
        {
            return Some(*input);
        }
        operator.inputs.iter().enumerate().find_map(|(position, &input)| {
            let shared = resolved[input].root == resolved[output].root
                && !in_place.contains_key(&(operator.index, position));
            if shared { [output, input].into_iter().find(placed) } else { None }
        })
    };
    graph.operators.iter().filter_map(conflict).collect()
}

/// Convolutions whose output is read by one max pool and by nobody else.
fn pooled(graph: &Graph<'_>, readers: &[Vec<usize>], kept: &[usize]) -> BTreeMap<usize, usize> {
    let mut pooled = BTreeMap::new();
    for (step, operator) in graph.operators.iter().enumerate() {
        let (Op::Convolution { .. }, &[output]) = (&operator.kind, &operator.outputs[..]) else { continue };
        if let &[reader] = &readers[output][..]
            && !kept.contains(&output)
            && matches!(graph.operators[reader - 1].kind, Op::MaxPool { .. })
        {
            pooled.insert(step, reader - 1);
        }
    }
    pooled
}

fn element_len(tensor: &crate::graph::Tensor<'_>) -> Result<usize, Error> {
    match tensor.kind {
        Kind::Int8 | Kind::Uint8 => Ok(1),
        Kind::Float32 => Ok(4),
        other => Err(contract(tensor.place(), "activations of int8, uint8 or float32", other)),
    }
}
