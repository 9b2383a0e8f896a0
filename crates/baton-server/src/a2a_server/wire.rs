//! What comes in, in the JSON form of the protocol's messages. Fields that are not read here are left alone, as the protocol
//! wants of receivers.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_types::Violation;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::error::A2aError;

/// Parts of one message.
const PARTS_MAX: usize = 64;
/// Longest id that a client chooses, in bytes.
const ID_BYTES_MAX: usize = 128;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendMessage {
    #[serde(default)]
    pub(super) tenant: String,
    pub(super) message: Message,
    #[serde(default)]
    pub(super) configuration: Configuration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Configuration {
    pub(super) accepted_output_modes: Vec<String>,
    pub(super) task_push_notification_config: Option<PushConfig>,
    pub(super) history_length: Option<i64>,
    pub(super) return_immediately: bool,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message {
    #[serde(default, rename = "messageId")]
    pub(super) id: String,
    #[serde(default, rename = "contextId")]
    pub(super) context: String,
    #[serde(default, rename = "taskId")]
    pub(super) task: String,
    #[serde(default)]
    pub(super) role: String,
    #[serde(default)]
    pub(super) parts: Vec<Part>,
}

/// Exactly one of `text`, `raw`, `url` and `data`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Part {
    pub(super) text: Option<String>,
    /// Base64.
    pub(super) raw: Option<String>,
    pub(super) url: Option<String>,
    #[serde(deserialize_with = "present")]
    pub(super) data: Option<Value>,
    pub(super) filename: String,
    pub(super) media_type: String,
}

/// A value that is there, also if it is null.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OfTask {
    #[serde(default)]
    pub(super) tenant: String,
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) history_length: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
pub(super) struct ListTasks {
    pub(super) tenant: String,
    pub(super) context_id: String,
    pub(super) status: String,
    pub(super) page_size: Option<i64>,
    pub(super) page_token: String,
    pub(super) history_length: Option<i64>,
    pub(super) status_timestamp_after: Option<baton_proto::Timestamp>,
    pub(super) include_artifacts: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PushConfig {
    pub(super) tenant: String,
    pub(super) id: String,
    pub(super) task_id: String,
    pub(super) url: String,
    pub(super) token: String,
    pub(super) authentication: Option<Authentication>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Authentication {
    pub(super) scheme: String,
    pub(super) credentials: String,
}

/// Of the operations that read or delete configurations of a task.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct OfConfig {
    pub(super) tenant: String,
    pub(super) task_id: String,
    pub(super) id: String,
}

/// Reads parameters; what is wrong is named with its path.
pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, A2aError> {
    serde_path_to_error::deserialize(params).map_err(|error| {
        let path = error.path().to_string();
        A2aError::field(if path == "." { "params".to_owned() } else { path }, error.into_inner().to_string())
    })
}

/// Tenants are not known here: each agent has a URL of its own.
pub(super) fn no_tenant(tenant: &str) -> Result<(), A2aError> {
    if tenant.is_empty() {
        return Ok(());
    }
    Err(A2aError::field("tenant", "must be empty: the URL names the namespace and the agent"))
}

/// Messages to show of a task; `None` if nothing is said.
pub(super) fn history_length(length: Option<i64>) -> Result<Option<usize>, A2aError> {
    length
        .map(|length| {
            usize::try_from(length)
                .map_err(|_| A2aError::field("historyLength", format!("is {length}, allowed are 0 and more")))
        })
        .transpose()
}

/// What a message says, as an execution takes it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) input: Option<Value>,
    pub(super) attachments: Vec<baton_proto::v1::Attachment>,
}

