//! The words between the loop and the `model` activity, in types of ours whatever the provider speaks.
//!
//! They are recorded in histories: fields may be added with a default, never renamed or removed.

mod attachment;
mod delta;
mod message;
mod playback;
mod price;
mod spec;

pub use attachment::{ATTACHMENTS_MAX, Attachment, check_attachments, is_media_type};
pub use delta::{ModelDelta, ToolCallDelta};
pub use message::{FinishReason, Message, ModelRequest, ModelResponse, ProviderData, ToolCall, ToolDescription};
pub use playback::{Playback, PlaybackCall, PlaybackConversation, PlaybackTurn, play_model};
pub use price::{Price, Tokens};
pub(crate) use spec::INSTRUCTIONS_BYTES_MAX;
pub use spec::{ModelSpec, Provider, ReasoningEffort, RetrySpec, SecretKey};
