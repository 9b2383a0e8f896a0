//! YAML as it was written: where each value stands, for messages that point at it and for `baton fmt`.
//!
//! What a document means, `manifest::text` says. [`Source`] keeps a file's text and finds the place of a path such as
//! `spec.definition.do[2].fetch.with` in it; [`tree`] has the nodes with their spans and the comments between them.
//!
//! # Invariants
//! - Documents are numbered as `manifest::text` numbers them: those that hold nothing are left out.
//! - A place is always found: what is not there itself is shown at the nearest thing around it that is.
//!
//! # Failure
//! A text that cannot be read as YAML has no places; messages then do without.

mod locate;
mod source;
pub(crate) mod tree;

pub(crate) use source::{Origin, Place, Source};
