//! Workers: what polls Temporal and runs the Programs of executions there, in the server or in a process of its own.

mod key;
mod remote;
pub(crate) mod wire;

pub use key::{WORKER_KEY_FILE, WorkerKey, WorkerKeyError};
pub use remote::{AddressError, RemoteLedger};

/// Largest message between a worker and its server, in bytes: long data goes whole, and the history of a step with it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 32 << 20;

#[cfg(test)]
mod tests;
