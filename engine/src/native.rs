//! The native engine behind the [`Engine`] trait: camfire's own kernels.

use crate::{
    Engine, Error, KernelSet, Session, Signature, contract,
    model::{self, Model, Options, Tensor},
    tflite,
};

/// A model loaded by the native engine.
#[derive(Debug)]
pub(crate) struct Native {
    signature: Signature,
    model: Model,
    /// Whether the output is uint8 and must be shifted to int8.
    is_unsigned: bool,
}

impl Native {
    /// Checks and loads a model. `cap` is the best kernel set to use.
    pub(crate) fn open(file: &[u8], cap: Option<KernelSet>) -> Result<Native, Error> {
        let signature = contract::signature(&tflite::read(file)?)?;
        let model = Model::from_bytes(file, &Options { cap, keep: &[] })?;
        let is_unsigned = model.outputs().iter().any(|output| output.element == model::Element::Uint8);
        Ok(Native { signature, model, is_unsigned })
    }
}

impl Engine for Native {
    fn name(&self) -> &'static str {
        "native"
    }

    fn kernels(&self) -> &str {
        self.model.kernel_set().name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn session(&self) -> Result<Box<dyn Session>, Error> {
        let map_len = self.signature.map_len();
        Ok(Box::new(NativeSession {
            session: self.model.session(),
            is_unsigned: self.is_unsigned,
            bytes: vec![0; map_len],
            map: vec![0; map_len],
        }))
    }
}

struct NativeSession {
    session: model::Session,
    is_unsigned: bool,
    bytes: Vec<u8>,
    map: Vec<i8>,
}

impl Session for NativeSession {
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error> {
        self.session.run(rgb)?;
        self.session.read(Tensor::Output(0), &mut self.bytes)?;
        let flip = if self.is_unsigned { 0x80 } else { 0 };
        for (value, byte) in self.map.iter_mut().zip(&self.bytes) {
            *value = (byte ^ flip) as i8;
        }
        Ok(&self.map)
    }
}
