//! The worker key: who has it may report for executions and read their activities, so it is as good as the data itself.
//!
//! It is 32 bytes in hexadecimal digits, derived from the key of the installation, so that all servers of one store have the
//! same. A server writes it to a file that only its owner can read. A worker gets the same text.
//!
//! # Invariants
//! - Never shown: not by `Debug`, not in an error, not in a log line.
//! - Compared in a time that says nothing about where two keys differ.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use baton_engine::Sealer;
use ring::hmac;

/// File in the data directory that holds the key that workers show.
pub const WORKER_KEY_FILE: &str = "worker.key";

const KEY_BYTES: usize = 32;

/// What it is derived for. Another word is another key for every worker.
const PURPOSE: &str = "baton worker key";

/// What workers show to be let in.
#[derive(Clone, PartialEq, Eq)]
pub struct WorkerKey(String);

impl fmt::Debug for WorkerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WorkerKey(***)")
    }
}

/// Why there is no worker key.
#[derive(Debug, thiserror::Error)]
pub enum WorkerKeyError {
    /// The file cannot be read or written.
    #[error("use the worker key file {}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("the worker key has {found} characters that are not all hexadecimal digits, or not {}", KEY_BYTES * 2)]
    Malformed {
        /// How many characters there are.
        found: usize,
    },
}

impl WorkerKey {
    /// A key from its text; space around it does not count.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn parse(text: &str) -> Result<Self, WorkerKeyError> {
        let text = text.trim();
        let mut bytes = [0; KEY_BYTES];
        hex::decode_to_slice(text, &mut bytes)
            .map(|()| Self(hex::encode(bytes)))
            .map_err(|_| WorkerKeyError::Malformed { found: text.chars().count() })
    }

    /// The key in a file.
    ///
    /// # Errors
    /// `Io`, `Malformed`.
    pub fn read(path: &Path) -> Result<Self, WorkerKeyError> {
        let text = fs::read_to_string(path).map_err(|source| WorkerKeyError::Io { path: path.to_owned(), source })?;
        Self::parse(&text)
    }

    /// The key of an installation.
    pub(crate) fn of(sealer: &Sealer) -> Self {
        Self(hex::encode(sealer.derive(PURPOSE)))
    }

    /// Puts it into a file (readable by its owner only), where workers find it.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn keep(&self, path: &Path) -> Result<(), WorkerKeyError> {
        if Self::read(path).is_ok_and(|kept| kept == *self) {
            return Ok(());
        }
        self.write(path).map_err(|source| WorkerKeyError::Io { path: path.to_owned(), source })
    }

    /// Whole or not at all.
    fn write(&self, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("key.new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(format!("{}\n", self.0).as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    }

    /// The key for the moment of its use.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// Whether somebody showed this key.
    pub(crate) fn is(&self, shown: &str) -> bool {
        // Compared by their codes under the key itself, in constant time; a wrong key's code says nothing about the right one.
        let own = hmac::Key::new(hmac::HMAC_SHA256, self.0.as_bytes());
        hmac::verify(&own, shown.as_bytes(), hmac::sign(&own, self.0.as_bytes()).as_ref()).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn it_is_of_the_installation_and_only_its_owner_can_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WORKER_KEY_FILE);
        let key = WorkerKey::of(&Sealer::new(&[1; 32]));
        for before in [None, Some("short"), Some(&*"7".repeat(64))] {
            if let Some(before) = before {
                fs::write(&path, before).unwrap();
            }
            key.keep(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            assert_eq!(WorkerKey::read(&path).unwrap(), key);
        }
        assert_eq!(WorkerKey::parse(&format!(" {} \n", key.expose().to_uppercase())).unwrap(), key);
        assert!(key.is(key.expose()));
        for other in ["", "0", &"0".repeat(64), &key.expose()[1..], &format!("{}0", key.expose())] {
            assert!(!key.is(other), "{other}");
        }
        assert_eq!(format!("{key:?}"), "WorkerKey(***)");
        assert_ne!(WorkerKey::of(&Sealer::new(&[2; 32])), key);
    }

    #[test]
    fn what_is_no_key_is_told_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(WORKER_KEY_FILE);
        for text in ["", "secret", &"z".repeat(64), &"a".repeat(63)] {
            fs::write(&path, text).unwrap();
            let told = WorkerKey::read(&path).unwrap_err();
            assert!(matches!(told, WorkerKeyError::Malformed { found } if found == text.len()), "{told:?}");
            assert!(text.is_empty() || !told.to_string().contains(text), "{told}");
        }
    }
}
