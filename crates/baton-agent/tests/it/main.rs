//! The crate from outside: specs that are checked, and runs that are driven input by input.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test, and take what `json!` gives"
)]

mod artifacts;
mod definition;
mod forest;
mod http_tool;
mod injection;
mod limits;
mod mcp;
mod models;
mod openapi_tool;
mod policy;
mod properties;
mod run;
mod sessions;
mod shell_tool;
mod skills;
mod support;
mod tools;
mod tree;
