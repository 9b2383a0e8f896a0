//! Images and files, sorted by what providers tell apart.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use baton_agent::Attachment;
use baton_execution::Fault;

use crate::exchange::refused;

/// What an attachment is to a provider.
pub(super) enum Part<'a> {
    /// Text, to be read as it stands.
    Text(String),
    Image(Source<'a>),
    Audio(Source<'a>),
    File(Source<'a>),
}

/// Where the content is.
pub(super) enum Source<'a> {
    /// In Base64.
    Data(&'a str),
    Url(&'a str),
}

impl Source<'_> {
    /// A URL in any case: one that holds the data itself if need be.
    pub(super) fn url(&self, media_type: &str) -> String {
        match self {
            Self::Data(data) => format!("data:{media_type};base64,{data}"),
            Self::Url(url) => (*url).to_owned(),
        }
    }
}

/// Sorts an attachment.
///
/// # Errors
/// A text that is not UTF-8, or content that is not there.
pub(super) fn part(attachment: &Attachment) -> Result<Part<'_>, Fault> {
    let source = match (&attachment.data, &attachment.url) {
        (Some(data), None) => Source::Data(data),
        (None, Some(url)) => Source::Url(url),
        (Some(_), Some(_)) | (None, None) => {
            return Err(refused(format!("the attachment '{}' must have either data or a URL", attachment.name)));
        }
    };
    let (kind, subtype) = attachment.media_type.split_once('/').unwrap_or_default();
    Ok(match (kind, &source) {
        ("image", _) => Part::Image(source),
        ("audio", _) => Part::Audio(source),
        (_, Source::Data(data)) if kind == "text" || is_text(subtype) => {
            let bytes = BASE64_STANDARD.decode(data).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let content =
                bytes.ok_or_else(|| refused(format!("the attachment '{}' is not text in UTF-8", attachment.name)))?;
            Part::Text(format!("[{}]\n{content}", attachment.name))
        }
        _ => Part::File(source),
    })
}

fn is_text(subtype: &str) -> bool {
    matches!(subtype, "json" | "xml" | "yaml" | "x-yaml" | "toml" | "csv")
        || subtype.ends_with("+json")
        || subtype.ends_with("+xml")
}
