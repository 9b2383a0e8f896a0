//! The usual form of manifests, for `baton fmt`: order of fields, quotes, indentation, block texts.
//!
//! The text is written anew from its tree ([`crate::yaml::tree`]); `order` knows in which order fields stand, `scalar`
//! how a value is written, `write` puts lines together, with the comments that belong to them.
//!
//! # Invariants
//! - Nothing is lost: what was written is read again and must hold the same data and the same comments, and formatting it
//!   once more must change nothing. Otherwise the file is left as it is, and that is said.
//! - Data of the author's own (what `set` sets, bodies, metadata) keeps the order of its fields.
//!
//! # Deliberately absent
//! Anchors, aliases, tags and directives: a file that has them is left as it is.

mod order;
mod scalar;
mod write;

use crate::{failure::Failure, manifest::text::parse_yaml, yaml::tree};

/// A text in the usual form.
///
/// # Errors
/// Why it is left as it is.
pub(crate) fn format(name: &str, text: &str) -> Result<String, Failure> {
    let written = once(name, text)?;
    let lost = |what: &str| {
        Failure::refused(format!("{name}: is left as it is; in another form its {what} would not be the same"))
    };
    if parse_yaml(name, written.as_bytes()).ok() != Some(parse_yaml(name, text.as_bytes())?) {
        return Err(lost("data"));
    }
    if comments(text) != comments(&written) {
        return Err(lost("comments"));
    }
    if once(name, &written).ok().as_ref() != Some(&written) {
        return Err(lost("form"));
    }
    Ok(written)
}

fn once(name: &str, text: &str) -> Result<String, Failure> {
    // Whoever reads it says what is wrong with it, with its place.
    parse_yaml(name, text.as_bytes())?;
    let read = tree::parse(text).map_err(|wrong| Failure::refused(format!("{name}: {}", wrong.message)))?;
    write::write(text, &read).map_err(|what| Failure::refused(format!("{name}: is left as it is; it has {what}")))
}

/// All comments, in an order of their own: fields may change places.
fn comments(text: &str) -> Option<Vec<String>> {
    let read = tree::parse(text).ok()?;
    let mut comments: Vec<String> = read.comments.iter().map(|comment| comment.text.trim().to_owned()).collect();
    comments.sort();
    Some(comments)
}

#[cfg(test)]
mod tests;
