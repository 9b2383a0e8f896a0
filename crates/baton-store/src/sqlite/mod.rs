//! The embedded backend: one SQLite file in WAL mode, synced at every group.
//!
//! Only the committer's connection writes, checkpoints and vacuums; the readers' connections are opened read-only. SQLite
//! syncs the log before it shows a commit to readers (in FULL mode), so nobody sees what power loss could take away.
//!
//! Whatever file is made here can be read by its owner alone, whatever the directory allows: SQLite gives its log and its
//! shared memory the mode of the database, so the database's is set before SQLite opens it. A mode that somebody gave to a
//! database that is there already is left as it is.
//!
//! # Failure
//! See [`classify`]: what rolled back for sure is told apart from what is unknown, and the unknown stops the store.

mod apply;
mod backup;
mod check;
mod pool;
mod reader;
mod rows;
mod scan;
mod schema;
mod statements;
mod upkeep;
mod verify;
mod writer;

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, OptionalExtension, ffi};

pub use backup::BackupReport;
pub(crate) use backup::{backup, backup_unlocked, restore};
pub(crate) use pool::SqliteReads;
pub(crate) use writer::SqliteEngine;

use crate::directory;
use crate::error::StoreError;
use crate::options::StoreOptions;
use crate::value::{RowSum, Table, open as open_value, seal};

/// The oldest SQLite without the WAL reset race that could corrupt a database.
const LIBRARY_VERSION_MIN: i32 = 3_051_003;
/// Name of the database within the data directory.
pub(crate) const DATABASE_FILE: &str = "baton.db";
/// `meta` key of the cluster id.
const CLUSTER_ID: &str = "cluster-id";

/// Wraps a database error with what was being done.
pub(crate) fn doing(operation: &'static str) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |source| StoreError::Database { operation, source }
}

/// A limit as SQLite takes it.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// What an error of the committer's connection means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The transaction's data is at fault, or a page it needs is damaged: others may go on.
    Data,
    /// No room: rolled back, definite.
    Full,
    /// Another process holds the database: nothing was begun.
    Busy,
    /// Anything else, above all I/O: the outcome is unknown.
    Fatal,
}

/// Sorts an error of the committer's connection.
pub(crate) fn classify(error: &rusqlite::Error) -> Class {
    let Some(code) = error.sqlite_extended_error_code() else {
        // An error made on this side of the C interface, such as a type that does not fit a column.
        return Class::Data;
    };
    match code & 0xff {
        ffi::SQLITE_CONSTRAINT
        | ffi::SQLITE_MISMATCH
        | ffi::SQLITE_TOOBIG
        | ffi::SQLITE_RANGE
        | ffi::SQLITE_CORRUPT => Class::Data,
        ffi::SQLITE_FULL => Class::Full,
        ffi::SQLITE_BUSY => Class::Busy,
        _ => Class::Fatal,
    }
}

/// The version of SQLite in this binary.
pub(crate) fn library_version() -> &'static str {
    rusqlite::version()
}

fn check_library() -> Result<(), StoreError> {
    if rusqlite::version_number() < LIBRARY_VERSION_MIN {
        return Err(StoreError::LibraryTooOld { found: rusqlite::version() });
    }
    Ok(())
}

/// Opens, creating if needed, the database for writing. Returns the connection and the cluster id.
pub(crate) fn open_for_writing(dir: &Path, options: &StoreOptions) -> Result<(Connection, [u8; 16]), StoreError> {
    check_library()?;
    let path = dir.join(DATABASE_FILE);
    if dir.join(backup::RESTORING_FILE).exists() {
        return Err(StoreError::RestoreUnfinished { path: dir.to_owned() });
    }
    check_header(&path)?;
    match create_private(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            return Err(directory::failed("create", &path, error));
        }
        Ok(_) | Err(_) => {}
    }
    let connection = Connection::open(&path).map_err(doing("open the database"))?;
    let is_new = is_empty(&connection).map_err(doing("read the schema"))?;
    if is_new {
        connection.execute_batch(schema::CREATION_PRAGMAS).map_err(doing("set the page size"))?;
    } else {
        check_format(&connection, &path)?;
    }
    schema::for_writing(&connection, options.cache_bytes).map_err(doing("set up the connection"))?;
    if is_new {
        create(&connection).map_err(doing("create the tables"))?;
        sync_directory(dir)?;
    }
    if let Some(bytes) = options.database_bytes_max {
        let pages = i64::try_from(bytes / schema::PAGE_BYTES).unwrap_or(i64::MAX);
        connection.pragma_update(None, "max_page_count", pages).map_err(doing("bound the database"))?;
    }
    connection.execute("UPDATE head SET epoch = epoch + 1", []).map_err(doing("begin a new epoch"))?;
    let id = cluster_id(&connection)?;
    Ok((connection, id))
}

