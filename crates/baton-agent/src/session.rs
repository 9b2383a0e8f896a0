//! Conversations that go on over several executions: the turns of a session.
//!
//! Each execution leaves one [`TurnRecord`]: what was said in it, and the digest of the record before. The engine stores it
//! once, by its own digest, so the records are a chain, and the digest of the last one stands for all of them. What the next
//! execution begins with is a reference into the chain ([`Earlier`]); the texts are put before its own messages when the
//! model is asked ([`Recall`]). So a history grows with what its execution says, whatever was said before it, and replaying
//! it needs no record at all.
//!
//! # Invariants
//! - A record is never changed. Compaction alters how many turns a reference covers and what stands for those before them,
//!   never what was recorded.
//! - Turns are left out whole: a tool call is never shown without its result.
//!
//! # Deliberately absent
//! Who keeps the digest of the last record, and in which order executions have their turn: the server.

use baton_execution::{Fault, fault_type};
use baton_types::{Digest, Phase, Uid, Violation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fields::{Fields, Report},
    model::{Message, ModelSpec},
};

/// Turns that stay whole where nothing else is said: for `keepLast`, and beside a summary.
const KEEP_LAST_DEFAULT: (u32, u32) = (20, 4);
/// Most turns that stay whole.
const KEEP_LAST_MAX: u32 = 10_000;
/// Above so many bytes a summary is made where nothing else is said: about 64 thousand tokens.
const SUMMARISE_AT_BYTES_DEFAULT: u32 = 256 * 1024;
/// Longest summary, in bytes; what is longer is cut.
pub(crate) const SUMMARY_BYTES_MAX: usize = 32 * 1024;
/// Before the text of a summary.
const SUMMARY_INTRODUCTION: &str = "Summary of the conversation before:";

/// What a turn of a session begins with, as `Start::carried_over` has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Earlier {
    /// Which turn of the session this is, from 1.
    pub turn: u32,
    /// Digest of the record of the turn before; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// What the model is shown of the turns before.
    #[serde(default)]
    pub spoken: Spoken,
    /// If a summary is to be made first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summarise: Option<Summarise>,
}

/// What was said in earlier turns, by reference.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spoken {
    /// What stands for the turns before those.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// Digest of the record of the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// How many turns, back from there.
    #[serde(default)]
    pub turns: u32,
    /// Messages, the summary included.
    #[serde(default)]
    pub messages: u32,
    /// Bytes of their JSON.
    #[serde(default)]
    pub bytes: u64,
}

/// A summary that is to be made before anything else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summarise {
    /// Of what.
    pub older: Spoken,
    /// What stays whole.
    pub kept: Spoken,
    /// Who makes it; `None` for the model of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpec>,
}

/// One turn, as it is kept: what `Program::carry_over` gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TurnRecord {
    /// Digest of the record of the turn before; `None` for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
    /// Which turn of the session, from 1.
    pub turn: u32,
    /// Name of the execution.
    pub execution: String,
    /// Its uid.
    pub uid: Uid,
    /// How it ended.
    pub phase: Phase,
    /// When it began, in milliseconds since 1970.
    pub started_ms: i64,
    /// When it ended.
    pub ended_ms: i64,
    /// What was said in it, in order.
    pub messages: Vec<Message>,
    /// Bytes of the JSON of `messages`.
    pub bytes: u64,
    /// Tokens of the last question and its answer, as the provider counted them: how long the conversation is by now.
    pub tokens: u64,
    /// The summary that it began with making.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<NewSummary>,
}

/// A summary that was made in a turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSummary {
    /// The text.
    pub text: String,
    /// The turns before this one that stayed whole beside it; its own messages are not among them.
    pub kept: Spoken,
}

