//! Finds operators that one instruction can execute together: a convolution and the max pool that reads its
//! output, and the two operators of the activation `x * logistic(x)`.

use super::liveness::Liveness;
use crate::graph::{Graph, Op, Operator};
use std::collections::BTreeMap;

/// Maps each convolution whose output is read by exactly one operator, a max pool, to that pool. A
/// convolution whose output is in `kept` is not fused, because its whole output must stay readable.
pub(super) fn fused_pools(graph: &Graph<'_>, liveness: &Liveness, kept: &[usize]) -> BTreeMap<usize, usize> {
    let mut fused = BTreeMap::new();
    for (index, operator) in graph.operators.iter().enumerate() {
        let (Op::Convolution { .. }, &[output]) = (&operator.op, &operator.outputs[..]) else { continue };
        if let &[reader] = &liveness.readers[output][..]
            && !kept.contains(&output)
            && matches!(graph.operators[reader - 1].op, Op::MaxPool { .. })
        {
            fused.insert(index, reader - 1);
        }
    }
    fused
}

/// Maps each MUL of a tensor and its LOGISTIC to that LOGISTIC, if nothing else reads the LOGISTIC's output:
/// one table computes both, and that output needs no memory.
pub(super) fn fused_logistics(
    graph: &Graph<'_>,
    liveness: &Liveness,
    kept: &[usize],
) -> BTreeMap<usize, usize> {
    let mut fused = BTreeMap::new();
    for (index, operator) in graph.operators.iter().enumerate() {
        let (Op::Logistic, &[input], &[output]) = (&operator.op, &operator.inputs[..], &operator.outputs[..])
        else {
            continue;
        };
        if let &[reader] = &liveness.readers[output][..]
            && !kept.contains(&output)
            && let Operator { op: Op::Multiply { .. }, inputs, .. } = &graph.operators[reader - 1]
            && (inputs[..] == [input, output] || inputs[..] == [output, input])
        {
            fused.insert(reader - 1, index);
        }
    }
    fused
}
