//! CONV_2D: divides the work into jobs for the kernels. Every address that a kernel gets is computed here,
//! from offsets that [`Convolution::new`] checked.
//!
//! There are two loop orders. If all panels fit into the L1 cache beside a few rows, the outer loop is over
//! rows, so that the next block reads rows that are still cached. Otherwise the outer loop is over blocks:
//! each panel is read once, and the whole input, which is small in such layers, once per block. With a fused
//! pool, the outer loop is over rows, and only as many are stored as the pool's window is high.

use super::pool;
use crate::{
    kernels::{Job, Kernels, SLACK, pooling::PoolWindow},
    pack::{self, WeightValues, Weights},
    plan::{ConvolutionShape, layout::View},
    quant::OutputRange,
};

/// Maximum bytes of rows and of panels when the outer loop is over rows; together they fit into a 32 KiB L1
/// cache.
const ROWS_LEN: usize = 16 << 10;
const PANELS_LEN: usize = 16 << 10;

/// A convolution ready to run.
#[derive(Debug)]
pub(crate) struct Convolution {
    kernels: &'static Kernels,
    from: View,
    to: View,
    /// Rows of the output that are stored: all of them, or a ring of as many as a fused pool needs.
    stored_rows: usize,
    /// Arena offset of the first output pixel's first tap.
    input: usize,
    input_row: usize,
    input_pixel: usize,
    taps: Vec<usize>,
    k: usize,
    /// Panels of all blocks of [`pack::blocks`], one after the other.
    panels: Vec<u8>,
    /// In slot order, for all blocks: start values of the sums, and factors of the requantization rule.
    bias: Vec<i32>,
    factor: Vec<f32>,
    range: OutputRange,
    /// Output rows that one block computes before the next block starts.
    rows_per_pass: usize,
}

/// The parameters of a convolution, as validated by the plan.
pub(crate) struct ConvolutionSpec<'a> {
    /// Output channels x height x width x input channels.
    pub(crate) weights: WeightValues<'a>,
    /// Height and width of the window.
    pub(crate) size: [usize; 2],
    pub(crate) strides: [usize; 2],
    pub(crate) dilations: [usize; 2],
    /// Padding rows above and padding columns to the left of the input.
    pub(crate) pad_before: [usize; 2],
    /// By output channel; absorbs the input's zero point.
    pub(crate) bias: &'a [i32],
    /// By output channel.
    pub(crate) factor: &'a [f32],
    pub(crate) range: OutputRange,
}

/// The max pool that is fused with a convolution.
#[derive(Debug)]
pub(crate) struct RowPool {
    pub(crate) window: PoolWindow,
    pub(crate) range: OutputRange,
    pub(crate) to: View,
}

/// Weights, start values and factors in the order of the kernels' blocks.
struct Packed {
    panels: Vec<u8>,
    bias: Vec<i32>,
    factor: Vec<f32>,
}

impl Packed {
    /// Packs the weights of `channels` output channels, each of `taps` runs of `k` bytes.
    fn new(kernels: &Kernels, spec: &ConvolutionSpec<'_>, channels: usize, taps: usize, k: usize) -> Packed {
        let blocks = || pack::blocks(kernels.blocks, channels).map(|b| (b.first, &kernels.blocks[b.kernel]));
        let slots: usize = blocks().map(|(_, kernel)| kernel.nr).sum();
        let panels_len: usize = blocks().map(|(_, kernel)| pack::panel_len(kernel, taps, k)).sum();
        let mut panels = Vec::with_capacity(panels_len);
        let (mut bias, mut factor) = (Vec::with_capacity(slots), Vec::with_capacity(slots));
        let weights = Weights { values: spec.weights, channels, taps, k };
        for (first, kernel) in blocks() {
            pack::push_panel(&mut panels, kernel, &weights, first);
            for channel in kernel.order.iter().map(|&slot| first + usize::from(slot)) {
                // Compensates for the offset that a kernel subtracts from every input byte.
                let offset = || -> i32 {
                    let values = spec.weights.chunk(channel, taps * k);
                    kernel.input_zero * values.iter().map(i32::from).sum::<i32>()
                };
                bias.push(spec.bias.get(channel).map_or(0, |bias| bias + offset()));
                factor.push(spec.factor.get(channel).copied().unwrap_or(0.0));
            }
        }
        Packed { panels, bias, factor }
    }
}

