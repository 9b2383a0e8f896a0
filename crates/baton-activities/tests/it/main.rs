//! Activities against servers on the loopback interface that behave, and servers that do not.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test, and take what `json!` gives"
)]

mod agent;
mod auth;
mod http;
mod model;
mod openapi;
mod process;
mod secrets;
mod support;
