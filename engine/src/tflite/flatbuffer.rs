//! Reads untrusted flatbuffers: every offset, length and vtable is checked against the file before it is
//! used.
//!
//! A flatbuffer is a tree of tables. A table's fields are found through its vtable, and it refers to strings,
//! vectors and other tables by offsets that only point forward. Nothing is copied: all results borrow from
//! the file. Numbers are little-endian and may be unaligned. Each [`Table`] has a location in the file's own
//! terms ("tensor 7"), which begins every error message.
//!
//! Format: the FlatBuffers internals page of its documentation.

use crate::{Error, graph::LeArray};

/// A table of the file.
#[derive(Clone)]
pub(super) struct Table<'a> {
    file: &'a [u8],
    at: usize,
    vtable: &'a [u8],
    /// How error messages refer to the table.
    pub(super) location: String,
}

impl<'a> Table<'a> {
    /// Returns the root table. `identifier` is the file identifier at byte 4.
    ///
    /// Errors: [`Error::Malformed`], here and in all methods, when the file is not a valid flatbuffer.
    pub(super) fn root(file: &'a [u8], identifier: &[u8; 4]) -> Result<Table<'a>, Error> {
        if file.get(4..8) != Some(identifier) {
            let name = String::from_utf8_lossy(identifier);
            let reason = format!("no identifier {name} at byte 4 of {} bytes", file.len());
            return Err(Error::Malformed(reason));
        }
        Table::at(
            file,
            follow(file, 0).ok_or_else(|| malformed("the model", "its root lies outside the file"))?,
            "the model",
        )
    }

    fn at(file: &'a [u8], at: usize, location: impl Into<String>) -> Result<Table<'a>, Error> {
        let location = location.into();
        let vtable = (|| {
            let back = i32::from_le_bytes(bytes(file, at)?);
            let start = usize::try_from(i64::try_from(at).ok()? - i64::from(back)).ok()?;
            let len = usize::from(u16::from_le_bytes(bytes(file, start)?));
            if len < 4 {
                return None;
            }
            file.get(start..start.checked_add(len)?)
        })();
        match vtable {
            Some(vtable) => Ok(Table { file, at, vtable, location }),
            None => Err(malformed(&location, "its table lies outside the file")),
        }
    }

    /// Returns the offset of field `slot`. None if the file leaves it at its default.
    fn field(&self, slot: usize) -> Option<usize> {
        let offset = u16::from_le_bytes(bytes(self.vtable, 4 + 2 * slot)?);
        (offset != 0).then(|| self.at.saturating_add(usize::from(offset)))
    }

    fn scalar<const N: usize>(&self, slot: usize) -> Result<Option<[u8; N]>, Error> {
        match self.field(slot) {
            None => Ok(None),
            Some(at) => match bytes(self.file, at) {
                Some(found) => Ok(Some(found)),
                None => Err(self.malformed_field(slot)),
            },
        }
    }

    pub(super) fn u8(&self, slot: usize) -> Result<Option<u8>, Error> {
        Ok(self.scalar(slot)?.map(u8::from_le_bytes))
    }

    pub(super) fn i32(&self, slot: usize) -> Result<Option<i32>, Error> {
        Ok(self.scalar(slot)?.map(i32::from_le_bytes))
    }

    pub(super) fn u32(&self, slot: usize) -> Result<Option<u32>, Error> {
        Ok(self.scalar(slot)?.map(u32::from_le_bytes))
    }

    pub(super) fn u64(&self, slot: usize) -> Result<Option<u64>, Error> {
        Ok(self.scalar(slot)?.map(u64::from_le_bytes))
    }

    pub(super) fn f32(&self, slot: usize) -> Result<Option<f32>, Error> {
        Ok(self.scalar(slot)?.map(f32::from_le_bytes))
    }

    /// Returns the table that field `slot` points to.
    pub(super) fn table(&self, slot: usize, location: impl Into<String>) -> Result<Option<Table<'a>>, Error> {
        let Some(field) = self.field(slot) else { return Ok(None) };
        let at = follow(self.file, field).ok_or_else(|| self.malformed_field(slot))?;
        Table::at(self.file, at, location).map(Some)
    }

    /// Returns the bytes that field `slot` points to.
    pub(super) fn vector(&self, slot: usize) -> Result<Option<&'a [u8]>, Error> {
        Ok(self.numbers::<1>(slot)?.map(|numbers| numbers.as_bytes()))
    }

    /// Returns the numbers of `N` bytes each that field `slot` points to.
    pub(super) fn numbers<const N: usize>(&self, slot: usize) -> Result<Option<LeArray<'a, N>>, Error> {
        let Some(field) = self.field(slot) else { return Ok(None) };
        let numbers = (|| {
            let at = follow(self.file, field)?;
            let count = usize::try_from(u32::from_le_bytes(bytes(self.file, at)?)).ok()?;
            let start = at.checked_add(4)?;
            let data = self.file.get(start..start.checked_add(count.checked_mul(N)?)?)?;
            Some(LeArray::new(data.as_chunks().0))
        })();
        numbers.map(Some).ok_or_else(|| self.malformed_field(slot))
    }

    /// Returns the string that field `slot` points to, truncated to `max` bytes and to the part that is valid
    /// UTF-8.
    pub(super) fn string(&self, slot: usize, max: usize) -> Result<&'a str, Error> {
        let bytes = self.vector(slot)?.unwrap_or(&[]);
        let bytes = &bytes[..bytes.len().min(max)];
        Ok(bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid()))
    }

    /// Returns the tables of vector `slot`. Error messages refer to each by `item_name` and its number.
    pub(super) fn tables(&self, slot: usize, item_name: &'static str) -> Result<Tables<'a>, Error> {
        let Some(field) = self.field(slot) else {
            return Ok(Tables { of: self.clone(), start: 0, len: 0, item_name });
        };
        let len = self.numbers::<4>(slot)?.map_or(0, |offsets| offsets.len());
        let start = follow(self.file, field).ok_or_else(|| self.malformed_field(slot))?;
        Ok(Tables { of: self.clone(), start: start + 4, len, item_name })
    }

    fn malformed_field(&self, slot: usize) -> Error {
        malformed(&self.location, format!("field {slot} lies outside the file"))
    }
}

/// A vector of tables.
pub(super) struct Tables<'a> {
    of: Table<'a>,
    start: usize,
    len: usize,
    /// How error messages refer to one of the tables.
    item_name: &'static str,
}

impl<'a> Tables<'a> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Returns table `index`, which must be below [`Tables::len`].
    pub(super) fn get(&self, index: usize) -> Result<Table<'a>, Error> {
        let location = format!("{} {index}", self.item_name);
        match follow(self.of.file, self.start + 4 * index) {
            Some(at) => Table::at(self.of.file, at, location),
            None => Err(malformed(&location, "it lies outside the file")),
        }
    }
}

/// Returns the target of the offset at `at`.
fn follow(file: &[u8], at: usize) -> Option<usize> {
    let offset = usize::try_from(u32::from_le_bytes(bytes(file, at)?)).ok()?;
    at.checked_add(offset).filter(|&target| offset != 0 && target < file.len())
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn malformed(location: &str, reason: impl std::fmt::Display) -> Error {
    Error::Malformed(format!("{location}: {reason}"))
}
