//! Connected components of a mask of cells.
//!
//! The runs of set cells along the rows are joined by union-find if they are close to each other. Working on
//! runs instead of cells also yields the cells of each component, and joins components with a gap between
//! them without dilating the mask first. The crates that label images do neither.

/// A sequence of set cells along a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The row.
    pub y: usize,
    /// The first column.
    pub start: usize,
    /// One past the last column.
    pub end: usize,
}

impl Run {
    /// The part within these columns and rows, the last ones excluded. None if there is none.
    pub fn within(self, left: usize, right: usize, top: usize, bottom: usize) -> Option<Run> {
        let run = Run { start: self.start.max(left), end: self.end.min(right), ..self };
        (run.start < run.end && (top..bottom).contains(&self.y)).then_some(run)
    }
}

/// A connected component, in cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// One past the last column.
    pub right: usize,
    /// One past the last row.
    pub bottom: usize,
    /// Number of cells.
    pub area: usize,
    /// The cells, row by row.
    pub runs: Vec<Run>,
}

/// Finds the connected components of the cells with this value in a mask of `width` cells per row.
///
/// Parts with at most `max_gap` cells between them are connected. The blobs are ordered by their first cell,
/// from top to bottom.
pub fn find(mask: &[u8], width: usize, value: u8, max_gap: usize) -> Vec<Blob> {
    let mut runs: Vec<Run> = Vec::new();
    // Index in `runs` of the first run of each row.
    let mut rows = vec![0];
    for (y, row) in mask.chunks_exact(width.max(1)).enumerate() {
        let mut start = None;
        for (x, &cell) in row.iter().enumerate() {
            match (cell == value, start) {
                (true, None) => start = Some(x),
                (false, Some(from)) => {
                    runs.push(Run { y, start: from, end: x });
                    start = None;
                }
                _ => {}
            }
        }
        if let Some(from) = start {
            runs.push(Run { y, start: from, end: width });
        }
        rows.push(runs.len());
    }
    let mut parents: Vec<usize> = (0..runs.len()).collect();
    for y in 0..rows.len() - 1 {
        for above in y.saturating_sub(max_gap + 1)..=y {
            join_rows(&runs, rows[above]..rows[above + 1], rows[y]..rows[y + 1], max_gap, &mut parents);
        }
    }
    collect(&runs, &mut parents)
}

/// Joins the runs of a row with those close to them in another row or in the same one.
fn join_rows(
    runs: &[Run],
    above: std::ops::Range<usize>,
    row: std::ops::Range<usize>,
    max_gap: usize,
    parents: &mut [usize],
) {
    let mut first = above.start;
    for index in row {
        let run = runs[index];
        while first < above.end && runs[first].end + max_gap < run.start {
            first += 1;
        }
        for other in (first..above.end).take_while(|&other| runs[other].start <= run.end + max_gap) {
            let (a, b) = (root(parents, index), root(parents, other));
            // The smaller index becomes the root, so blobs are in the order of their first runs.
            parents[a.max(b)] = a.min(b);
        }
    }
}

/// Returns the root of a run's component and shortens the path to it.
fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

/// Collects the runs of each root into a blob.
fn collect(runs: &[Run], parents: &mut [usize]) -> Vec<Blob> {
    let mut blobs: Vec<Blob> = Vec::new();
    let mut blob_indices = vec![usize::MAX; runs.len()];
    for (index, run) in runs.iter().enumerate() {
        let root = root(parents, index);
        if blob_indices[root] == usize::MAX {
            blob_indices[root] = blobs.len();
            blobs.push(Blob {
                left: run.start,
                top: run.y,
                right: run.end,
                bottom: run.y + 1,
                area: 0,
                runs: Vec::new(),
            });
        }
        let blob = &mut blobs[blob_indices[root]];
        blob.left = blob.left.min(run.start);
        blob.right = blob.right.max(run.end);
        blob.bottom = run.y + 1;
        blob.area += run.end - run.start;
        blob.runs.push(*run);
    }
    blobs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs(rows: &[&str], max_gap: usize) -> Vec<(usize, usize, usize, usize, usize)> {
        let mask: Vec<u8> = rows.iter().flat_map(|row| row.bytes()).map(|c| u8::from(c == b'#')).collect();
        find(&mask, rows[0].len(), 1, max_gap)
            .iter()
            .map(|b| (b.left, b.top, b.right - b.left, b.bottom - b.top, b.area))
            .collect()
    }

    #[test]
    fn neighbouring_cells_are_one_blob_and_distant_cells_are_not() {
        let rows = ["##....#", "#.....#", "......#", ".#.....", "#...###"];
        assert_eq!(
            blobs(&rows, 0),
            [(0, 0, 2, 2, 3), (6, 0, 1, 3, 3), (0, 3, 2, 2, 2), (4, 4, 3, 1, 3)],
            "corners touch"
        );
        assert_eq!(blobs(&rows, 1), [(0, 0, 2, 5, 5), (4, 0, 3, 5, 6)], "over one cell");
    }

    #[test]
    fn parts_that_meet_in_a_later_row_are_one_blob() {
        assert_eq!(blobs(&["#..#", "#..#", "####"], 0), [(0, 0, 4, 3, 8)]);
        assert_eq!(blobs(&["#.#.#", ".....", "....."], 1), [(0, 0, 5, 1, 3)], "along a row");
    }

    #[test]
    fn an_empty_mask_has_no_blob_and_a_full_mask_has_one() {
        assert_eq!(blobs(&["....", "...."], 2), []);
        assert_eq!(blobs(&["####", "####"], 2), [(0, 0, 4, 2, 8)]);
        assert_eq!(find(&[], 0, 1, 2), []);
    }
}
