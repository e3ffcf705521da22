//! Convolution: cuts the work into jobs for the kernels. Every address that a kernel gets is made here, from places that
//! [`Convolution::new`] checked.
//!
//! Two orders of work. Where all panels fit beside a few rows in the first cache, rows go outside: what was just read is
//! read again by the next block. Otherwise blocks go outside: a panel is read once, and the whole map, which is small
//! by then, once for each block. With a pool behind it, rows go outside and only as many are kept as the pool's window is high.

use super::pool;
use crate::{
    kernels::{Job, Kernel, Kernels, SLACK, pooling::PoolWindow},
    pack::{self, Block, Weights},
    plan::layout::View,
    quant::Range,
};

/// Bytes of rows and of panels that go together when rows go outside.
const ROWS_LEN: usize = 16 << 10;
const PANELS_LEN: usize = 16 << 10;

/// A convolution ready to run.
#[derive(Debug)]
pub(crate) struct Convolution {
    kernels: &'static Kernels,
    from: View,
    to: View,
    /// Rows of the output that have a place: all, or a ring of as many as a pool needs.
    kept_rows: usize,
    /// Byte of the first output pixel's first tap, in the arena.
    input: usize,
    input_row: usize,
    input_pixel: usize,
    taps: Vec<usize>,
    k: usize,
    blocks: Vec<BlockWeights>,
    range: Range,
    /// Output rows that are done before the next block's turn.
    rows_at_once: usize,
}

/// A block with its panel and, in slot order, where its sums begin and what they are multiplied with.
#[derive(Debug)]
struct BlockWeights {
    block: Block,
    panel: Vec<u8>,
    bias: Vec<i32>,
    factor: Vec<f32>,
}

/// A convolution as the plan finds it.
pub(crate) struct Parts<'a> {
    /// Output channels x height x width x input channels.
    pub(crate) weights: &'a [i8],
    /// Height and width of the window.
    pub(crate) size: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
    /// Rows above and columns left of the first window's first pixel that lie in the rim.
    pub(crate) before: [usize; 2],
    /// One for each output channel, the input's zero point already taken into account.
    pub(crate) bias: &'a [i32],
    /// One for each output channel.
    pub(crate) factor: &'a [f32],
    pub(crate) range: Range,
}

/// The pool that takes a convolution's rows as they come.
#[derive(Debug)]
pub(crate) struct RowPool {
    pub(crate) window: PoolWindow,
    pub(crate) range: Range,
    pub(crate) to: View,
}

impl Convolution {
    /// `to` is the whole output; its buffer holds `kept_rows` of its rows.
    ///
    /// `None` where a kernel would have to look or write outside the two buffers, which a sound layout rules out.
    pub(crate) fn new(
        kernels: &'static Kernels,
        parts: &Parts<'_>,
        from: &View,
        to: &View,
        kept_rows: usize,
    ) -> Option<Convolution> {
        let (count, k) = Convolution::runs(parts.size, parts.dilations, from);
        let (columns, column_distance) = (count / parts.size[0], parts.dilations[1] * from.pixel);
        let taps: Vec<usize> = (0..count)
            .map(|tap| (tap / columns) * parts.dilations[0] * from.row + (tap % columns) * column_distance)
            .collect();
        let back = parts.before[0] * from.row + parts.before[1] * from.pixel;
        let input = from.start.checked_sub(back)?;

        let weights = Weights { values: parts.weights, channels: to.channels, taps: taps.len(), k };
        let mut blocks = Vec::new();
        for block in pack::blocks(kernels.blocks, to.channels) {
            let kernel = &kernels.blocks[block.kernel];
            blocks.push(BlockWeights::new(kernel, block, &weights, parts));
        }
        let panels_len: usize = blocks.iter().map(|block| block.panel.len()).sum();
        let row_len = parts.strides[0] * from.row + to.row;
        let rows_at_once =
            if panels_len <= PANELS_LEN { (ROWS_LEN / row_len.max(1)).max(1) } else { usize::MAX };
        let mut convolution = Convolution {
            kernels,
            from: from.clone(),
            to: to.clone(),
            kept_rows,
            input,
            input_row: parts.strides[0] * from.row,
            input_pixel: parts.strides[1] * from.pixel,
            taps,
            k,
            blocks,
            range: parts.range,
            rows_at_once,
        };
        let pointwise = parts.size == [1, 1] && parts.strides == [1, 1];
        if pointwise && kept_rows == to.height && from.is_one_row() && to.is_one_row() {
            // Nothing lies between the rows: one long one makes fuller tiles.
            convolution.kept_rows = 1;
            for view in [&mut convolution.from, &mut convolution.to] {
                view.width *= view.height;
                view.height = 1;
            }
        }
        convolution.is_inside().then_some(convolution)
    }

