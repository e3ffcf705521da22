//! Connected areas of a mask of cells.
//!
//! Runs of marked cells along the rows are joined where they are near each other (union-find). Runs rather than cells,
//! because they also say which cells a blob holds, and because cells that nearly touch can be joined without a second,
//! thickened mask; the crates that label images do neither.

/// Marked cells along a row, from `start` up to but not with `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The row.
    pub y: usize,
    /// The first cell.
    pub start: usize,
    /// Behind the last cell.
    pub end: usize,
}

/// A connected area, in cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The first column.
    pub left: usize,
    /// The first row.
    pub top: usize,
    /// Behind the last column.
    pub right: usize,
    /// Behind the last row.
    pub bottom: usize,
    /// Cells in it.
    pub area: usize,
    /// Those cells, row by row.
    pub runs: Vec<Run>,
}

/// The blobs of a mask of `width` cells a row in which cells of `mark` count; parts that are at most `reach` cells apart
/// are one. From top to bottom, by their first cells.
pub fn find(mask: &[u8], width: usize, mark: u8, reach: usize) -> Vec<Blob> {
    let mut runs: Vec<Run> = Vec::new();
    // Of each row, where its runs begin in `runs`.
    let mut rows = vec![0];
    for (y, row) in mask.chunks_exact(width.max(1)).enumerate() {
        let mut start = None;
        for (x, &cell) in row.iter().enumerate() {
            match (cell == mark, start) {
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
        for above in y.saturating_sub(reach + 1)..=y {
            join_rows(&runs, rows[above]..rows[above + 1], rows[y]..rows[y + 1], reach, &mut parents);
        }
    }
    collect(&runs, &mut parents)
}

/// Joins the runs of one row with those near them of another, or of the same.
fn join_rows(
    runs: &[Run],
    above: std::ops::Range<usize>,
    row: std::ops::Range<usize>,
    reach: usize,
    parents: &mut [usize],
) {
    let mut first = above.start;
    for index in row {
        let run = runs[index];
        while first < above.end && runs[first].end + reach < run.start {
            first += 1;
        }
        for other in (first..above.end).take_while(|&other| runs[other].start <= run.end + reach) {
            let (a, b) = (root(parents, index), root(parents, other));
            // The smaller number is the root: blobs come in the order of their first runs.
            parents[a.max(b)] = a.min(b);
        }
    }
}

fn root(parents: &mut [usize], mut index: usize) -> usize {
    while parents[index] != index {
        parents[index] = parents[parents[index]];
        index = parents[index];
    }
    index
}

fn collect(runs: &[Run], parents: &mut [usize]) -> Vec<Blob> {
    let mut blobs: Vec<Blob> = Vec::new();
    let mut places = vec![usize::MAX; runs.len()];
    for (index, run) in runs.iter().enumerate() {
        let root = root(parents, index);
        if places[root] == usize::MAX {
            places[root] = blobs.len();
            blobs.push(Blob {
                left: run.start,
                top: run.y,
                right: run.end,
                bottom: run.y + 1,
                area: 0,
                runs: Vec::new(),
            });
        }
        let blob = &mut blobs[places[root]];
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

    fn blobs(rows: &[&str], reach: usize) -> Vec<(usize, usize, usize, usize, usize)> {
        let mask: Vec<u8> = rows.iter().flat_map(|row| row.bytes()).map(|c| u8::from(c == b'#')).collect();
        find(&mask, rows[0].len(), 1, reach)
            .iter()
            .map(|b| (b.left, b.top, b.right - b.left, b.bottom - b.top, b.area))
            .collect()
    }

    #[test]
    fn neighbours_are_one_blob_and_strangers_are_not() {
        let rows = ["##....#", "#.....#", "......#", ".#.....", "#...###"];
        assert_eq!(
            blobs(&rows, 0),
            [(0, 0, 2, 2, 3), (6, 0, 1, 3, 3), (0, 3, 2, 2, 2), (4, 4, 3, 1, 3)],
            "corners touch"
        );
        assert_eq!(blobs(&rows, 1), [(0, 0, 2, 5, 5), (4, 0, 3, 5, 6)], "over one cell");
    }

    #[test]
    fn what_meets_further_down_is_one() {
        assert_eq!(blobs(&["#..#", "#..#", "####"], 0), [(0, 0, 4, 3, 8)]);
        assert_eq!(blobs(&["#.#.#", ".....", "....."], 1), [(0, 0, 5, 1, 3)], "along a row");
    }

    #[test]
    fn an_empty_mask_has_none_and_a_full_one_is_one() {
        assert_eq!(blobs(&["....", "...."], 2), []);
        assert_eq!(blobs(&["####", "####"], 2), [(0, 0, 4, 2, 8)]);
        assert_eq!(find(&[], 0, 1, 2), []);
    }
}
