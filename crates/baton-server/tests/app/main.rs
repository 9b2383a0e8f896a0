//! The application layer over a real store and the real engine: what a call means, whoever carried it.
//!
//! No test waits for a time: each follows a history or a watch to the event that it is about.

#![expect(clippy::unwrap_used, reason = "what must hold in a test is unwrapped, in its helpers too")]

mod admission;
mod agent_secrets;
mod artifacts;
mod documentation;
mod events;
mod executions;
mod kill;
mod legacy;
mod limits;
mod lists;
mod mcp_servers;
mod models;
mod reports;
mod resources;
mod schedules;
mod secrets;
mod server;
mod sessions;
mod skills;
mod support;
mod templates;
mod tools;
mod traces;
mod upkeep;
mod watches;
