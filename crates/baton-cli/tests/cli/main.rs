//! The `baton` binary as its users meet it: arguments in; stdout, stderr and exit code out.

mod examples;
mod help;
mod offline;
mod run;
mod server;
mod support;
