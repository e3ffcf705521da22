//! Finds operators that one instruction can execute together: a convolution and the max pool that reads its
//! output.

use super::liveness::Liveness;
use crate::graph::{Graph, Op};
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
