//! The native engine behind the [`Engine`] trait: camfire's own kernels.

use crate::{
    Engine, Error, KernelSet, Map, Session, Signature, contract,
    model::{self, Model, Options, Tensor},
    tflite,
};

/// A model loaded by the native engine.
#[derive(Debug)]
pub(crate) struct Native {
    signature: Signature,
    maps: Vec<Map>,
    model: Model,
    /// Whether the output is uint8 and must be shifted to int8.
    is_unsigned: bool,
}

impl Native {
    /// Checks and loads a model. `cap` is the best kernel set to use, `maps` are the names of the maps that
    /// can be read.
    pub(crate) fn open(file: &[u8], cap: Option<KernelSet>, maps: &[&str]) -> Result<Native, Error> {
        let graph = tflite::read(file)?;
        let signature = contract::signature(&graph)?;
        let model = Model::from_bytes(file, &Options { cap, keep: maps })?;
        let maps = contract::maps(&graph, maps)?;
        let is_unsigned = model.outputs().iter().any(|output| output.element == model::Element::Uint8);
        Ok(Native { signature, maps, model, is_unsigned })
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

    fn maps(&self) -> &[Map] {
        &self.maps
    }

    fn session(&self) -> Result<Box<dyn Session>, Error> {
        let map_len = self.signature.map_len();
        let longest = self.maps.iter().map(Map::len).chain([map_len]).max().unwrap_or_default();
        Ok(Box::new(NativeSession {
            session: self.model.session(),
            is_unsigned: self.is_unsigned,
            bytes: vec![0; longest],
            maps: self.maps.iter().map(|map| vec![0; map.len()]).collect(),
            output: vec![0; map_len],
        }))
    }
}

struct NativeSession {
    session: model::Session,
    /// The output is uint8.
    is_unsigned: bool,
    /// A tensor as the session stores it.
    bytes: Vec<u8>,
    maps: Vec<Vec<i8>>,
    output: Vec<i8>,
}

impl NativeSession {
    fn read_output(&mut self) -> Result<&[i8], Error> {
        let flip = if self.is_unsigned { 0x80 } else { 0 };
        read(&self.session, Tensor::Output(0), flip, &mut self.bytes, &mut self.output)?;
        Ok(&self.output)
    }
}

impl Session for NativeSession {
    fn run(&mut self, rgb: &[u8]) -> Result<&[i8], Error> {
        self.session.run(rgb)?;
        self.read_output()
    }

    fn run_to_maps(&mut self, rgb: &[u8]) -> Result<(), Error> {
        self.session.run_until_kept(rgb)?;
        for (index, map) in self.maps.iter_mut().enumerate() {
            read(&self.session, Tensor::Kept(index), 0, &mut self.bytes, map)?;
        }
        Ok(())
    }

    fn map(&self, index: usize) -> &[i8] {
        &self.maps[index]
    }

    fn finish(&mut self) -> Result<&[i8], Error> {
        self.session.finish();
        self.read_output()
    }
}

/// Reads a tensor through the buffer `bytes`. `flip` is XORed to every byte.
fn read(
    session: &model::Session,
    tensor: Tensor,
    flip: u8,
    bytes: &mut [u8],
    into: &mut [i8],
) -> Result<(), Error> {
    let bytes = &mut bytes[..into.len()];
    session.read(tensor, bytes)?;
    for (value, byte) in into.iter_mut().zip(bytes) {
        *value = (*byte ^ flip) as i8;
    }
    Ok(())
}
