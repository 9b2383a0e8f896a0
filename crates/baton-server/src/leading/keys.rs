//! The key of a store: all servers of one store have the same.
//!
//! Tokens that one server mints are opened by another, and return addresses at rest are read by whoever leads. So the store
//! keeps a fingerprint of the key, written by whoever leads first, and a server with another key is refused.
//!
//! # Invariants
//! - A key is made only for a store that has never had one.
//! - The fingerprint says nothing about the key: it is derived as other keys are, and cut.

use std::path::Path;

use baton_engine::Sealer;
use baton_store::Store;

use crate::server::StartError;

/// Name of the value in the store that has the fingerprint.
pub(crate) const FINGERPRINT: &str = "key_fingerprint";

/// What it is derived for.
const PURPOSE: &str = "baton key fingerprint";

/// Bytes of it that are kept: enough to tell keys apart.
const BYTES: usize = 16;

/// A key that fits the store, as far as the store tells.
pub(crate) struct Opened {
    pub(crate) sealer: Sealer,
    /// To be written into the store, which has none yet.
    pub(crate) fingerprint: Option<Vec<u8>>,
}

/// The key in `path`, for this store; it is made if it is not there and the store is new. Blocking.
///
/// # Errors
/// `Key`, `KeyDiffers`, `Store`.
pub(crate) fn open(path: &Path, store: &Store) -> Result<Opened, StartError> {
    let stored = store.meta(FINGERPRINT).map_err(StartError::Store)?;
    let new = stored.is_none() && store.revision() == 0;
    let sealer = if new { Sealer::open_or_create(path) } else { Sealer::open(path) }.map_err(StartError::Key)?;
    match check(&sealer, stored.as_deref(), path)? {
        Fits::Same => Ok(Opened { sealer, fingerprint: None }),
        Fits::Unknown(own) => Ok(Opened { sealer, fingerprint: Some(own) }),
    }
}

/// Whether a key is that of a store.
pub(super) enum Fits {
    /// It is.
    Same,
    /// The store does not say; this would be its fingerprint.
    Unknown(Vec<u8>),
}

/// Compares a key with what the store has.
pub(super) fn check(sealer: &Sealer, stored: Option<&[u8]>, path: &Path) -> Result<Fits, StartError> {
    let own = &sealer.derive(PURPOSE)[..BYTES];
    match stored {
        None => Ok(Fits::Unknown(own.to_vec())),
        Some(stored) if stored == own => Ok(Fits::Same),
        Some(stored) => {
            Err(StartError::KeyDiffers { path: path.to_owned(), own: hex::encode(own), stored: hex::encode(stored) })
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_engine::KeyError;
    use baton_store::{Lane, StoreOptions, Txn};

    use super::*;

    #[test]
    fn a_store_is_opened_with_its_own_key_only() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreOptions { ballast_bytes: 0, ..StoreOptions::default() }).unwrap();
        let (key, other) = (folder.path().join("a.key"), folder.path().join("b.key"));
        let fingerprint = open(&key, &store).ok().unwrap().fingerprint.expect("the store is new");
        let txn = Txn { meta: vec![(FINGERPRINT.to_owned(), Some(fingerprint))], ..Txn::default() };
        store.commit_blocking(Lane::Internal, txn).unwrap();
        assert!(open(&key, &store).ok().unwrap().fingerprint.is_none());
        let refused = open(&other, &store).err().unwrap();
        assert!(matches!(refused, StartError::Key(KeyError::Missing { .. })), "no key is made for it: {refused}");
        Sealer::open_or_create(&other).unwrap();
        let refused = open(&other, &store).err().unwrap();
        assert!(matches!(refused, StartError::KeyDiffers { .. }) && refused.hint().is_some(), "{refused}");
        assert!(refused.to_string().contains("b.key"), "{refused}");
    }
}