impl TurnRecord {
    /// Reads a record from its stored form.
    ///
    /// # Errors
    /// A runtime fault: it is none, or of a later version.
    pub fn read(content: &[u8]) -> Result<Self, Fault> {
        serde_json::from_slice(content).map_err(|error| {
            Fault::new(fault_type::RUNTIME, 500, format!("a turn of the session cannot be read: {error}"))
        })
    }
}

impl Spoken {
    /// These turns and one more.
    #[must_use]
    pub fn and(self, digest: &Digest, turn: &TurnRecord) -> Self {
        let before = match &turn.summary {
            Some(made) => made.kept.clone().with_summary(made.text.clone()),
            None => self,
        };
        let messages = u32::try_from(turn.messages.len()).unwrap_or(u32::MAX);
        Self {
            last: Some(digest.to_string()),
            turns: before.turns.saturating_add(1),
            messages: before.messages.saturating_add(messages),
            bytes: before.bytes.saturating_add(turn.bytes),
            summary: before.summary,
        }
    }

    /// These turns, with a summary of those before them.
    #[must_use]
    pub fn with_summary(self, text: String) -> Self {
        Self {
            messages: self.messages.saturating_add(1),
            bytes: self.bytes.saturating_add(text.len() as u64),
            summary: Some(text),
            ..self
        }
    }

    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.turns == 0 && self.summary.is_none()
    }

    /// The last of these turns, without a summary; how long they are is not known yet.
    #[must_use]
    pub fn last_turns(&self, turns: u32) -> Self {
        let turns = turns.min(self.turns);
        Self { last: self.last.clone().filter(|_| turns > 0), turns, ..Self::default() }
    }

    /// Divides these turns where the last of them, which were recalled, begin: what lies before, with the summary of what
    /// lies before that; and the last ones.
    pub fn divide(&self, last: &Recall) -> (Self, Self) {
        let messages = last.turns.iter().map(|turn| turn.messages.len()).sum::<usize>();
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        let bytes = last.turns.iter().fold(0_u64, |sum, turn| sum.saturating_add(turn.bytes));
        let turns = u32::try_from(last.turns.len()).unwrap_or(u32::MAX);
        let older = Self {
            summary: self.summary.clone(),
            last: if last.turns.is_empty() { self.last.clone() } else { last.next.clone() },
            turns: self.turns.saturating_sub(turns),
            messages: self.messages.saturating_sub(messages),
            bytes: self.bytes.saturating_sub(bytes),
        };
        (older, Self { messages, bytes, ..self.last_turns(turns) })
    }

    /// Begins to bring the texts together.
    pub fn recall(&self) -> Recall {
        let summary = self.summary.as_ref().map(|text| Message::user(format!("{SUMMARY_INTRODUCTION}\n\n{text}")));
        Recall { next: self.last.clone().filter(|_| self.turns > 0), left: self.turns, turns: Vec::new(), summary }
    }
}

/// The texts of earlier turns, as they are brought together: one record after the other, the last one first.
#[derive(Debug)]
pub struct Recall {
    next: Option<String>,
    left: u32,
    turns: Vec<TurnRecord>,
    summary: Option<Message>,
}

impl Recall {
    /// Digest of the record that is needed next; `None` once all are there.
    ///
    /// # Errors
    /// A runtime fault: it is no digest, or the chain ends too early.
    pub fn wanted(&self) -> Result<Option<Digest>, Fault> {
        let broken = |why: &str| {
            Fault::new(fault_type::RUNTIME, 500, format!("the conversation of the session is broken: {why}"))
        };
        match &self.next {
            _ if self.left == 0 => Ok(None),
            None => Err(broken(&format!("{} more turns were expected before the first one", self.left))),
            Some(digest) => digest.parse().map(Some).map_err(|why: String| broken(&why)),
        }
    }

    /// Takes the record that was wanted.
    ///
    /// # Errors
    /// As for [`TurnRecord::read`].
    pub fn take(&mut self, content: &[u8]) -> Result<(), Fault> {
        let mut turn = TurnRecord::read(content)?;
        self.next = turn.previous.take();
        self.left = self.left.saturating_sub(1);
        self.turns.push(turn);
        Ok(())
    }

