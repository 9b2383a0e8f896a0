//! How a body lies in a column: one byte of format, a CRC32C, then the body.
//!
//! The sum covers the table, the row's primary key (and, for resources, every other column), and the body. A bit flipped on
//! disk is found on the first read of that value, and so is a value that turned up in another row. The sum is not a seal:
//! it protects from broken disks, not from people.

use bytes::Bytes;
use crc32c::crc32c_append;

use crate::error::StoreError;

/// The only format so far: body in clear, CRC32C.
const FORMAT_CRC32C: u8 = 1;
/// Format byte and checksum.
pub(crate) const HEADER_BYTES: usize = 5;

/// Tables with bodies. The discriminant is part of the stored checksum and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Table {
    Resource = 1,
    Change = 2,
    Journal = 3,
    Snapshot = 4,
    Outbox = 5,
    Blob = 6,
    Mailbox = 7,
    Meta = 8,
}

impl Table {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Resource => "resource",
            Self::Change => "change",
            Self::Journal => "journal",
            Self::Snapshot => "snapshot",
            Self::Outbox => "outbox",
            Self::Blob => "blob",
            Self::Mailbox => "mailbox",
            Self::Meta => "meta",
        }
    }
}

/// A running checksum over a row's key columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowSum(u32);

impl RowSum {
    pub(crate) fn new(table: Table) -> Self {
        Self(crc32c_append(0, &[table as u8]))
    }

    pub(crate) fn int(self, value: i64) -> Self {
        Self(crc32c_append(self.0, &value.to_le_bytes()))
    }

    /// Length first, so that two adjoining texts cannot trade bytes.
    pub(crate) fn bytes(self, value: &[u8]) -> Self {
        let length = crc32c_append(self.0, &(value.len() as u64).to_le_bytes());
        Self(crc32c_append(length, value))
    }

    pub(crate) fn optional(self, value: Option<&[u8]>) -> Self {
        match value {
            Some(value) => self.int(1).bytes(value),
            None => self.int(0),
        }
    }

    fn finish(self, body: &[u8]) -> u32 {
        crc32c_append(self.0, body)
    }
}

/// Writes the stored form of `body` into `scratch`, which is reused from row to row.
pub(crate) fn seal(scratch: &mut Vec<u8>, sum: RowSum, body: &[u8]) {
    scratch.clear();
    scratch.reserve(HEADER_BYTES + body.len());
    scratch.push(FORMAT_CRC32C);
    scratch.extend_from_slice(&sum.finish(body).to_le_bytes());
    scratch.extend_from_slice(body);
}

/// The body within a stored value, or [`StoreError::Corrupt`] with the text that `key` makes.
pub(crate) fn open(
    table: Table,
    sum: RowSum,
    stored: &[u8],
    key: impl FnOnce() -> String,
) -> Result<Bytes, StoreError> {
    match verified(sum, stored) {
        Some(body) => Ok(Bytes::copy_from_slice(body)),
        None => Err(StoreError::Corrupt { table: table.name(), key: key() }),
    }
}

fn verified(sum: RowSum, stored: &[u8]) -> Option<&[u8]> {
    let (header, body) = stored.split_at_checked(HEADER_BYTES)?;
    let [format, crc @ ..] = header else {
        return None;
    };
    let crc = u32::from_le_bytes(crc.try_into().ok()?);
    (*format == FORMAT_CRC32C && crc == sum.finish(body)).then_some(body)
}

/// Lower-case hex, for keys in messages.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(sum: RowSum, body: &[u8]) -> Vec<u8> {
        let mut scratch = Vec::new();
        seal(&mut scratch, sum, body);
        scratch
    }

    #[test]
    fn any_flipped_bit_is_found() {
        let sum = RowSum::new(Table::Journal).int(7).int(3);
        let good = stored(sum, b"some record");
        assert_eq!(verified(sum, &good), Some(&b"some record"[..]));
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verified(sum, &bad), None, "bit {bit}");
        }
    }

    #[test]
    fn a_value_in_another_row_or_table_is_found() {
        let value = stored(RowSum::new(Table::Journal).int(7).int(3), b"x");
        assert_eq!(verified(RowSum::new(Table::Journal).int(7).int(4), &value), None);
        assert_eq!(verified(RowSum::new(Table::Change).int(7).int(3), &value), None);
    }

    #[test]
    fn short_values_are_damaged_not_a_panic() {
        for length in 0..HEADER_BYTES {
            assert_eq!(verified(RowSum::new(Table::Blob), &vec![1; length]), None);
        }
    }

    #[test]
    fn adjoining_texts_do_not_trade_bytes() {
        let one = RowSum::new(Table::Resource).bytes(b"ab").bytes(b"c").finish(b"");
        let two = RowSum::new(Table::Resource).bytes(b"a").bytes(b"bc").finish(b"");
        assert_ne!(one, two);
    }
}
