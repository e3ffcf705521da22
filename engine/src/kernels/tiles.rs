//! Cuts a job's rows into tiles of at most `MR` pixels, all of nearly the same width: a tile of a pixel or two could not
//! hide the latency of its own additions.

use super::Job;

/// Computes a tile: the job, its first pixel's input, its first pixel's output. A table has one for 1, 2, ... pixels.
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
    let (each, longer) = (job.width / count, job.width % count);
    for row in 0..job.rows {
        let mut column = 0;
        for index in 0..count {
            let pixels = each + usize::from(index < longer);
            // SAFETY: the tile lies within the job's rows and width, whose addresses the caller vouches for, and the
            // CPU has the features, as the caller promises.
            unsafe {
                let input = job.input.add(row * job.input_row + column * job.input_pixel);
                let output = job.output.add(row * job.output_row + column * job.output_pixel);
                tiles[pixels - 1](job, input, output);
            }
            column += pixels;
        }
    }
}

/// The table of tiles for 1 pixel to as many as are listed; `tile, 2` gives each the further parameter 2.
macro_rules! tiles {
    ($tile:ident; $($pixels:literal)*) => {
        [$($tile::<$pixels>),*]
    };
    ($tile:ident, $parameter:literal; $($pixels:literal)*) => {
        [$($tile::<$pixels, $parameter>),*]
    };
}
pub(super) use tiles;
