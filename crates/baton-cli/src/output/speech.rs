//! What a model is saying, as text that goes on.

use baton_proto::v1::{self, delta::Delta as Part};

/// Puts the parts of messages on lines of their own.
#[derive(Debug, Default)]
pub(crate) struct Speech {
    /// Something stands on the line.
    in_line: bool,
    /// The present part is not the same as the one before: another message, a call, thoughts.
    last: Option<(String, &'static str, i32)>,
}

impl Speech {
    /// What ends the line that was begun, if one was.
    pub(crate) fn end(&mut self) -> &'static str {
        self.last = None;
        if std::mem::take(&mut self.in_line) { "\n" } else { "" }
    }

    /// The text that shows a part.
    pub(crate) fn words(&mut self, delta: &v1::Delta) -> String {
        let position = delta.operation.as_ref().map(|it| it.position.clone()).unwrap_or_default();
        let (what, index, before, text) = match &delta.delta {
            Some(Part::Text(text)) => ("text", 0, "  ", plain(text)),
            Some(Part::Reasoning(text)) => ("reasoning", 0, "  (thinks) ", plain(text)),
            Some(Part::ToolCall(call)) => {
                let name = if call.name.is_empty() { String::new() } else { format!("{} ", plain(&call.name)) };
                ("call", call.index, "  → ", format!("{name}{}", plain(&call.arguments)))
            }
            Some(Part::Reset(_)) => ("reset", 0, "  ", "(begins anew)".to_owned()),
            Some(Part::Value(_)) | None => return String::new(),
        };
        let now = (position, what, index);
        let mut shown = String::new();
        if self.last.as_ref() != Some(&now) {
            shown.push_str(self.end());
            shown.push_str(before);
        }
        self.last = Some(now);
        self.in_line = true;
        shown + &text
    }
}

/// Text of somebody else: control characters are shown, not obeyed, but for line breaks.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn delta(mut fields: Value) -> v1::Delta {
        fields["operation"] = json!({"position": "/turns/1/model", "attempt": 1});
        baton_proto::from_json_value(fields).unwrap()
    }

    #[test]
    fn each_part_of_a_message_has_lines_of_its_own() {
        let mut speech = Speech::default();
        assert_eq!(speech.end(), "");
        let mut text = String::new();
        for fields in [
            json!({"index": 1, "reasoning": "Hm."}),
            json!({"index": 2, "text": "Good "}),
            json!({"index": 3, "text": "\u{1b}[2Jday."}),
            json!({"index": 4, "toolCall": {"name": "look", "arguments": "{\"at\""}}),
            json!({"index": 5, "toolCall": {"arguments": ":1}"}}),
            json!({"index": 6, "toolCall": {"index": 1, "name": "go"}}),
            json!({"reset": true}),
            json!({"index": 1, "text": "Once"}),
        ] {
            text += &speech.words(&delta(fields));
        }
        text += speech.end();
        let expected =
            "  (thinks) Hm.\n  Good \u{fffd}[2Jday.\n  → look {\"at\":1}\n  → go \n  (begins anew)\n  Once\n";
        assert_eq!(text, expected);
    }
}
