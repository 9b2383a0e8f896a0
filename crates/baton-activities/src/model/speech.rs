//! What a model says, emitted as it comes: for whoever looks on, never for the record.
//!
//! # Invariants
//! - No value of a secret is emitted, however it is cut into pieces: the end of a text that may be the beginning of one is held
//!   back until more has come.
//! - A text that is Base64 and nothing else so far is held back, as it is looked into only when it is whole.
//!
//! # Failure
//! What cannot be looked through in a time that its length is worth is not emitted. The recorded answer has it.

use std::collections::BTreeMap;

use baton_agent::{ModelDelta, ModelResponse, ToolCall, ToolCallDelta};
use baton_execution::Emitter;

use crate::redact::Secrets;

/// Says one answer aloud.
pub(super) struct Speech<'e> {
    emitter: &'e Emitter,
    secrets: Secrets,
    texts: BTreeMap<Part, Held>,
    /// What was said of each call: its id and its name.
    calls: BTreeMap<usize, (String, String)>,
}

/// Texts of an answer that go on independently of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Text,
    Reasoning,
    Arguments(usize),
}

/// The end of a text that may not be shown yet.
#[derive(Default)]
struct Held {
    text: String,
    /// Something has come that is not of Base64.
    is_plain: bool,
    /// Nothing more of it is said.
    is_silent: bool,
}

impl<'e> Speech<'e> {
    /// Begins an answer; one that was begun before does not count any more.
    pub(super) fn new(emitter: &'e Emitter, secrets: Secrets) -> Self {
        emitter.reset();
        Self { emitter, secrets, texts: BTreeMap::new(), calls: BTreeMap::new() }
    }

    /// More of the text.
    pub(super) fn text(&mut self, more: &str) {
        self.add(Part::Text, more);
    }

    /// More of what it thinks.
    pub(super) fn reasoning(&mut self, more: &str) {
        self.add(Part::Reasoning, more);
    }

    /// A call, counted from 0, with what is known of it by now.
    pub(super) fn call(&mut self, index: usize, id: &str, name: &str) {
        if !self.emitter.is_taken() {
            return;
        }
        let said = self.calls.entry(index).or_default();
        let fresh = |said: &mut String, now: &str| {
            let is_new = said.is_empty() && !now.is_empty();
            if is_new {
                now.clone_into(said);
            }
            if is_new { self.secrets.redact(now) } else { String::new() }
        };
        let (id, name) = (fresh(&mut said.0, id), fresh(&mut said.1, name));
        if !id.is_empty() || !name.is_empty() {
            self.emit(ModelDelta::ToolCall(ToolCallDelta { index: number(index), id, name, arguments: String::new() }));
        }
    }

    /// More of the arguments of a call.
    pub(super) fn arguments(&mut self, index: usize, more: &str) {
        self.add(Part::Arguments(index), more);
    }

    /// Whole calls, from `first` on.
    pub(super) fn calls(&mut self, calls: &[ToolCall], first: usize) {
        for (index, call) in calls.iter().enumerate().skip(first) {
            self.call(index, &call.id, &call.name);
            self.arguments(index, &call.arguments.to_string());
        }
    }

    /// Nothing more comes: what was held back is said.
    pub(super) fn end(&mut self) {
        for (part, held) in std::mem::take(&mut self.texts) {
            if !held.text.is_empty() && !held.is_silent {
                self.say_part(part, self.secrets.redact(&held.text));
            }
        }
    }

    /// A whole answer, word by word.
    pub(super) fn say(mut self, response: &ModelResponse) {
        if !self.emitter.is_taken() {
            return;
        }
        for word in response.text.iter().flat_map(|text| text.split_inclusive(' ')) {
            self.text(word);
        }
        self.calls(&response.tool_calls, 0);
        self.end();
    }

    fn add(&mut self, part: Part, more: &str) {
        if more.is_empty() || !self.emitter.is_taken() {
            return;
        }
        if self.secrets.is_empty() {
            return self.say_part(part, more.to_owned());
        }
        let held = self.texts.entry(part).or_default();
        if held.is_silent {
            return;
        }
        held.is_plain |= !more.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        held.text.push_str(more);
        if !held.is_plain {
            return;
        }
        let Some(settled) = self.secrets.settled(&held.text) else {
            *held = Held { is_silent: true, ..Held::default() };
            return;
        };
        let shown: String = held.text.drain(..settled).collect();
        if !shown.is_empty() {
            self.say_part(part, self.secrets.redact(&shown));
        }
    }

    fn say_part(&self, part: Part, text: String) {
        self.emit(match part {
            Part::Text => ModelDelta::Text(text),
            Part::Reasoning => ModelDelta::Reasoning(text),
            Part::Arguments(index) => ModelDelta::ToolCall(ToolCallDelta {
                index: number(index),
                arguments: text,
                ..ToolCallDelta::default()
            }),
        });
    }

    fn emit(&self, delta: ModelDelta) {
        // A delta is texts and a number: it can be written.
        if let Ok(value) = serde_json::to_value(delta) {
            self.emitter.emit(value);
        }
    }
}

fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
