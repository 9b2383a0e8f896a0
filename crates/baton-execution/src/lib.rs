//! The contract between Programs (a workflow, an agent) and engines (embedded, Temporal).
//!
//! A [`Program`] is a pure state machine: [`Input`]s in, [`Command`]s out. An engine owns everything else:
//! it records inputs and commands as [`HistoryEvent`]s, runs [`Activities`], arms timers, mints callback
//! tokens, starts children, and feeds back what happened.
//!
//! # Invariants
//! - Same inputs in the same order give the same commands: replaying a history rebuilds the same state.
//! - Time enters only as [`Recorded::time_ms`]; identity only as [`OperationId`], which comes from position.
//! - A Program never sees a callback token, only the placeholder of [`callback_token_placeholder`]; the
//!   engine puts the token in at the moment an activity starts. So no token reaches history, state or log.
//! - Nor does it see the value of a secret, only the placeholder of [`secret_placeholder`]; whoever runs an activity puts
//!   the value in its place.
//!
//! # Deliberately absent
//! Storage, threads, runtimes, and any knowledge of the workflow language or of models.

mod activity;
mod command;
mod earlier;
mod emitter;
mod fault;
mod grant;
mod history;
mod operation;
mod program;
mod question;
mod reserved;
mod secret;
#[cfg(feature = "testing")]
pub mod testing;

pub use activity::{Activities, ActivityTask, Origin};
pub use command::{ChildTarget, Command, Effect, Ending, Note, ParentClosePolicy, ScheduleActivity, StartChild};
pub use earlier::{is_same_event, with_present_placeholders};
pub use emitter::{Emit, Emitter};
pub use fault::{Fault, fault_type};
pub use grant::{ANCESTORS_MAX, Account, Allowance, Amounts, Ancestor, Grant, Shortage, Used};
pub use history::{HistoryEvent, HistoryEventKind, Input, Outcome, Recorded, Start};
pub use operation::{
    AUTHORIZATION_PLACEHOLDER, OperationId, callback_token_placeholder, has_text, replace_callback_tokens, replace_text,
};
pub use program::{
    ArtifactSummary, Program, ProgramError, ProgramKind, Programs, Progress, TaskSummary, TreeProgress, Usage,
    WaitReason, Waiting, decimal_of_micros, micros_of_decimal,
};
pub use question::{Choice, Decision, QUESTION_BYTES_MAX, Question, QuestionKind, arguments_digest, canonical_json};
pub use reserved::{RESERVED_CHARACTERS, reserved_places};
pub use secret::{
    BrokenPlaceholder, disarm_input, disarm_secrets, disarm_text, replace_secrets, secret_placeholder,
    secret_placeholder_start, secrets_named,
};