impl Convolution {
    /// Packs a convolution. `to` is the whole output; with a fused pool its buffer stores only `ring` of the
    /// rows.
    ///
    /// Returns None if a kernel would read or write outside the two buffers. A correct layout prevents that.
    pub(crate) fn new(
        kernels: &'static Kernels,
        spec: &ConvolutionSpec<'_>,
        from: &View,
        to: &View,
        ring: Option<usize>,
    ) -> Option<Convolution> {
        let (count, k) = Convolution::runs(spec.size, spec.dilations, from);
        let (columns, column_distance) = (count / spec.size[0], spec.dilations[1] * from.pixel);
        let taps: Vec<usize> = (0..count)
            .map(|tap| (tap / columns) * spec.dilations[0] * from.row + (tap % columns) * column_distance)
            .collect();
        let back = spec.pad_before[0] * from.row + spec.pad_before[1] * from.pixel;
        let input = from.start.checked_sub(back)?;

        let Packed { panels, bias, factor } = Packed::new(kernels, spec, to.channels, count, k);
        let row_len = spec.strides[0] * from.row + to.row;
        let rows_per_pass =
            if panels.len() <= PANELS_LEN { (ROWS_LEN / row_len.max(1)).max(1) } else { usize::MAX };
        let mut convolution = Convolution {
            kernels,
            from: from.clone(),
            to: to.clone(),
            stored_rows: ring.unwrap_or(to.height),
            input,
            input_row: spec.strides[0] * from.row,
            input_pixel: spec.strides[1] * from.pixel,
            taps,
            k,
            panels,
            bias,
            factor,
            range: spec.range,
            rows_per_pass,
        };
        let pointwise = spec.size == [1, 1] && spec.strides == [1, 1];
        if pointwise && ring.is_none() && from.is_one_row() && to.is_one_row() {
            // The rows are contiguous. Treating them as one long row makes fuller tiles. A fused pool needs
            // them one by one.
            convolution.stored_rows = 1;
            for view in [&mut convolution.from, &mut convolution.to] {
                view.width *= view.height;
                view.height = 1;
            }
        }
        convolution.is_inside().then_some(convolution)
    }

    /// Returns the number of runs of consecutive bytes in a window of `size`, and their length. If
    /// neighbouring pixels are contiguous, each row of the window is one run.
    pub(crate) fn runs([height, width]: [usize; 2], dilations: [usize; 2], from: &View) -> (usize, usize) {
        match dilations[1] == 1 && from.is_dense_in_rows() {
            true => (height, width * from.channels),
            false => (height * width, from.channels),
        }
    }

    /// Returns whether every byte that a kernel may access lies in the buffers or, for reads, in the slack
    /// after them.
    fn is_inside(&self) -> bool {
        let k = self.kernels.blocks.iter().map(|kernel| self.k.next_multiple_of(kernel.kr)).max();
        let extent = (self.to.height - 1) * self.input_row
            + (self.to.width - 1) * self.input_pixel
            + self.taps.last().copied().unwrap_or(0);
        let read = self.input + extent + self.k <= self.from.buffer.end
            && k.is_some_and(|k| k - self.k < SLACK)
            && self.input >= self.from.buffer.start;
        let to = &self.to;
        let written = to.start >= to.buffer.start
            && to.start + (self.stored_rows - 1) * to.row + (to.width - 1) * to.pixel + to.channels
                <= to.buffer.end;
        let is_disjoint = self.from.buffer.end <= to.buffer.start || to.buffer.end <= self.from.buffer.start;
        read && written && is_disjoint
    }

    /// Returns how the work is divided, without the zeros that fill up a kernel's groups.
    pub(crate) fn shape(&self) -> ConvolutionShape {
        ConvolutionShape {
            rows: self.to.height,
            columns: self.to.width,
            channels: self.to.channels,
            runs: self.taps.len(),
            run_len: self.k,
        }
    }

    /// Computes the whole output.
    pub(crate) fn run(&self, arena: &mut [u8]) {
        let mut row = 0;
        while row < self.to.height {
            let rows = self.rows_per_pass.min(self.to.height - row);
            self.rows(arena, row, rows, self.row_offset(row));
            row += rows;
        }
    }

    /// Computes the output row by row into the ring, and each row of `pool` as soon as its input rows are
    /// complete.
    pub(crate) fn run_pooled(&self, arena: &mut [u8], pool: &RowPool) {
        let mut done = 0;
        for y in 0..pool.to.height {
            let rows = pool.window.under(0, y, self.to.height);
            while done < rows.end {
                self.rows(arena, done, 1, self.row_offset(done));
                done += 1;
            }
            let from = (&self.to, self.stored_rows);
            pool::max_row(arena, self.kernels, &pool.window, pool.range, from, &pool.to, y);
        }
    }

    /// Returns the arena offset of output row `row`.
    fn row_offset(&self, row: usize) -> usize {
        self.to.start + row % self.stored_rows * self.to.row
    }

    /// Computes `rows` output rows from `first` on and stores them from arena offset `output` on.
    fn rows(&self, arena: &mut [u8], first: usize, rows: usize, output: usize) {
        assert!(arena.len() >= self.from.buffer.end + SLACK && arena.len() >= self.to.buffer.end + SLACK);
        assert!(first + rows <= self.to.height);
        let memory = arena.as_mut_ptr();
        let (mut panel, mut slot) = (0, 0);
        for block in pack::blocks(self.kernels.blocks, self.to.channels) {
            let kernel = &self.kernels.blocks[block.kernel];
            let panel_end = panel + pack::panel_len(kernel, self.taps.len(), self.k);
            // SAFETY: `is_inside` showed that input and output of all rows lie in their buffers, which the
            // arena contains with the slack (asserted above), and that the two do not overlap. Callers
            // compute rows of a ring one by one.
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
                // The kernels came from `kernels::obtain`, so the CPU has their features.
                (kernel.run)(&job);
            }
            (panel, slot) = (panel_end, slot + kernel.nr);
        }
    }
}
