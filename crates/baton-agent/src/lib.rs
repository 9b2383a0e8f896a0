//! The agent loop: a model that is asked, its tools that are called, until it answers.
//!
//! [`check`] turns the JSON form of an agent's spec into an [`AgentDefinition`], with every violation at
//! once. [`load`] makes an [`AgentProgram`] of it: a pure state machine that asks for model calls and tool
//! calls and is told how they ended. The words that it exchanges with the `model` activity are
//! [`ModelRequest`] and [`ModelResponse`].
//!
//! # Invariants
//! - The same inputs give the same commands; no clock, no randomness, no IO.
//! - A model call or tool call is a command, so it is recorded before it happens; an answer that was
//!   recorded is never asked for again.
//! - Limits are looked at before a call, never after: what would exceed one is not begun.
//! - A tool's fault is told to the model; only a fault of the model itself, a limit, or a call that is and stays in
//!   doubt ends the execution.
//! - Whether a call is made is decided by the policy in the spec and by the person it asks. A decision is for one call
//!   with one set of arguments, and is used up by it.
//!
//! # Deliberately absent
//! Clients of models, of tools and of their servers: those are activities. Where the turns of a session are kept, and whose
//! turn it is: see [`TurnRecord`]. Who may decide: a Program asks a question and gets an answer, and whom it comes from is the
//! server's business.
//!
//! # Failure
//! What a model answers is never trusted: text that is not what was demanded becomes a message to the
//! model, a few times, and then a fault that says so.

mod definition;
mod depth;
mod fields;
mod limits;
mod model;
mod policy;
mod program;
mod schema;
mod secrets;
mod servers;
mod session;
mod skills;
mod tools;
mod untrusted;

pub use definition::{AgentDefinition, Reference, TOOLS_MAX, check, parse};
pub use depth::{DATA_DEPTH_MAX, is_deeper_than};
pub use limits::{Limits, MAX_TURNS_DEFAULT, OnSoftMark, TreeLimits, check_limits};
pub use model::{
    ATTACHMENTS_MAX, Attachment, FinishReason, Message, ModelDelta, ModelRequest, ModelResponse, ModelSpec, Playback,
    PlaybackCall, PlaybackConversation, PlaybackTurn, Price, Provider, ProviderData, ReasoningEffort, RetrySpec,
    SecretKey, Tokens, ToolCall, ToolCallDelta, ToolDescription, check_attachments, is_media_type, play_model,
};
pub use policy::{Policy, PolicyAction, PolicyCall, Verdict};
pub use program::{AgentProgram, load, restore};
pub use schema::Schema;
pub use servers::{Listed, Listing, check_mcp_server, secrets_of_mcp_server};
pub use session::{
    Compaction, CompactionPolicy, Earlier, NewSummary, Recall, Spoken, Summarise, TurnRecord, check_compaction,
};
pub use skills::{PINNED_SKILLS, SKILLS_MAX, check_skill};
pub use tools::CHILD_WAIT_MS_DEFAULT;
