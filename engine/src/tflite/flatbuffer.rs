//! Reads flatbuffers without trust: every offset, length and vtable is checked against the file before it is used.
//!
//! A flatbuffer is a tree of tables; a table's fields are found through its vtable, and strings, vectors and other
//! tables hang on it by offsets that only point forward. Nothing is copied: what comes out borrows from the file. All
//! numbers are little-endian and may lie unaligned. Each [`Table`] knows its place in the file's own terms ("tensor 7"),
//! which is the first word of every error.
//!
//! Format: the FlatBuffers internals page of its documentation.

use crate::{Error, graph::Numbers};

/// A table of the file.
#[derive(Clone)]
pub(super) struct Table<'a> {
    file: &'a [u8],
    at: usize,
    vtable: &'a [u8],
    /// What it is, for errors.
    pub(super) place: String,
}

impl<'a> Table<'a> {
    /// The root table. `mark` is the file identifier at byte 4.
    pub(super) fn root(file: &'a [u8], mark: &[u8; 4]) -> Result<Table<'a>, Error> {
        if file.get(4..8) != Some(mark) {
            let mark = String::from_utf8_lossy(mark);
            return Err(Error::Malformed(format!("no {mark} mark at byte 4 ({} bytes in all)", file.len())));
        }
        Table::at(
            file,
            follow(file, 0).ok_or_else(|| malformed("the model", "its root lies outside"))?,
            "the model",
        )
    }

    fn at(file: &'a [u8], at: usize, place: impl Into<String>) -> Result<Table<'a>, Error> {
        let place = place.into();
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
            Some(vtable) => Ok(Table { file, at, vtable, place }),
            None => Err(malformed(&place, "its table lies outside the file")),
        }
    }

    /// Where field `slot` lies; `None` where the file leaves it at its default.
    fn field(&self, slot: usize) -> Option<usize> {
        let offset = u16::from_le_bytes(bytes(self.vtable, 4 + 2 * slot)?);
        (offset != 0).then(|| self.at.saturating_add(usize::from(offset)))
    }

    fn scalar<const N: usize>(&self, slot: usize) -> Result<Option<[u8; N]>, Error> {
        match self.field(slot) {
            None => Ok(None),
            Some(at) => match bytes(self.file, at) {
                Some(found) => Ok(Some(found)),
                None => Err(self.broken(slot)),
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

    /// The table that field `slot` points to.
    pub(super) fn table(&self, slot: usize, place: impl Into<String>) -> Result<Option<Table<'a>>, Error> {
        let Some(field) = self.field(slot) else { return Ok(None) };
        let at = follow(self.file, field).ok_or_else(|| self.broken(slot))?;
        Table::at(self.file, at, place).map(Some)
    }

    /// The bytes that field `slot` points to.
    pub(super) fn vector(&self, slot: usize) -> Result<Option<&'a [u8]>, Error> {
        Ok(self.numbers::<1>(slot)?.map(|numbers| numbers.as_bytes()))
    }

    /// The numbers of `N` bytes that field `slot` points to.
    pub(super) fn numbers<const N: usize>(&self, slot: usize) -> Result<Option<Numbers<'a, N>>, Error> {
        let Some(field) = self.field(slot) else { return Ok(None) };
        let numbers = (|| {
            let at = follow(self.file, field)?;
            let count = usize::try_from(u32::from_le_bytes(bytes(self.file, at)?)).ok()?;
            let start = at.checked_add(4)?;
            let data = self.file.get(start..start.checked_add(count.checked_mul(N)?)?)?;
            Some(Numbers::new(data.as_chunks().0))
        })();
        numbers.map(Some).ok_or_else(|| self.broken(slot))
    }

    /// The beginning of the string that field `slot` points to: at most `most` bytes, and none that are no UTF-8.
    pub(super) fn string(&self, slot: usize, most: usize) -> Result<&'a str, Error> {
        let bytes = self.vector(slot)?.unwrap_or(&[]);
        let bytes = &bytes[..bytes.len().min(most)];
        Ok(bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid()))
    }

    /// The tables of vector `slot`, each called `called` and its number.
    pub(super) fn tables(&self, slot: usize, called: &'static str) -> Result<Tables<'a>, Error> {
        let Some(field) = self.field(slot) else {
            return Ok(Tables { of: self.clone(), start: 0, len: 0, called });
        };
        let len = self.numbers::<4>(slot)?.map_or(0, |offsets| offsets.len());
        let start = follow(self.file, field).ok_or_else(|| self.broken(slot))?;
        Ok(Tables { of: self.clone(), start: start + 4, len, called })
    }

    fn broken(&self, slot: usize) -> Error {
        malformed(&self.place, format!("field {slot} lies outside the file"))
    }
}

/// A vector of tables.
pub(super) struct Tables<'a> {
    of: Table<'a>,
    start: usize,
    len: usize,
    called: &'static str,
}

impl<'a> Tables<'a> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Table `index`, which must be below [`Tables::len`].
    pub(super) fn get(&self, index: usize) -> Result<Table<'a>, Error> {
        let place = format!("{} {index}", self.called);
        match follow(self.of.file, self.start + 4 * index) {
            Some(at) => Table::at(self.of.file, at, place),
            None => Err(malformed(&place, "it lies outside the file")),
        }
    }
}

/// Where the offset at `at` points.
fn follow(file: &[u8], at: usize) -> Option<usize> {
    let offset = usize::try_from(u32::from_le_bytes(bytes(file, at)?)).ok()?;
    at.checked_add(offset).filter(|&target| offset != 0 && target < file.len())
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn malformed(place: &str, reason: impl std::fmt::Display) -> Error {
    Error::Malformed(format!("{place}: {reason}"))
}
