//! The data directory: creation, lock, file system, room.
//!
//! # Invariants
//! - The lock file is locked from before the database is opened until after it is closed. The lock goes with the process,
//!   so a killed server leaves none behind.
//! - The ballast is written, not sparse: releasing it gives back real blocks.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::error::StoreError;
use crate::options::StoreOptions;

const LOCK_FILE: &str = "baton.lock";
const BALLAST_FILE: &str = "baton.ballast";
/// A disk that claims to have synced faster than this has probably not: even NVMe needs tens of microseconds.
const PLAUSIBLE_SYNC_US: u128 = 20;

/// File systems on which a shared-memory log and file locks cannot be relied on, by `statfs` magic.
const NETWORK: [(u64, &str); 11] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9P"),
    (0x6573_5546, "FUSE"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x5346_414f, "AFS"),
    (0x7375_7245, "Coda"),
    (0x4750_4653, "GPFS"),
];

/// A locked data directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held for life.
    _lock: File,
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem)
}

/// What an error of the file system means: a place that cannot be written is told apart.
pub(crate) fn failed(operation: &'static str, path: &Path, source: io::Error) -> StoreError {
    if is_refusal(&source) {
        StoreError::ReadOnly { path: path.to_owned(), source }
    } else {
        StoreError::Io { operation, path: path.to_owned(), source }
    }
}

impl Directory {
    /// Creates the directory if needed, readable by its owner alone, and locks it.
    pub(crate) fn open(path: &Path, allow_network_filesystem: bool) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed("create", path, error))?;
        let path = path.canonicalize().map_err(|error| failed("find", path, error))?;
        if !allow_network_filesystem {
            refuse_network(&path)?;
        }
        let lock_path = path.join(LOCK_FILE);
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed("open", &path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path }),
            Err(TryLockError::Error(error)) => return Err(failed("lock", &path, error)),
        }
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that an unprivileged process may still write here.
    pub(crate) fn free_bytes(&self) -> Result<u64, StoreError> {
        free_bytes(&self.path)
    }

    /// Times one sync of one page and warns about a disk that seems not to do it.
    pub(crate) fn probe_sync(&self) -> Result<(), StoreError> {
        let path = self.path.join(LOCK_FILE);
        let timed = || -> io::Result<u128> {
            let mut file = OpenOptions::new().write(true).open(&path)?;
            let mut fastest = u128::MAX;
            for _ in 0..3 {
                io::Seek::rewind(&mut file)?;
                file.write_all(&[b'\n'; 4096])?;
                let begun = Instant::now();
                file.sync_data()?;
                fastest = fastest.min(begun.elapsed().as_micros());
            }
            Ok(fastest)
        };
        let fastest = timed().map_err(|error| failed("sync", &path, error))?;
        if fastest < PLAUSIBLE_SYNC_US {
            tracing::warn!(
                directory = %self.path.display(),
                microseconds = u64::try_from(fastest).unwrap_or(u64::MAX),
                "the disk answers a sync faster than a disk can; power loss may take acknowledged data"
            );
        }
        Ok(())
    }

    /// Writes the ballast if it is missing and there is room for it beside the minimum.
    pub(crate) fn fill_ballast(&self, options: &StoreOptions) -> Result<(), StoreError> {
        let path = self.path.join(BALLAST_FILE);
        let wanted = options.ballast_bytes;
        if wanted == 0 || options.free_bytes_min == 0 {
            return Ok(());
        }
        let present = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if present >= wanted || self.free_bytes()? < options.free_bytes_min.saturating_add(wanted) {
            return Ok(());
        }
        let write = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
            // Not zeros: a compressing file system would keep none of them.
            let block: Vec<u8> = (0..1_u32 << 18).flat_map(|i| i.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
            let mut at = 0;
            while at < wanted {
                let length = usize::try_from(wanted - at).unwrap_or(block.len()).min(block.len());
                file.write_all_at(&block[..length], at)?;
                at += length as u64;
            }
            file.sync_all()
        };
        write().or_else(|error| {
            tracing::warn!(%error, path = %path.display(), "no ballast written");
            self.release_ballast();
            Ok(())
        })
    }

    /// Gives the ballast's room to the database. Whether there was one.
    pub(crate) fn release_ballast(&self) -> bool {
        fs::remove_file(self.path.join(BALLAST_FILE)).is_ok()
    }
}

/// Bytes that an unprivileged process may still write to the file system of `path`.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let figures = rustix::fs::statvfs(path).map_err(|error| failed("look at", path, error.into()))?;
    Ok(figures.f_bavail.saturating_mul(figures.f_frsize))
}

/// Refuses a directory on a file system of [`NETWORK`].
#[cfg(target_os = "linux")]
pub(crate) fn refuse_network(path: &Path) -> Result<(), StoreError> {
    let figures = rustix::fs::statfs(path).map_err(|error| failed("look at", path, error.into()))?;
    #[expect(clippy::cast_sign_loss, reason = "the magic is a 32-bit pattern in a wider signed field")]
    let magic = figures.f_type as u64 & 0xffff_ffff;
    match network_name(magic) {
        Some(filesystem) => Err(StoreError::NetworkFilesystem { path: path.to_owned(), filesystem }),
        None => Ok(()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn refuse_network(_: &Path) -> Result<(), StoreError> {
    Ok(())
}

fn network_name(magic: u64) -> Option<&'static str> {
    NETWORK.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known_local_ones_are_not() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xff53_4d42), Some("CIFS"));
        let (ext4, tmpfs, btrfs, xfs, overlay) = (0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630);
        for local in [ext4, tmpfs, btrfs, xfs, overlay] {
            assert_eq!(network_name(local), None);
        }
    }

    #[test]
    fn ballast_takes_real_blocks_and_gives_them_back() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path(), true).unwrap();
        let options = StoreOptions { ballast_bytes: 3 << 20, free_bytes_min: 1, ..StoreOptions::default() };
        directory.fill_ballast(&options).unwrap();
        let metadata = fs::metadata(dir.path().join(BALLAST_FILE)).unwrap();
        assert_eq!(metadata.len(), 3 << 20);
        assert!(metadata.blocks() * 512 >= 3 << 20);
        assert!(directory.release_ballast());
        assert!(!directory.release_ballast());
    }
}
