//! Activities against servers on the loopback interface that behave, and servers that do not.

#![expect(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "helpers of tests fail the test, and take what `json!` gives"
)]

mod a2a;
mod agent;
mod asyncapi;
mod auth;
mod broker;
mod command;
mod container;
mod grpc;
mod http;
mod mcp;
mod mcp_agent;
mod model;
mod openapi;
mod process;
mod programs;
mod providers;
mod script;
mod secrets;
mod speech;
mod support;
mod wires;
