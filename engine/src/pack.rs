//! Packs weights into the layout that kernels read: panels of `nr` channels, see [`crate::kernels`].

use crate::kernels::Kernel;

/// Weights as stored in the file. Each is its byte minus `zero_point` and lies from -128 to 127. For int8 the
/// zero point is 0.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightValues<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) zero_point: u8,
}

/// A convolution's weights, channel by channel, tap by tap.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weights<'a> {
    /// `channels` x `taps` x `k`.
    pub(crate) values: WeightValues<'a>,
    pub(crate) channels: usize,
    pub(crate) taps: usize,
    /// Bytes of a tap, not rounded up.
    pub(crate) k: usize,
}

/// A block of output channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    /// The first channel.
    pub(crate) first: usize,
    /// The index of its kernel in the set.
    pub(crate) kernel: usize,
}

impl<'a> WeightValues<'a> {
    /// Iterates over all values.
    pub(crate) fn iter(self) -> impl Iterator<Item = i8> + Clone + 'a {
        self.bytes.iter().map(move |byte| byte.wrapping_sub(self.zero_point) as i8)
    }

    /// Returns chunk `index` of `len` values.
    pub(crate) fn chunk(self, index: usize, len: usize) -> WeightValues<'a> {
        WeightValues { bytes: &self.bytes[index * len..][..len], ..self }
    }
}

/// Divides `channels` into blocks: the widest kernel as long as it is full, then the narrowest that covers
/// the rest.
pub(crate) fn blocks(kernels: &[Kernel], channels: usize) -> impl Iterator<Item = Block> {
    let mut first = 0;
    std::iter::from_fn(move || {
        let left = channels.checked_sub(first).filter(|&left| left > 0)?;
        // Kernels are sorted by width, widest first: the last that covers the rest, or else the widest.
        let kernel = kernels.iter().rposition(|kernel| kernel.nr >= left).unwrap_or(0);
        let block = Block { first, kernel };
        first += kernels[kernel].nr;
        Some(block)
    })
}

/// Returns the bytes of one panel of `kernel`.
pub(crate) fn panel_len(kernel: &Kernel, taps: usize, k: usize) -> usize {
    let element_len = if kernel.wide { 2 } else { 1 };
    taps * k.next_multiple_of(kernel.kr) * kernel.nr * element_len
}

/// Returns the bytes of all blocks of a convolution: panels, start values and factors.
pub(crate) fn packed_len(kernels: &[Kernel], channels: usize, taps: usize, k: usize) -> usize {
    let block_len = |block: Block| {
        let kernel = &kernels[block.kernel];
        panel_len(kernel, taps, k) + 8 * kernel.nr
    };
    blocks(kernels, channels).map(block_len).sum()
}

/// Appends the panel of the block that begins with channel `first` to `panels`. Channels and bytes beyond the
/// last are zeros.
pub(crate) fn push_panel(panels: &mut Vec<u8>, kernel: &Kernel, weights: &Weights<'_>, first: usize) {
    let start = panels.len();
    panels.resize(start + panel_len(kernel, weights.taps, weights.k), 0);
    let panel = &mut panels[start..];
    let element_len = if kernel.wide { 2 } else { 1 };
    let slot_len = kernel.kr * element_len;
    let groups = weights.k.div_ceil(kernel.kr);
    for (slot, &offset) in kernel.order.iter().enumerate() {
        let channel = first + usize::from(offset);
        if channel >= weights.channels {
            continue;
        }
        let values = weights.values.chunk(channel, weights.taps * weights.k);
        for (tap, bytes) in values.bytes.chunks_exact(weights.k).enumerate() {
            for (group, bytes) in bytes.chunks(kernel.kr).enumerate() {
                let values = WeightValues { bytes, ..values };
                let start = ((tap * groups + group) * kernel.nr + slot) * slot_len;
                let target = &mut panel[start..start + slot_len];
                if kernel.wide {
                    for (target, weight) in target.as_chunks_mut().0.iter_mut().zip(values.iter()) {
                        *target = i16::from(weight).to_le_bytes();
                    }
                } else {
                    for (target, weight) in target.iter_mut().zip(values.iter()) {
                        *target = weight as u8;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::scalar;

    fn kernel(nr: usize, kr: usize, wide: bool, order: &'static [u8]) -> Kernel {
        Kernel { nr, kr, wide, order, ..scalar::KERNELS.blocks[0] }
    }

    #[test]
    fn channels_are_divided_into_the_widest_full_blocks() {
        let kernels = [kernel(32, 4, false, &[]), kernel(16, 4, false, &[])];
        let divide = |channels| blocks(&kernels, channels).map(|b| (b.first, b.kernel)).collect::<Vec<_>>();
        assert_eq!(divide(16), [(0, 1)]);
        assert_eq!(divide(17), [(0, 0)]);
        assert_eq!(divide(48), [(0, 0), (32, 1)]);
        assert_eq!(divide(72), [(0, 0), (32, 0), (64, 1)]);
    }

    #[test]
    fn a_panel_contains_groups_of_slots_padded_with_zeros() {
        let values = WeightValues { bytes: &[101, 102, 103, 104, 105, 106], zero_point: 100 };
        let weights = Weights { values, channels: 2, taps: 1, k: 3 };
        let panel = |kernel: &Kernel, first: usize| {
            let mut panels = vec![77];
            push_panel(&mut panels, kernel, &weights, first);
            assert_eq!(panels.len(), 1 + panel_len(kernel, 1, 3));
            panels.split_off(1)
        };
        let narrow = kernel(3, 2, false, &[1, 0, 2]);
        assert_eq!(panel(&narrow, 0), [4, 5, 1, 2, 0, 0, 6, 0, 3, 0, 0, 0]);
        assert_eq!(panel(&kernel(1, 2, true, &[0]), 1), [4, 0, 5, 0, 6, 0, 0, 0]);
    }
}
