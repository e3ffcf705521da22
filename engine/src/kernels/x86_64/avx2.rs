use crate::kernels::Kernel;
pub(crate) const KERNELS: &[Kernel] = crate::kernels::scalar::KERNELS;
