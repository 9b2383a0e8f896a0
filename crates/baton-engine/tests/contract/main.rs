//! The callback contract and the promises of the embedded engine, at its boundary.
#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::assigning_clones,
    reason = "shared by the modules of this test alone"
)]

mod answers;
mod lifecycle;
mod recovery;
mod support;