    /// How many runs of consecutive bytes a window of `size` has, and their length: where neighbouring pixels touch, a
    /// row of the window is one run.
    pub(crate) fn runs([height, width]: [usize; 2], dilations: [usize; 2], from: &View) -> (usize, usize) {
        match dilations[1] == 1 && from.is_dense_in_rows() {
            true => (height, width * from.channels),
            false => (height * width, from.channels),
        }
    }

    /// Whether every byte that a kernel may touch lies in the buffers, or for reading in the slack behind.
    fn is_inside(&self) -> bool {
        let k =
            self.blocks.iter().map(|b| self.k.next_multiple_of(self.kernels.blocks[b.block.kernel].kr)).max();
        let reach = (self.to.height - 1) * self.input_row
            + (self.to.width - 1) * self.input_pixel
            + self.taps.last().copied().unwrap_or(0);
        let read = self.input + reach + self.k <= self.from.buffer.end
            && k.is_some_and(|k| k - self.k < SLACK)
            && self.input >= self.from.buffer.start;
        let to = &self.to;
        let written = to.start >= to.buffer.start
            && to.start + (self.kept_rows - 1) * to.row + (to.width - 1) * to.pixel + to.channels
                <= to.buffer.end;
        let apart = self.from.buffer.end <= to.buffer.start || to.buffer.end <= self.from.buffer.start;
        read && written && apart
    }

    /// Multiply-adds of one run, without those that only fill up a kernel's groups.
    pub(crate) fn multiply_adds(&self) -> usize {
        self.to.height * self.to.width * self.to.channels * self.taps.len() * self.k
    }

    /// Computes the whole output.
    pub(crate) fn run(&self, arena: &mut [u8]) {
        let mut row = 0;
        while row < self.to.height {
            let rows = self.rows_at_once.min(self.to.height - row);
            self.rows(arena, row, rows, self.kept(row));
            row += rows;
        }
    }

    /// Computes the output row by row, keeping only as many as the pool's window is high, and pools what is complete.
    pub(crate) fn run_pooled(&self, arena: &mut [u8], pool: &RowPool) {
        let mut done = 0;
        for y in 0..pool.to.height {
            let rows = pool.window.under(0, y, self.to.height);
            while done < rows.end {
                self.rows(arena, done, 1, self.kept(done));
                done += 1;
            }
            let from = (&self.to, self.kept_rows);
            pool::max_row(arena, self.kernels, &pool.window, pool.range, from, &pool.to, y);
        }
    }

    /// Where output row `row` lies.
    fn kept(&self, row: usize) -> usize {
        self.to.start + row % self.kept_rows * self.to.row
    }

    /// Output rows from `first` on, stored from byte `output` of the arena on.
    fn rows(&self, arena: &mut [u8], first: usize, rows: usize, output: usize) {
        assert!(arena.len() >= self.from.buffer.end + SLACK && arena.len() >= self.to.buffer.end + SLACK);
        assert!(first + rows <= self.to.height);
        let memory = arena.as_mut_ptr();
        for weights in &self.blocks {
            let kernel = &self.kernels.blocks[weights.block.kernel];
            // SAFETY: `is_inside` showed that input and output of all rows lie in their buffers, which the arena holds
            // with the slack (asserted above), and that the two do not overlap. Callers ask for rows in a ring one by
            // one.
            unsafe {
                let job = Job {
                    input: memory.add(self.input + first * self.input_row),
                    input_row: self.input_row,
                    input_pixel: self.input_pixel,
                    taps: self.taps.as_ptr(),
                    tap_count: self.taps.len(),
                    k: self.k.next_multiple_of(kernel.kr),
                    weights: weights.panel.as_ptr(),
                    bias: weights.bias.as_ptr(),
                    factor: weights.factor.as_ptr(),
                    output: memory.add(output + weights.block.first),
                    output_row: self.to.row,
                    output_pixel: self.to.pixel,
                    rows,
                    width: self.to.width,
                    channels: kernel.nr.min(self.to.channels - weights.block.first),
                    range: self.range,
                };
                // The set's kernels came from `kernels::obtain`, so the CPU has their features.
                (kernel.run)(&job);
            }
        }
    }
}

impl BlockWeights {
    fn new(kernel: &Kernel, block: Block, weights: &Weights<'_>, parts: &Parts<'_>) -> BlockWeights {
        let channel_len = weights.taps * weights.k;
        let channels = || kernel.order.iter().map(|&slot| block.first + usize::from(slot));
        // A kernel that takes an offset from every input byte gets it back here.
        let offset = |channel: usize| -> i32 {
            let values = &weights.values[channel * channel_len..][..channel_len];
            kernel.input_zero * values.iter().map(|&weight| i32::from(weight)).sum::<i32>()
        };
        let bias = channels().map(|c| parts.bias.get(c).map_or(0, |bias| bias + offset(c))).collect();
        let factor = channels().map(|c| parts.factor.get(c).copied().unwrap_or(0.0)).collect();
        BlockWeights { block, panel: pack::panel(kernel, weights, block.first), bias, factor }
    }
}
