//! Limits the memory of a plan by the size of its file, so that one tensor shared by thousands of operators
//! cannot exhaust it.

use crate::{
    Error,
    error::contract,
    graph::Operator,
    ops::{convolution::Convolution, depthwise::Depthwise, multiply::Multiplier},
    plan::{Instruction, InstructionInfo},
};

/// Counts the bytes of a plan.
pub(super) struct Budget {
    file_len: usize,
    /// Bytes of everything in the plan, with weights as compact as they can be.
    required_len: usize,
    /// Bytes of weights as they are packed.
    packed_len: usize,
}

impl Budget {
    pub(super) fn new(file_len: usize) -> Budget {
        Budget { file_len, required_len: 0, packed_len: 0 }
    }

    /// Maximum bytes that a plan requires on any CPU: one and a half times the file, which contains every
    /// weight once, and a constant for instructions and tables.
    fn max_required(&self) -> usize {
        self.file_len / 2 * 3 + (768 << 10)
    }

    /// Maximum bytes of weights packed for this CPU: twice the file, because a kernel may store bytes as
    /// words, and some for rounding up. Convolutions beyond that use the reference kernel, which rounds
    /// nothing up. They are slower, but the same models load on every CPU.
    fn max_packed(&self) -> usize {
        self.file_len / 2 * 5 + (256 << 10)
    }

    pub(super) fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Counts an instruction and its description.
    ///
    /// Errors: see [`Budget::count`].
    pub(super) fn count_instruction(
        &mut self,
        operator: &Operator,
        instruction: &Instruction,
        name: &str,
    ) -> Result<(), Error> {
        let boxed = match instruction {
            Instruction::Convolution(_) | Instruction::ConvolutionPool(..) => size_of::<Convolution>(),
            Instruction::Depthwise { .. } => size_of::<Depthwise>(),
            Instruction::Rescale { table, .. } => size_of_val(&**table),
            Instruction::Multiply { b: Multiplier::Channels(values), .. } => values.len(),
            Instruction::Softmax { table, .. } => size_of_val(&**table),
            _ => 0,
        };
        self.count(operator, size_of::<Instruction>() + boxed + size_of::<InstructionInfo>() + name.len(), 0)
    }

    /// Counts `retained` bytes before they are allocated together with `temporary` ones that are soon freed.
    ///
    /// Errors: [`Error::Contract`] when the plan requires more than its file justifies.
    pub(super) fn count(
        &mut self,
        operator: &Operator,
        retained: usize,
        temporary: usize,
    ) -> Result<(), Error> {
        self.required_len = self.required_len.saturating_add(retained);
        let (required, max) = (self.required_len.saturating_add(temporary), self.max_required());
        if required > max {
            let expected = format!("at most {max} bytes for a file of {}", self.file_len);
            return Err(contract(operator.location(), expected, required));
        }
        Ok(())
    }

    /// Returns whether `len` more bytes of packed weights fit.
    pub(super) fn fits_packed(&self, len: usize) -> bool {
        self.packed_len + len <= self.max_packed()
    }

    /// Counts `len` bytes of packed weights.
    pub(super) fn add_packed(&mut self, len: usize) {
        self.packed_len += len;
    }
}
