//! Convolution: cuts the work into jobs for the kernels. Every address that a kernel gets is made here, from places that
//! [`Convolution::new`] checked.
//!
//! Two orders of work. Where all panels fit beside a few rows in the first cache, rows go outside: what was just read is
//! read again by the next block. Otherwise blocks go outside: a panel is read once, and the whole map, which is small
//! by then, once for each block. With a pool behind it, rows go outside and only as many are kept as the pool's window is high.

use super::pool;
use crate::{
    kernels::{Job, Kernels, SLACK, pooling::PoolWindow},
    pack::{self, Values, Weights},
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
    /// Panels of all blocks of [`pack::blocks`], one behind the other.
    panels: Vec<u8>,
    /// In slot order, for all blocks: where sums begin and what they are multiplied with.
    bias: Vec<i32>,
    factor: Vec<f32>,
    range: Range,
    /// Output rows that are done before the next block's turn.
    rows_at_once: usize,
}

/// A convolution as the plan finds it.
pub(crate) struct Parts<'a> {
    /// Output channels x height x width x input channels.
    pub(crate) weights: Values<'a>,
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
    /// `to` is the whole output. Where a pool takes its rows as they come, its buffer holds only `ring` of them.
    ///
    /// `None` where a kernel would have to look or write outside the two buffers, which a sound layout rules out.
    pub(crate) fn new(
        kernels: &'static Kernels,
        parts: &Parts<'_>,
        from: &View,
        to: &View,
        ring: Option<usize>,
    ) -> Option<Convolution> {
        let (count, k) = Convolution::runs(parts.size, parts.dilations, from);
        let (columns, column_distance) = (count / parts.size[0], parts.dilations[1] * from.pixel);
        let taps: Vec<usize> = (0..count)
            .map(|tap| (tap / columns) * parts.dilations[0] * from.row + (tap % columns) * column_distance)
            .collect();
        let back = parts.before[0] * from.row + parts.before[1] * from.pixel;
        let input = from.start.checked_sub(back)?;

        let blocks =
            || pack::blocks(kernels.blocks, to.channels).map(|b| (b.first, &kernels.blocks[b.kernel]));
        let slots: usize = blocks().map(|(_, kernel)| kernel.nr).sum();
        let panels_len: usize = blocks().map(|(_, kernel)| pack::panel_len(kernel, count, k)).sum();
        let mut panels = Vec::with_capacity(panels_len);
        let (mut bias, mut factor) = (Vec::with_capacity(slots), Vec::with_capacity(slots));
        let weights = Weights { values: parts.weights, channels: to.channels, taps: count, k };
        for (first, kernel) in blocks() {
            pack::push_panel(&mut panels, kernel, &weights, first);
            for channel in kernel.order.iter().map(|&slot| first + usize::from(slot)) {
                // A kernel that takes an offset from every input byte gets it back here.
                let offset = || -> i32 {
                    let values = parts.weights.part(channel, count * k);
                    kernel.input_zero * values.iter().map(i32::from).sum::<i32>()
                };
                bias.push(parts.bias.get(channel).map_or(0, |bias| bias + offset()));
                factor.push(parts.factor.get(channel).copied().unwrap_or(0.0));
            }
        }
        let row_len = parts.strides[0] * from.row + to.row;
        let rows_at_once =
            if panels_len <= PANELS_LEN { (ROWS_LEN / row_len.max(1)).max(1) } else { usize::MAX };
        let mut convolution = Convolution {
            kernels,
            from: from.clone(),
            to: to.clone(),
            kept_rows: ring.unwrap_or(to.height),
            input,
            input_row: parts.strides[0] * from.row,
            input_pixel: parts.strides[1] * from.pixel,
            taps,
            k,
            panels,
            bias,
            factor,
            range: parts.range,
            rows_at_once,
        };
        let pointwise = parts.size == [1, 1] && parts.strides == [1, 1];
        if pointwise && ring.is_none() && from.is_one_row() && to.is_one_row() {
            // Nothing lies between the rows: one long one makes fuller tiles. A pool needs them one by one.
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
        let k = self.kernels.blocks.iter().map(|kernel| self.k.next_multiple_of(kernel.kr)).max();
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
        let (mut panel, mut slot) = (0, 0);
        for block in pack::blocks(self.kernels.blocks, self.to.channels) {
            let kernel = &self.kernels.blocks[block.kernel];
            let panel_end = panel + pack::panel_len(kernel, self.taps.len(), self.k);
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
                    weights: self.panels[panel..panel_end].as_ptr(),
                    bias: self.bias[slot..slot + kernel.nr].as_ptr(),
                    factor: self.factor[slot..slot + kernel.nr].as_ptr(),
                    output: memory.add(output + block.first),
                    output_row: self.to.row,
                    output_pixel: self.to.pixel,
                    rows,
                    width: self.to.width,
                    channels: kernel.nr.min(self.to.channels - block.first),
                    range: self.range,
                };
                // The set's kernels came from `kernels::obtain`, so the CPU has their features.
                (kernel.run)(&job);
            }
            (panel, slot) = (panel_end, slot + kernel.nr);
        }
    }
}
