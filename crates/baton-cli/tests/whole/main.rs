//! The whole product with real processes: the `baton` binary is started, asked over its port, killed, and started again.
//!
//! Every test has a data directory and a port of its own. What stands for the world outside is [`stub::Stub`], a server
//! of the test on the loopback interface that can also misbehave. Clients are [`http::Api`], over plain sockets, so that
//! a lost answer is seen as one.
//!
//! # Deliberately absent
//! Fixed pauses: a test waits for an answer, for the end of a stream, or by [`eventually`] for a value.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it must be")]

mod flows;
mod http;
mod process;
mod stub;

mod agent_secrecy;
mod approvals;
mod boundaries;
mod crash;
mod data_dir;
mod events;
mod injection;
mod interop;
mod outside;
mod secrecy;
mod sessions;
mod several;
mod signals;
mod streams;
mod temporal;

use std::{
    thread,
    time::{Duration, Instant},
};

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(2);

/// Asks until there is a value.
#[track_caller]
fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ask() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "it did not come to this: {what}");
        thread::park_timeout(Duration::from_millis(10));
    }
}
