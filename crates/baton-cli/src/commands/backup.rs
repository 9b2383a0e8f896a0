//! `baton backup`: the data of a server, which may be running, as a folder.
//!
//! A backup is a folder with the store ([`STORE_FILE`]) and the key of callback tokens: either without the other is not
//! enough to go on from. The store is copied beside the server, not through it: whatever the server had acknowledged when
//! the command began is in the copy, and the server goes on meanwhile. The key never changes.
//!
//! # Failure
//! A backup that failed leaves no folder.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use baton_server::{BackupReport, KEY_FILE, ServerOptions, Store, StoreError, StoreOptions};
use serde_json::json;

use super::Context;
use crate::{args::BackupArgs, failure::Failure, local, output};

/// The store in a backup.
pub(super) const STORE_FILE: &str = "store.db";

pub(crate) fn backup(context: &Context, args: &BackupArgs) -> Result<(), Failure> {
    let flags: Vec<_> = args.data_dir.iter().map(|dir| ("data-dir", dir.display().to_string())).collect();
    let options = ServerOptions::from(local::server_config(&context.settings, &flags)?.config);
    if let Some(url) = options.store_url.as_ref().filter(|_| args.data_dir.is_none()) {
        return Err(Failure::refused(format!("the store of this configuration is in PostgreSQL, at {url}")).hint(format!(
            "back it up with PostgreSQL's own tools, such as pg_dump, and keep '{}' with it; --data-dir names an embedded store",
            options.key_path().display()
        )));
    }
    // A key elsewhere is that of the configured server's store.
    let key = if args.data_dir.is_some() { options.data_dir.join(KEY_FILE) } else { options.key_path() };
    let ServerOptions { data_dir, store: options, .. } = options;
    if !key.is_file() {
        return Err(Failure::refused(format!(
            "'{}' is not the data directory of a server: it has no {KEY_FILE}",
            data_dir.display()
        )));
    }
    make_folder(&args.to)?;
    let report = fill(&data_dir, &key, &args.to, &options).inspect_err(|_| {
        // What went wrong is told; a folder that is no backup must not be taken for one, nor be in the way of the next.
        for file in [STORE_FILE, KEY_FILE] {
            let _ = fs::remove_file(args.to.join(file));
        }
        let _ = fs::remove_dir(&args.to);
    })?;
    context.printer.message(&format!("'{}' backed up to '{}'", data_dir.display(), args.to.display()));
    let json = json!({"path": args.to.display().to_string(), "bytes": report.bytes, "revision": report.revision});
    let table = || format!("{}  {} bytes  revision {}", args.to.display(), report.bytes, report.revision);
    context.printer.data(&output::value(context.settings.output.value, &json, table))
}

/// The key comes first: a store without it is what must not be left by a crash.
fn fill(data_dir: &Path, key: &Path, to: &Path, options: &StoreOptions) -> Result<BackupReport, Failure> {
    copy_key(key, &to.join(KEY_FILE))?;
    Store::backup_of(data_dir, &to.join(STORE_FILE), options)
        .map_err(|error| refused(&format!("back up '{}' to '{}'", data_dir.display(), to.display()), &error))
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
