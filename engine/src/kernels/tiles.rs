//! Divides a job's rows into tiles of at most `MR` pixels. All tiles have nearly the same width, because a
//! tile of one or two pixels has too few independent sums to hide the latency of its additions.

use super::Job;

/// Computes a tile of the job, given the input and output of its first pixel. A table has one for 1, 2, ...
/// pixels.
///
/// # Safety
///
/// As for [`super::Kernel::run`], for the tile's pixels.
pub(super) type Tile = unsafe fn(&Job, *const u8, *mut u8);

/// # Safety
///
/// See [`super::Kernel::run`].
pub(super) unsafe fn rows<const MR: usize>(job: &Job, tiles: &[Tile; MR]) {
    let count = job.width.div_ceil(MR);
    let (min_width, wider) = (job.width / count, job.width % count);
    for row in 0..job.rows {
        let mut column = 0;
        for index in 0..count {
            let pixels = min_width + usize::from(index < wider);
            // SAFETY: the tile lies within the job's rows and width. The caller guarantees that their
            // addresses are valid and that the CPU has the features.
            unsafe {
                let input = job.input.add(row * job.input_row + column * job.input_pixel);
                let output = job.output.add(row * job.output_row + column * job.output_pixel);
                tiles[pixels - 1](job, input, output);
            }
            column += pixels;
        }
    }
}

/// Builds the table of tiles for the listed numbers of pixels. `tile, 2` passes 2 as a second const
/// parameter.
macro_rules! tiles {
    ($tile:ident; $($pixels:literal)*) => {
        [$($tile::<$pixels>),*]
    };
    ($tile:ident, $parameter:literal; $($pixels:literal)*) => {
        [$($tile::<$pixels, $parameter>),*]
    };
}
pub(super) use tiles;
