//! The words every crate shares: names, ids, phases, violations and the error type of the API.
//!
//! # Invariants
//! - Nothing here does IO, reads a clock or draws random numbers; everything is a value or a pure function.
//! - A value of a newtype has been validated: [`Uid`] is sixteen bytes, a [`Digest`] is a SHA-256.
//!
//! # Deliberately absent
//! Resource types: they are generated from `proto/baton/v1` and live in `baton-proto`.

mod duration;
mod error;
mod id;
mod name;
mod phase;

pub use duration::{DURATION_MS_MAX, format_duration, parse_duration};
pub use error::{ApiError, ErrorKind, Violation};
pub use id::{Digest, Uid, UidParseError, fingerprint};
pub use name::{NAME_LENGTH_MAX, NAMESPACE_LENGTH_MAX, check_name, check_namespace};
pub use phase::Phase;

/// Largest resource, in bytes of its stored form: inputs above this are refused with both figures.
pub const RESOURCE_BYTES_MAX: usize = 1024 * 1024;

/// Data above this many bytes is stored once by digest and referenced from history.
pub const INLINE_BYTES_MAX: usize = 64 * 1024;

/// Deepest nesting of JSON that is accepted from outside; `serde_json` recurses once per level.
pub const JSON_DEPTH_MAX: usize = 128;