/// Creates a file that only its owner can read. One that is there is an error.
fn create_private(path: &Path) -> std::io::Result<fs::File> {
    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A reading connection.
pub(crate) fn open_for_reading(path: &Path, cache_bytes: usize) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(doing("open the database for reading"))?;
    schema::for_reading(&connection, cache_bytes).map_err(doing("set up a reading connection"))?;
    Ok(connection)
}

/// A file that is not SQLite's gets a plain answer before SQLite touches it. Missing and empty files are fine.
fn check_header(path: &Path) -> Result<(), StoreError> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(StoreError::Io { operation: "open", path: path.to_owned(), source });
        }
    };
    let mut header = Vec::with_capacity(MAGIC.len());
    let reading = |source| StoreError::Io { operation: "read", path: path.to_owned(), source };
    file.by_ref().take(MAGIC.len() as u64).read_to_end(&mut header).map_err(reading)?;
    if header.is_empty() || header == MAGIC {
        return Ok(());
    }
    Err(StoreError::Foreign { path: path.to_owned(), found: "it does not begin like an SQLite database".to_owned() })
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(tables == 0 && pragma(connection, "application_id")? == 0)
}

fn pragma(connection: &Connection, name: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

/// Refuses other programs' databases and newer formats.
fn check_format(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let application = pragma(connection, "application_id").map_err(doing("read the application id"))?;
    if application != schema::APPLICATION_ID {
        let found = format!("an SQLite database with application id {application}");
        return Err(StoreError::Foreign { path: path.to_owned(), found });
    }
    let found = pragma(connection, "user_version").map_err(doing("read the format"))?;
    if !(1..=schema::FORMAT).contains(&found) {
        return Err(StoreError::NewerFormat { path: path.to_owned(), found, supported: schema::FORMAT });
    }
    Ok(())
}

/// Tables, ids and format appear in one transaction: a crash leaves an empty database or a whole one.
fn create(connection: &Connection) -> rusqlite::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(schema::TABLES)?;
    transaction.pragma_update(None, "application_id", schema::APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", schema::FORMAT)?;
    put_cluster_id(&transaction, uuid::Uuid::now_v7().into_bytes())?;
    transaction.commit()
}

fn put_cluster_id(connection: &Connection, id: [u8; 16]) -> rusqlite::Result<()> {
    let mut value = Vec::new();
    seal(&mut value, RowSum::new(Table::Meta).bytes(CLUSTER_ID.as_bytes()), &id);
    connection.execute("INSERT OR REPLACE INTO meta (k, v) VALUES (?, ?)", (CLUSTER_ID, value))?;
    Ok(())
}

fn cluster_id(connection: &Connection) -> Result<[u8; 16], StoreError> {
    let corrupt = || StoreError::Corrupt { table: Table::Meta.name(), key: CLUSTER_ID.to_owned() };
    let stored: Option<Vec<u8>> = connection
        .query_row("SELECT v FROM meta WHERE k = ?", [CLUSTER_ID], |row| row.get(0))
        .optional()
        .map_err(doing("read the cluster id"))?;
    let stored = stored.ok_or_else(corrupt)?;
    let sum = RowSum::new(Table::Meta).bytes(CLUSTER_ID.as_bytes());
    let id = open_value(Table::Meta, sum, &stored, || CLUSTER_ID.to_owned())?;
    id.as_ref().try_into().map_err(|_| corrupt())
}

/// Makes a file's creation or renaming durable.
pub(crate) fn sync_directory(dir: &Path) -> Result<(), StoreError> {
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    fs::File::open(dir).and_then(|file| file.sync_all()).map_err(|source| StoreError::Io {
        operation: "sync",
        path: PathBuf::from(dir),
        source,
    })
}
