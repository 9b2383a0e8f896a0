//! `baton restore`: a folder that `baton backup` made becomes the data of a server.

use baton_server::{KEY_FILE, ServerOptions, Store, StoreError};
use serde_json::json;

use super::{
    Context,
    backup::{STORE_FILE, copy_key, refused},
};
use crate::{args::RestoreArgs, failure::Failure, local, output};

/// The data that is set aside is of no use without its key.
fn set_key_aside(args: &RestoreArgs) -> Result<(), Failure> {
    let (key, aside) = (args.data_dir.join(KEY_FILE), args.data_dir.join(format!("{KEY_FILE}.replaced")));
    let same = || std::fs::read(&key).ok() == std::fs::read(args.from.join(KEY_FILE)).ok();
    // A restore that was interrupted has put it aside before.
    if !args.replace || !key.exists() || aside.exists() || same() {
        return Ok(());
    }
    std::fs::rename(&key, &aside)
        .map_err(|error| Failure::environment(format!("set aside '{}'", key.display())).because(&error))
}

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> Result<(), Failure> {
    if let Some(url) = ServerOptions::from(local::server_config(&context.settings, &[])?.config).store_url {
        return Err(Failure::refused(format!(
            "the store of this configuration is in PostgreSQL, at {url}; a backup of an embedded store cannot be put there"
        ))
        .hint("restore PostgreSQL with its own tools, such as pg_restore; for an embedded store leave out store.url"));
    }
    for file in [STORE_FILE, KEY_FILE] {
        if !args.from.join(file).is_file() {
            return Err(Failure::refused(format!("'{}' is not a backup: it has no {file}", args.from.display()))
                .hint("make one with baton backup"));
        }
    }
    if args.replace {
        let question = format!(
            "Put the backup in place of the data in '{}'? What is there is set aside.",
            args.data_dir.display()
        );
        context.printer.confirm(&question, args.yes)?;
    }
    let report = Store::restore(&args.from.join(STORE_FILE), &args.data_dir, args.replace).map_err(|error| {
        let failure = refused(&format!("restore to '{}'", args.data_dir.display()), &error);
        match error {
            StoreError::Occupied { .. } if args.replace => {
                failure.hint("an earlier restore set it aside; move it away first")
            }
            StoreError::Occupied { .. } => failure.hint("add --replace to set it aside"),
            _ => failure,
        }
    })?;
    // After the store: while one that is there is refused, its key must not be touched.
    set_key_aside(args)?;
    copy_key(&args.from.join(KEY_FILE), &args.data_dir.join(KEY_FILE))?;
    context.printer.message(&format!("'{}' restored to '{}'", args.from.display(), args.data_dir.display()));
    if args.replace {
        context.printer.message("what was there stands beside it, with names that end in .replaced");
    }
    let json = json!({"path": args.data_dir.display().to_string(), "bytes": report.bytes, "revision": report.revision});
    let table = || format!("{}  {} bytes  revision {}", args.data_dir.display(), report.bytes, report.revision);
    context.printer.data(&output::value(context.settings.output.value, &json, table))
}
