//! Kernels for x86-64, one file per level of CPU features.

pub(crate) mod avx2;
pub(crate) mod avx512_vnni;
pub(crate) mod avx_vnni;
mod ymm;
