//! Executions at a host and callers that wait elsewhere, as the engine keeps them. The host and the caller are played by
//! the test, message by message; real ones are tested beside their adapters.
#![expect(unreachable_pub, clippy::unwrap_used, reason = "shared by the modules of this test alone")]

mod callers;
mod hosted;
mod support;