impl Message {
    /// Checks what does not depend on the agent, and gives what the message says.
    pub(super) fn said(&self) -> Result<Said, A2aError> {
        let mut violations = Vec::new();
        let mut note =
            |field: &str, message: String| violations.push(Violation::new(format!("message.{field}"), message));
        if self.id.is_empty() || self.id.len() > ID_BYTES_MAX {
            note(
                "messageId",
                format!("must have 1 to {ID_BYTES_MAX} bytes; it is what a repeat of the message is known by"),
            );
        }
        if !matches!(self.role.as_str(), "ROLE_USER" | "1") {
            note("role", format!("is '{}', allowed is 'ROLE_USER'", crate::app::shortened(&self.role)));
        }
        if self.parts.is_empty() || self.parts.len() > PARTS_MAX {
            note("parts", format!("has {} items, allowed are 1 to {PARTS_MAX}", self.parts.len()));
        }
        let mut said = Said::default();
        let mut data = Vec::new();
        for (index, part) in self.parts.iter().take(PARTS_MAX).enumerate() {
            let given = [part.text.is_some(), part.raw.is_some(), part.url.is_some(), part.data.is_some()];
            if given.iter().filter(|given| **given).count() != 1 {
                note(&format!("parts[{index}]"), "must have exactly one of 'text', 'raw', 'url' and 'data'".to_owned());
            } else if let Some(text) = &part.text {
                if !said.text.is_empty() {
                    said.text.push_str("\n\n");
                }
                said.text.push_str(text);
            } else if let Some(value) = &part.data {
                data.push(value.clone());
            } else {
                match part.attachment(index) {
                    Ok(attachment) => said.attachments.push(attachment),
                    Err(message) => note(&format!("parts[{index}].raw"), message),
                }
            }
        }
        if violations.is_empty() && said.text.is_empty() && data.is_empty() && said.attachments.is_empty() {
            violations.push(Violation::new("message.parts", "say nothing"));
        }
        said.input = if data.len() > 1 { Some(Value::Array(data)) } else { data.pop() };
        if violations.is_empty() { Ok(said) } else { Err(baton_types::ApiError::violations(violations).into()) }
    }
}

impl Part {
    fn attachment(&self, index: usize) -> Result<baton_proto::v1::Attachment, String> {
        let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
        let data = STANDARD
            .decode(self.raw.as_deref().unwrap_or_default())
            .map_err(|error| format!("is not Base64: {error}"))?;
        Ok(baton_proto::v1::Attachment {
            name: or(&self.filename, format!("part-{index}")),
            media_type: or(&self.media_type, "application/octet-stream".to_owned()),
            data,
            url: self.url.clone().unwrap_or_default(),
            digest: String::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(parts: &Value) -> Result<Said, A2aError> {
        read::<Message>(json!({"messageId": "m", "role": "ROLE_USER", "parts": parts}))?.said()
    }

    #[test]
    fn parts_become_message_input_and_attachments() {
        let said = message(&json!([
            {"text": "a"}, {"data": {"x": 1}}, {"text": "b"},
            {"raw": "aGk=", "filename": "h.txt", "mediaType": "text/plain"}, {"url": "https://example.com/i.png"},
        ]))
        .unwrap();
        assert_eq!((said.text.as_str(), said.input), ("a\n\nb", Some(json!({"x": 1}))));
        assert_eq!(
            (said.attachments[0].name.as_str(), said.attachments[0].data.as_slice()),
            ("h.txt", b"hi".as_slice())
        );
        assert_eq!(
            (said.attachments[1].name.as_str(), said.attachments[1].url.as_str()),
            ("part-4", "https://example.com/i.png")
        );
        assert_eq!(message(&json!([{"data": null}])).unwrap().input, Some(Value::Null));
        assert_eq!(message(&json!([{"data": 1}, {"data": 2}])).unwrap().input, Some(json!([1, 2])));
    }

    #[test]
    fn everything_wrong_with_a_message_is_named() {
        for (parts, says) in [
            (json!([]), "message.parts"),
            (json!([{}]), "message.parts[0]"),
            (json!([{"text": "a", "url": "b"}]), "exactly one"),
            (json!([{"raw": "%"}]), "message.parts[0].raw"),
        ] {
            let error = message(&parts).unwrap_err();
            assert!(error.rpc().to_string().contains(says), "{error:?}");
        }
        let error = read::<SendMessage>(json!({"message": {"parts": [{"text": 1}]}})).unwrap_err();
        assert!(error.rpc().to_string().contains("message.parts[0].text"), "{error:?}");
    }
}
