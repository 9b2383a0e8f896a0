//! Copying a live database out, and putting a copy in place.
//!
//! A backup is `VACUUM INTO` from a connection of its own: a consistent, compact copy while the committer goes on. It is
//! written beside its target, synced, checked, and only then given its name, so a file with that name is always whole.
//! The committer may be another process's: readers of a log need no more of it than the files.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{
    DATABASE_FILE, check_format, check_header, check_library, create_private, doing, open_for_reading, put_cluster_id,
    sync_directory, verify, writer,
};
use crate::directory::{free_bytes, refuse_network};
use crate::error::StoreError;

/// There while a restore is moving files; a store does not open then.
pub(super) const RESTORING_FILE: &str = "baton.restoring";

/// What a backup or a restore made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The revision of the store that it holds.
    pub revision: u64,
}

/// A path with something added to its last part.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn io(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError::Io { operation, path, source }
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io("remove", path)(error)),
        _ => Ok(()),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a copy of the database in `dir`, which another process may be using, to `to`, which must not exist.
///
/// The lock is not taken, so a restore could exchange the files meanwhile; the copy is then given up.
pub(crate) fn backup_unlocked(
    dir: &Path,
    to: &Path,
    allow_network_filesystem: bool,
) -> Result<BackupReport, StoreError> {
    check_library()?;
    let source = dir.join(DATABASE_FILE);
    if !allow_network_filesystem {
        refuse_network(dir)?;
    }
    let before = identity(&source)?;
    let restoring = || StoreError::RestoreUnfinished { path: dir.to_owned() };
    if dir.join(RESTORING_FILE).exists() {
        return Err(restoring());
    }
    // Looked at by SQLite alone: to open and close the file beside it would drop the locks of a store of this process.
    check_format(&open_read_only(&source)?, &source).map_err(|failed| foreign_if_no_database(failed, &source))?;
    let unchanged = || identity(&source).is_ok_and(|now| now == before) && !dir.join(RESTORING_FILE).exists();
    backup_if(dir, to, &|| if unchanged() { Ok(()) } else { Err(restoring()) })
}

fn foreign_if_no_database(failed: StoreError, path: &Path) -> StoreError {
    match failed {
        StoreError::Database { source, .. } if source.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            StoreError::Foreign { path: path.to_owned(), found: source.to_string() }
        }
        other => other,
    }
}

/// Which file it is, whatever its name.
fn identity(path: &Path) -> Result<(u64, u64), StoreError> {
    fs::metadata(path).map(|found| (found.dev(), found.ino())).map_err(io("look at", path))
}

/// Writes a copy of the database in `dir`, whose lock the caller holds, to `to`, which must not exist.
pub(crate) fn backup(dir: &Path, to: &Path) -> Result<BackupReport, StoreError> {
    backup_if(dir, to, &|| Ok(()))
}

/// Writes a copy; it gets its name only if `still_whole` says so once it is written.
fn backup_if(
    dir: &Path,
    to: &Path,
    still_whole: &dyn Fn() -> Result<(), StoreError>,
) -> Result<BackupReport, StoreError> {
    if to.exists() {
        return Err(StoreError::Occupied { path: to.to_owned() });
    }
    let source = dir.join(DATABASE_FILE);
    let needed = fs::metadata(&source).map_err(io("look at", &source))?.len();
    let free = free_bytes(parent(to))?;
    if free < needed {
        return Err(StoreError::NoRoom { path: parent(to).to_owned(), free, needed });
    }
    let partial = with_suffix(to, ".partial");
    remove_if_there(&partial)?;
    let copied = copy_out(&source, &partial).and_then(|()| still_whole()).and_then(|()| check_copy(&partial));
    let revision = match copied {
        Ok(revision) => revision,
        Err(failed) => {
            // What is wrong with it is told; the file itself is of no use.
            let _ = fs::remove_file(&partial);
            return Err(failed);
        }
    };
    fs::rename(&partial, to).map_err(io("name", to))?;
    sync_directory(parent(to))?;
    let bytes = fs::metadata(to).map_err(io("look at", to))?.len();
    Ok(BackupReport { path: to.to_owned(), bytes, revision })
}

