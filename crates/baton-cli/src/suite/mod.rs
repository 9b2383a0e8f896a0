//! Test files of workflows and agents, for `baton test`.
//!
//! `file` reads a file into cases, `play` rehearses one and compares, `report` tells; `record` makes a file from an execution. A rehearsal is the Program itself
//! in simulated time (`baton_server::rehearsal`), so a test sees exactly what an engine would run.
//!
//! # Invariants
//! - A case passes only if every call had an answer, every answer its call, and every expectation holds.
//! - All that is wrong with a file, and all that a case does not meet, is told at once.

mod file;
mod play;
mod record;
mod report;
mod servers;
mod subject;

pub(crate) use file::{Suite, load, workflow_of};
pub(crate) use play::play;
pub(crate) use record::{record, workflow_name};
pub(crate) use report::{FileResult, as_json, as_junit, as_text};
