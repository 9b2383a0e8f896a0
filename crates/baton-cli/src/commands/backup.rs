//! `baton backup`: the data of a server that is not running, as a folder.
//!
//! A backup is a folder with the store ([`STORE_FILE`]) and the key of callback tokens: either without the other is not
//! enough to go on from.
//!
//! # Deliberately absent
//! Backing up a running server: the data directory is locked by it, and the API has no way to ask it for a copy.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use baton_server::{KEY_FILE, Store, StoreError, StoreOptions};
use serde_json::json;

use super::Context;
use crate::{args::BackupArgs, failure::Failure, local, output};

/// The store in a backup.
pub(super) const STORE_FILE: &str = "store.db";

pub(crate) fn backup(context: &Context, args: &BackupArgs) -> Result<(), Failure> {
    let flags: Vec<_> = args.data_dir.iter().map(|dir| ("data-dir", dir.display().to_string())).collect();
    let data_dir = local::server_config(&context.settings, &flags)?.config.data_dir;
    if !data_dir.join(KEY_FILE).is_file() {
        return Err(Failure::refused(format!(
            "'{}' is not the data directory of a server: it has no {KEY_FILE}",
            data_dir.display()
        )));
    }
    // The reserves of a server on its disk are not a backup's business.
    let options = StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() };
    let store = Store::open(&data_dir, options).map_err(|error| {
        let failure = refused(&format!("open '{}'", data_dir.display()), &error);
        if matches!(error, StoreError::Locked { .. }) {
            failure.hint("a running server cannot be backed up in this version")
        } else {
            failure
        }
    })?;
    make_folder(&args.to)?;
    let report = store
        .backup(&args.to.join(STORE_FILE))
        .map_err(|error| refused(&format!("back up to '{}'", args.to.display()), &error));
    store.close();
    let report = report?;
    copy_key(&data_dir.join(KEY_FILE), &args.to.join(KEY_FILE))?;
    context.printer.message(&format!("'{}' backed up to '{}'", data_dir.display(), args.to.display()));
    let json = json!({"path": args.to.display().to_string(), "bytes": report.bytes, "revision": report.revision});
    let table = || format!("{}  {} bytes  revision {}", args.to.display(), report.bytes, report.revision);
    context.printer.data(&output::value(context.settings.output.value, &json, table))
}

pub(super) fn refused(doing: &str, error: &StoreError) -> Failure {
    let failure = Failure::environment(doing).because(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A folder that only its owner can look into: it will hold a key.
fn make_folder(path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new().mode(0o700).create(path);
    made.map_err(|error| Failure::environment(format!("make the folder '{}'", path.display())).because(&error))
}

/// Copies the key, so that it is there whole or not at all.
pub(super) fn copy_key(from: &Path, to: &Path) -> Result<(), Failure> {
    let mut partial: PathBuf = to.to_owned();
    partial.set_extension("partial");
    let copy = || -> io::Result<()> {
        fs::copy(from, &partial)?;
        fs::File::open(&partial)?.sync_all()?;
        fs::rename(&partial, to)?;
        to.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    };
    copy().map_err(|error| {
        Failure::environment(format!("copy '{}' to '{}'", from.display(), to.display())).because(&error)
    })
}
