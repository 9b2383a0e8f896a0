//! The `baton` binary as its users meet it: arguments in; stdout, stderr and exit code out.

#![expect(clippy::unwrap_used, reason = "what a test cannot do without, it fails without")]

mod approvals;
mod author;
mod events;
mod examples;
mod help;
mod offline;
mod pages;
mod run;
mod server;
mod sessions;
mod support;
mod worker;