/// A connection that may write to files beside the database and not to it. `query_only` would refuse `VACUUM INTO` too.
fn open_read_only(source: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(source, flags).map_err(doing("open the database for a backup"))
}

fn copy_out(source: &Path, partial: &Path) -> Result<(), StoreError> {
    let connection = open_read_only(source)?;
    let Some(target) = partial.to_str() else {
        let invalid = std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8");
        return Err(io("write", partial)(invalid));
    };
    // An empty file is a target too, and this one has its mode already.
    create_private(partial).map_err(io("create", partial))?;
    connection.execute("VACUUM INTO ?", [target]).map_err(doing("copy the database"))?;
    File::open(partial).and_then(|file| file.sync_all()).map_err(io("sync", partial))
}

/// Checks a file that nobody has open; its revision.
fn check_copy(path: &Path) -> Result<u64, StoreError> {
    check_header(path)?;
    let connection = open_for_reading(path, 8 << 20)?;
    check_format(&connection, path)?;
    if let Some(detail) = verify::check(&connection, false)?.into_iter().next() {
        return Err(StoreError::CheckFailed { path: path.to_owned(), detail });
    }
    Ok(writer::read_head(&connection).map_err(doing("read the head"))?.revision)
}

/// Puts the backup `from` in place in `dir`, whose lock the caller holds. A database that is there is refused, or with
/// `replace` set aside under the suffix `.replaced`.
pub(crate) fn restore(from: &Path, dir: &Path, replace: bool) -> Result<BackupReport, StoreError> {
    let target = dir.join(DATABASE_FILE);
    if target.exists() && !replace {
        return Err(StoreError::Occupied { path: target });
    }
    let partial = with_suffix(&target, ".partial");
    remove_if_there(&partial)?;
    // Not `fs::copy`, which copies the mode too.
    let mut source = File::open(from).map_err(io("copy", from))?;
    let mut copy = create_private(&partial).map_err(io("create", &partial))?;
    std::io::copy(&mut source, &mut copy).map_err(io("copy", from))?;
    drop(copy);
    let revision = check_copy(&partial)?;
    {
        // Watchers of the old life must notice that this is another one.
        let connection = Connection::open(&partial).map_err(doing("open the copy"))?;
        put_cluster_id(&connection, uuid::Uuid::now_v7().into_bytes()).map_err(doing("give the copy a new id"))?;
        connection.close().map_err(|(_, error)| doing("close the copy")(error))?;
    }
    File::open(&partial).and_then(|file| file.sync_all()).map_err(io("sync", &partial))?;
    let marker = dir.join(RESTORING_FILE);
    let aside = with_suffix(&target, ".replaced");
    if !marker.exists() {
        // What an earlier restore set aside may be all that is left of it; what an interrupted one did is still of use.
        if aside.exists() {
            return Err(StoreError::Occupied { path: aside });
        }
        for suffix in SUFFIXES {
            remove_if_there(&with_suffix(&aside, suffix))?;
        }
        File::create(&marker).map_err(io("create", &marker))?;
        sync_directory(dir)?;
    }
    set_aside(&target, &aside)?;
    fs::rename(&partial, &target).map_err(io("name", &target))?;
    sync_directory(dir)?;
    remove_if_there(&marker)?;
    sync_directory(dir)?;
    let bytes = fs::metadata(&target).map_err(io("look at", &target))?.len();
    Ok(BackupReport { path: target, bytes, revision })
}

/// Files of one database, in the order in which they are set aside.
const SUFFIXES: [&str; 3] = ["-wal", "-shm", ""];

/// Moves a database and its log away together: the log of one database beside another must never be seen. Between the
/// first and the last of these steps the marker keeps a store from opening. The database goes last, so once it is aside
/// all is, and what an interrupted restore may have put in its place is left to be written over.
fn set_aside(target: &Path, aside: &Path) -> Result<(), StoreError> {
    if aside.exists() {
        return Ok(());
    }
    for suffix in SUFFIXES {
        let old = with_suffix(target, suffix);
        match fs::rename(&old, with_suffix(aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io("set aside", &old)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
