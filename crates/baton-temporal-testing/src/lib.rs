//! Temporal's dev server for tests: started on a free port over a database file, killed, and started again over it.
//!
//! The programs come from `cargo xtask tools` ([`temporal`], [`python`]). Starting takes less than a second, so that every
//! test process has a server of its own: [`TemporalServer::shared`] for tests that leave it alone, [`TemporalServer::start`]
//! for those that kill it.
//!
//! # Invariants
//! - A started server answers from its history shards, not only from its port.
//! - A server does not outlive the process that started it, however that one ends: a watchdog holds the other end of a pipe.
//! - Its environment is empty: a `temporal.toml` or `TEMPORAL_…` of the desk changes nothing.
//!
//! # Deliberately absent
//! No client: a test brings the one that it tests. No fixed pauses.
//!
//! # Failure
//! Everything panics with what was said: this is test support.

mod programs;
mod server;

pub use self::{
    programs::{python, temporal},
    server::TemporalServer,
};

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(2);

/// Asks until there is a value; `what` names it in the panic after two minutes.
///
/// # Panics
/// If there is none by then.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not come to this: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}
