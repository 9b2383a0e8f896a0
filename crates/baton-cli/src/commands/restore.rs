//! `baton restore`: a folder that `baton backup` made becomes the data of a server.

use baton_server::{KEY_FILE, Store, StoreError};
use serde_json::json;

use super::{
    Context,
    backup::{STORE_FILE, copy_key, refused},
};
use crate::{args::RestoreArgs, failure::Failure, output};

pub(crate) fn restore(context: &Context, args: &RestoreArgs) -> Result<(), Failure> {
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
        if matches!(error, StoreError::Occupied { .. }) {
            failure.hint("add --replace to set it aside")
        } else {
            failure
        }
    })?;
    // After the store: while one that is there is refused, its key must not be touched.
    copy_key(&args.from.join(KEY_FILE), &args.data_dir.join(KEY_FILE))?;
    context.printer.message(&format!("'{}' restored to '{}'", args.from.display(), args.data_dir.display()));
    let json = json!({"path": args.data_dir.display().to_string(), "bytes": report.bytes, "revision": report.revision});
    let table = || format!("{}  {} bytes  revision {}", args.data_dir.display(), report.bytes, report.revision);
    context.printer.data(&output::value(context.settings.output.value, &json, table))
}
