//! What executions that began before hold in place of tokens and credentials.
//!
//! Their placeholders began and ended with private-use characters, which a text from outside can hold, too; so no Program
//! makes such placeholders any more. But histories and snapshots of those executions hold them: here they become what a
//! Program of today makes in their place, so that a replay can be compared and a snapshot be gone on with.
//!
//! # Invariants
//! - Only what a Program of before has written is read so: a recorded command to be compared, a snapshot of the earlier
//!   format. Never an input, and never what activities are run with.

use std::borrow::Cow;

use serde_json::Value;

use crate::{
    Command, HistoryEvent, HistoryEventKind,
    secret::{END, START},
};

const EARLIER_START: char = '\u{e000}';
const EARLIER_END: char = '\u{e001}';
const WORDS: [&str; 2] = ["baton.dev/callback-token:", "baton.dev/authorization"];

/// A text (or JSON as text) with placeholders as they are made now.
pub fn with_present_placeholders(text: &str) -> Cow<'_, str> {
    if !text.contains(EARLIER_START) {
        return Cow::Borrowed(text);
    }
    let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(EARLIER_START) {
        whole.push_str(before);
        let inner = after.split_once(EARLIER_END).filter(|(inner, _)| WORDS.iter().any(|word| inner.starts_with(word)));
        rest = if let Some((inner, after)) = inner {
            whole.extend([START]);
            whole.push_str(inner);
            whole.push(END);
            after
        } else {
            whole.push(EARLIER_START);
            after
        };
    }
    whole.push_str(rest);
    Cow::Owned(whole)
}

/// Whether a replay gives what was recorded: the same event, whichever placeholders it was recorded with.
pub fn is_same_event(produced: &HistoryEvent, recorded: &HistoryEvent) -> bool {
    if produced == recorded {
        return true;
    }
    let (HistoryEventKind::Command(produced_command), HistoryEventKind::Command(recorded_command)) =
        (&produced.kind, &recorded.kind)
    else {
        return false;
    };
    (produced.number, produced.time_ms) == (recorded.number, recorded.time_ms)
        && present(produced_command).is_some_and(|command| Some(command) == present(recorded_command))
}

/// A command as JSON with placeholders as they are made now.
fn present(command: &Command) -> Option<Value> {
    let text = serde_json::to_string(command).ok()?;
    serde_json::from_str(&with_present_placeholders(&text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AUTHORIZATION_PLACEHOLDER, Effect, OperationId, ScheduleActivity, callback_token_placeholder};
    use serde_json::json;

    fn event(input: Value) -> HistoryEvent {
        let schedule = ScheduleActivity {
            id: OperationId::new("/do/0/a", 1),
            activity: "http".to_owned(),
            input,
            start_to_close_ms: 1000,
            effect: Effect::Repeatable,
            approval: None,
        };
        HistoryEvent { number: 2, time_ms: 5, kind: HistoryEventKind::Command(Command::ScheduleActivity(schedule)) }
    }

    #[test]
    fn what_was_recorded_before_is_the_same_as_what_is_made_now() {
        let id = OperationId::new("/do/0/\"a\"", 1);
        let now = format!("a{}b{AUTHORIZATION_PLACEHOLDER}\u{e000}c", callback_token_placeholder(&id));
        let before =
            format!("a\u{e000}baton.dev/callback-token:{id}\u{e001}b\u{e000}baton.dev/authorization\u{e001}\u{e000}c");
        assert_eq!(with_present_placeholders(&before), now);
        assert_eq!(with_present_placeholders(&now), now, "what is none stays");
        assert!(is_same_event(&event(json!({"x": now})), &event(json!({"x": before}))));
        assert!(!is_same_event(&event(json!({"x": now})), &event(json!({"y": before}))));
        assert!(!is_same_event(&HistoryEvent { number: 3, ..event(json!(now)) }, &event(json!(before))));
        // A text from outside that looks like one was recorded as it came, and is given as it came.
        assert!(is_same_event(&event(json!([now, before])), &event(json!([before, before]))));
    }
}
