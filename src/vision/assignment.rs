//! Maximum-weight assignment: each row of a weight matrix gets a column of its own, so that the sum of the
//! weights is the largest (Hungarian method with potentials and shortest augmenting paths, O(rows² ·
//! columns)).
//!
//! Weights are integers, so the result is exact. It is deterministic: where several columns are equally good,
//! the augmenting path takes the lowest one.

/// Returns the column of each row. `weights` has one row per element; all rows are of the same length.
///
/// Panics if there are more rows than columns. Sums of weights must fit into an `i64`.
pub fn max_weight_assignment(weights: &[Vec<i64>]) -> Vec<usize> {
    let columns = weights.first().map_or(0, Vec::len);
    assert!(weights.len() <= columns || weights.is_empty(), "more rows than columns");
    let mut solver = Solver::new(weights, columns);
    for row in 0..weights.len() {
        solver.assign(row);
    }
    solver.column_of.into_iter().flatten().collect()
}

/// The state between two rows.
///
/// Invariants: `row_potential[row] + column_potential[column] >= weights[row][column]` everywhere, with
/// equality for assigned pairs; an unassigned column has the potential 0. An assignment of all rows is then
/// the best one.
struct Solver<'a> {
    weights: &'a [Vec<i64>],
    columns: usize,
    row_potential: Vec<i64>,
    column_potential: Vec<i64>,
    column_of: Vec<Option<usize>>,
    row_of: Vec<Option<usize>>,
}

impl<'a> Solver<'a> {
    fn new(weights: &'a [Vec<i64>], columns: usize) -> Solver<'a> {
        let largest = |row: &Vec<i64>| row.iter().copied().max().unwrap_or_default();
        Solver {
            weights,
            columns,
            row_potential: weights.iter().map(largest).collect(),
            column_potential: vec![0; columns],
            column_of: vec![None; weights.len()],
            row_of: vec![None; columns],
        }
    }

    /// By how much the potentials of a row and a column exceed their weight.
    fn slack(&self, row: usize, column: usize) -> i64 {
        self.row_potential[row] + self.column_potential[column] - self.weights[row][column]
    }

    /// Assigns one more row. Rows that are assigned already may get another column.
    fn assign(&mut self, root: usize) {
        // For each column, the smallest slack to a row of the tree, and that row.
        let mut slack: Vec<i64> = (0..self.columns).map(|column| self.slack(root, column)).collect();
        let mut parent = vec![root; self.columns];
        let mut in_tree = vec![false; self.columns];
        let mut tree_rows = vec![root];
        let end = loop {
            // Of equally near columns a free one, which ends the search.
            let nearest = (0..self.columns)
                .filter(|&column| !in_tree[column])
                .min_by_key(|&column| (slack[column], self.row_of[column].is_some()));
            let Some(column) = nearest else { unreachable!("there are at least as many columns as rows") };
            let delta = slack[column];
            tree_rows.iter().for_each(|&row| self.row_potential[row] -= delta);
            for other in 0..self.columns {
                if in_tree[other] {
                    self.column_potential[other] += delta;
                } else {
                    slack[other] -= delta;
                }
            }
            in_tree[column] = true;
            let Some(row) = self.row_of[column] else { break column };
            tree_rows.push(row);
            for other in (0..self.columns).filter(|&other| !in_tree[other]) {
                let candidate = self.slack(row, other);
                if candidate < slack[other] {
                    (slack[other], parent[other]) = (candidate, row);
                }
            }
        };
        self.augment(end, &parent);
    }

    /// Assigns the columns of the path from `end` to the root to their parents.
    fn augment(&mut self, end: usize, parent: &[usize]) {
        let mut next = Some(end);
        while let Some(column) = next {
            let row = parent[column];
            self.row_of[column] = Some(row);
            next = self.column_of[row].replace(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total(weights: &[Vec<i64>], columns: &[usize]) -> i64 {
        columns.iter().zip(weights).map(|(&column, row)| row[column]).sum()
    }

    /// The largest sum of all assignments of the rows to columns that are not `taken`.
    fn brute_force(weights: &[Vec<i64>], taken: &mut Vec<bool>) -> i64 {
        let Some((row, rest)) = weights.split_first() else { return 0 };
        let mut best = i64::MIN;
        for column in 0..row.len() {
            if !taken[column] {
                taken[column] = true;
                best = best.max(row[column] + brute_force(rest, taken));
                taken[column] = false;
            }
        }
        best
    }

    #[test]
    fn the_sum_is_that_of_the_best_of_all_assignments() {
        let mut random = fastrand::Rng::with_seed(1);
        for run in 0..4000 {
            let rows = random.usize(1..6);
            let columns = random.usize(rows..8);
            // Narrow ranges make many ties.
            let range = [1, 3, 20, 30_000][run % 4];
            let mut weights: Vec<Vec<i64>> =
                (0..rows).map(|_| (0..columns).map(|_| random.i64(-range / 3..=range)).collect()).collect();
            if random.bool() {
                weights.iter_mut().flatten().for_each(|weight| *weight = (*weight).max(0));
            }
            let assigned = max_weight_assignment(&weights);
            let mut unique = assigned.clone();
            unique.sort_unstable();
            unique.dedup();
            assert_eq!((assigned.len(), unique.len()), (rows, rows), "{weights:?}");
            let best = brute_force(&weights, &mut vec![false; columns]);
            assert_eq!(total(&weights, &assigned), best, "{assigned:?} of {weights:?}");
        }
    }

    #[test]
    fn a_row_gives_up_its_best_column_if_the_sum_gains() {
        assert_eq!(max_weight_assignment(&[vec![10, 9, 0], vec![10, 0, 0]]), [1, 0]);
        assert_eq!(max_weight_assignment(&[vec![9, 8, 0], vec![8, 6, 0], vec![9, 0, 1]]), [1, 0, 2]);
    }

    #[test]
    fn ties_go_to_the_lowest_column_in_the_order_of_the_rows() {
        assert_eq!(max_weight_assignment(&vec![vec![5; 4]; 3]), [0, 1, 2]);
        assert_eq!(max_weight_assignment(&[vec![0, 7, 7, 0]]), [1]);
    }

    #[test]
    fn no_rows_have_no_columns() {
        assert_eq!(max_weight_assignment(&[]), [0usize; 0]);
    }
}
