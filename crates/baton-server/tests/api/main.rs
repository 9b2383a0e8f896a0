//! The API over its two transports, against a whole server on a port of its own: what a client may count on.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that is not as it must be")]

mod a2a;
mod approvals;
mod bad_input;
mod callbacks;
mod clients;
mod events;
mod executions;
mod harness;
mod mcp;
mod methods;
mod readiness;
mod routes;
mod serving;
mod streams;
mod temporal;
mod watches;
mod writes;
