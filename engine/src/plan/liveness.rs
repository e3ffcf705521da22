//! The lifetime of every tensor, by the order in which operators are executed.

use crate::graph::Graph;

/// When tensors are written and read. Operator `i` executes at time `i + 1`; graph inputs exist at time 0.
pub(super) struct Liveness {
    /// By tensor: the time at which it is written.
    pub(super) written: Vec<usize>,
    /// By tensor: the times at which it is read.
    pub(super) readers: Vec<Vec<usize>>,
}

impl Liveness {
    pub(super) fn of(graph: &Graph<'_>) -> Liveness {
        let count = graph.tensors.len();
        let mut liveness = Liveness { written: vec![0; count], readers: vec![Vec::new(); count] };
        for (index, operator) in graph.operators.iter().enumerate() {
            operator.outputs.iter().for_each(|&output| liveness.written[output] = index + 1);
            operator.inputs.iter().for_each(|&input| liveness.readers[input].push(index + 1));
        }
        liveness
    }
}