    /// What was said, in order.
    pub fn into_messages(self) -> Vec<Message> {
        let spoken = self.turns.into_iter().rev().flat_map(|turn| turn.messages);
        self.summary.into_iter().chain(spoken).collect()
    }
}

/// How a conversation is kept from growing for ever.
#[derive(Clone, Debug, PartialEq)]
pub struct Compaction {
    /// What is done.
    pub policy: CompactionPolicy,
    /// Turns that stay whole.
    pub keep_last: u32,
    /// Done above so many tokens of the last question and its answer.
    pub at_tokens: Option<u32>,
    /// Done above so many bytes. With neither mark, always.
    pub at_bytes: Option<u32>,
    /// Who makes a summary; `None` for the model of the agent.
    pub model: Option<ModelSpec>,
}

/// What is done with older turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompactionPolicy {
    /// Nothing.
    #[default]
    None,
    /// They are not shown to the model any more.
    KeepLast,
    /// A summary stands for them.
    Summarise,
}

impl Compaction {
    /// Whether it is due for this conversation, which is so many tokens long.
    pub fn is_due(&self, spoken: &Spoken, tokens: u64) -> bool {
        let above = |mark: Option<u32>, found: u64| mark.map(|mark| found > u64::from(mark));
        let marks = [above(self.at_tokens, tokens), above(self.at_bytes, spoken.bytes)];
        let passed = marks.iter().flatten().any(|passed| *passed) || marks.iter().all(Option::is_none);
        self.policy != CompactionPolicy::None && passed && spoken.turns > self.keep_last
    }
}

/// Reads `spec.compaction` of a session in its JSON form; `null` is none.
///
/// # Errors
/// Every violation, with paths within it.
pub fn check_compaction(compaction: &Value) -> Result<Compaction, Vec<Violation>> {
    let none =
        Compaction { policy: CompactionPolicy::None, keep_last: 0, at_tokens: None, at_bytes: None, model: None };
    if compaction.is_null() {
        return Ok(none);
    }
    let report = Report::default();
    let read = Fields::of(&report, "", compaction).map(read);
    let violations = report.into_violations();
    if violations.is_empty() { Ok(read.unwrap_or(none)) } else { Err(violations) }
}

fn read(fields: Fields<'_>) -> Compaction {
    let words = [
        ("none", CompactionPolicy::None),
        ("keepLast", CompactionPolicy::KeepLast),
        ("summarise", CompactionPolicy::Summarise),
    ];
    let policy = fields.word("policy", &words).unwrap_or_default();
    let summarises = policy == CompactionPolicy::Summarise;
    let keep_last = fields.count("keepLast", u32::from(!summarises), KEEP_LAST_MAX);
    let at_tokens = fields.count("atTokens", 1, i32::MAX as u32);
    let at_bytes = fields.count("atBytes", 1, i32::MAX as u32);
    let model = fields.object("model").map(|own| {
        let model = ModelSpec::read(&own);
        own.finish();
        model
    });
    if policy == CompactionPolicy::None {
        for name in ["keepLast", "atTokens", "atBytes"] {
            if fields.get(name).is_some() {
                fields.violation(name, "is for the policies 'keepLast' and 'summarise'");
            }
        }
    }
    if !summarises && model.is_some() {
        fields.violation("model", "is for the policy 'summarise'");
    }
    fields.finish();
    let unmarked = at_tokens.is_none() && at_bytes.is_none();
    Compaction {
        policy,
        keep_last: keep_last.unwrap_or(if summarises { KEEP_LAST_DEFAULT.1 } else { KEEP_LAST_DEFAULT.0 }),
        at_tokens,
        at_bytes: at_bytes.or_else(|| (summarises && unmarked).then_some(SUMMARISE_AT_BYTES_DEFAULT)),
        model,
    }
}
