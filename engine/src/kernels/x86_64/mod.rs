//! Kernels for x86-64, a file for each level of instructions.

pub(crate) mod avx2;
pub(crate) mod avx512_vnni;
pub(crate) mod avx_vnni;
mod ymm;
