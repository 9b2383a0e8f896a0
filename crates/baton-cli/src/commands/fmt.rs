//! `baton fmt`: manifests in the usual form.

use std::{fs, path::Path};

use super::Context;
use crate::{
    args::FormatArgs,
    failure::Failure,
    manifest::{self, Which},
    style,
};

/// What stdin is called.
const STDIN: &str = "stdin";

pub(crate) fn fmt(context: &Context, args: &FormatArgs) -> Result<(), Failure> {
    let (mut changed, mut refused) = (0, 0);
    for file in manifest::files(&args.files, Which::Formatted)? {
        let name = file.origin.as_str();
        let formatted = match std::str::from_utf8(&file.text) {
            Ok(text) => style::format(name, text).map(|formatted| (formatted != text, formatted)),
            Err(error) => Err(Failure::refused(format!("{name}: byte {} is not UTF-8", error.valid_up_to()))),
        };
        match formatted {
            // One file that is left as it is does not keep the others from being formatted.
            Err(failure) => {
                context.printer.failure(&failure);
                refused += 1;
                if name == STDIN && !args.check {
                    context.printer.data(&String::from_utf8_lossy(&file.text))?;
                }
            }
            Ok((is_changed, _)) if args.check => {
                if is_changed {
                    context.printer.data(name)?;
                    changed += 1;
                }
            }
            Ok((_, formatted)) if name == STDIN => context.printer.data(&formatted)?,
            Ok((true, formatted)) => {
                replace(Path::new(name), &formatted)?;
                context.printer.message(&format!("{name}: formatted"));
            }
            Ok((false, _)) => {}
        }
    }
    if refused > 0 || changed > 0 { Err(Failure::told()) } else { Ok(()) }
}

/// Writes a file beside the old one and puts it in its place, so that a full disk leaves the old one whole.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |error: &std::io::Error| Failure::refused(format!("write '{}'", path.display())).because(error);
    // Through a link the file itself is meant.
    let path = fs::canonicalize(path).map_err(|error| wrong(&error))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let beside = tempfile::NamedTempFile::new_in(folder).map_err(|error| wrong(&error))?;
    fs::write(beside.path(), text).map_err(|error| wrong(&error))?;
    let permissions = fs::metadata(&path).map_err(|error| wrong(&error))?.permissions();
    fs::set_permissions(beside.path(), permissions).map_err(|error| wrong(&error))?;
    beside.as_file().sync_all().map_err(|error| wrong(&error))?;
    beside.persist(&path).map_err(|error| wrong(&error.error))?;
    Ok(())
}
