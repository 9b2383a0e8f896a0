//! What is given to a model beside text: images and files.

use baton_types::{Digest, Violation};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::fields::{Fields, Report};

/// Attachments of one message.
pub const ATTACHMENTS_MAX: usize = 16;
/// Longest name, in bytes.
const NAME_BYTES_MAX: usize = 255;
/// Longest media type, in bytes.
const MEDIA_TYPE_BYTES_MAX: usize = 127;
/// Largest content, in bytes of its Base64: that of the largest artifact that can be uploaded. A resource holds less.
const DATA_BYTES_MAX: usize = 1536 * 1024;
/// Longest URL, in bytes.
const URL_BYTES_MAX: usize = 2048;

/// An image or a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// What it is called, such as `invoice.pdf`.
    pub name: String,
    /// Such as `image/png`, without parameters, in lower case.
    pub media_type: String,
    /// Its content in Base64, with padding. Either this or `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Where the provider of the model reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Of an artifact, whose content takes the place of this before an execution begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

/// Reads the attachments of an execution; `null` is none.
///
/// # Errors
/// Every violation, with paths such as `[0].mediaType`.
pub fn check_attachments(attachments: &Value) -> Result<Vec<Attachment>, Vec<Violation>> {
    let report = Report::default();
    let read = match attachments {
        Value::Null => Vec::new(),
        Value::Array(items) if items.len() <= ATTACHMENTS_MAX => items
            .iter()
            .enumerate()
            .filter_map(|(index, item)| Fields::of(&report, format!("[{index}]"), item))
            .map(Attachment::read)
            .collect(),
        Value::Array(items) => {
            report.add("", format!("has {} items, allowed are 0 to {ATTACHMENTS_MAX}", items.len()));
            Vec::new()
        }
        other => {
            report.add("", format!("must be a list, found {}", crate::fields::kind_of(other)));
            Vec::new()
        }
    };
    let violations = report.into_violations();
    if violations.is_empty() { Ok(read) } else { Err(violations) }
}

impl Attachment {
    fn read(fields: Fields<'_>) -> Self {
        let name = fields.required_text("name").unwrap_or_default();
        if name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
            fields.violation("name", format!("must have 1 to {NAME_BYTES_MAX} bytes and no control characters"));
        }
        let media_type = fields.required_text("mediaType").unwrap_or_default().to_ascii_lowercase();
        if !media_type.is_empty() && !is_media_type(&media_type) {
            fields.violation("mediaType", "must be a media type without parameters, such as 'image/png'");
        }
        let (data, url, digest) = (fields.text("data"), fields.text("url"), fields.text("digest"));
        if [data, url, digest].iter().flatten().count() != 1 {
            fields.violation("data", "exactly one of 'data', 'url' and 'digest' must be given");
        }
        if let Some(Err(_)) = digest.map(str::parse::<Digest>) {
            fields.violation("digest", "must be 'sha256:' and 64 hexadecimal digits");
        }
        if let Some(data) = data {
            if data.len() > DATA_BYTES_MAX {
                let allowed = format!("has {} bytes in Base64, allowed are 1 to {DATA_BYTES_MAX}", data.len());
                fields.violation("data", allowed);
            } else if !is_base64(data) {
                fields.violation("data", "must be Base64 with padding");
            }
        }
        if let Some(url) = url
            && (url.len() > URL_BYTES_MAX || !(url.starts_with("http://") || url.starts_with("https://")))
        {
            let allowed = format!("must begin with 'http://' or 'https://' and have at most {URL_BYTES_MAX} bytes");
            fields.violation("url", allowed);
        }
        fields.finish();
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Self { name: name.to_owned(), media_type, data: owned(data), url: owned(url), digest: owned(digest) }
    }
}

/// Whether a text is a media type without parameters.
pub fn is_media_type(text: &str) -> bool {
    let is_token =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&b));
    text.len() <= MEDIA_TYPE_BYTES_MAX
        && text.split_once('/').is_some_and(|(kind, subtype)| is_token(kind) && is_token(subtype))
}

fn is_base64(text: &str) -> bool {
    let content = text.trim_end_matches('=');
    text.len().is_multiple_of(4)
        && text.len() - content.len() <= 2
        && content.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn good_ones_are_read_and_every_violation_is_named() {
        let good = json!([
            {"name": "a.png", "mediaType": "Image/PNG", "data": "aGk="},
            {"name": "b.pdf", "mediaType": "application/pdf", "url": "https://example.com/b.pdf"},
        ]);
        let read = check_attachments(&good).unwrap();
        assert_eq!((read[0].media_type.as_str(), read[0].data.as_deref()), ("image/png", Some("aGk=")));
        assert_eq!(check_attachments(&Value::Null).unwrap(), []);
        let bad = json!([
            {"name": "a\n", "mediaType": "png", "data": "a"},
            {"mediaType": "a/b"},
            {"name": "c", "mediaType": "a/b", "data": "aGk=", "url": "https://x.test"},
            {"name": "d", "mediaType": "a/b", "url": "file:///etc/passwd"},
            {"name": "e", "mediaType": "a/b", "data": "A".repeat(DATA_BYTES_MAX + 4)},
        ]);
        let fields: Vec<String> = check_attachments(&bad).unwrap_err().into_iter().map(|it| it.field).collect();
        assert_eq!(
            fields,
            ["[0].name", "[0].mediaType", "[0].data", "[1].name", "[1].data", "[2].data", "[3].url", "[4].data"]
        );
        let many = Value::Array(vec![Value::Null; ATTACHMENTS_MAX + 1]);
        assert!(check_attachments(&many).unwrap_err()[0].message.contains("allowed are 0 to 16"));
        assert!(check_attachments(&json!("x")).is_err());
    }
}
