//! A tool that is an operation of an OpenAPI document.
//!
//! The document is part of the spec, or fetched when a call is made; then `parameters` says what the arguments are, as the
//! model must be told before. Of a document in the spec they are derived: see [`document`]. The argument `body` is the body of the
//! request, the others are parameters of the operation by name.
//!
//! # Invariants
//! - Credentials are named, never given: `authentication` holds a scheme and the name of a Secret.
//! - The history holds a document's digest, not the document.

mod document;

use baton_execution::{Effect, canonical_json};
use baton_types::{Digest, check_name};
use serde_json::{Map, Value, json};

use super::{ACTIVITY_TIMEOUT_MS_DEFAULT, Action, Behaviour, Common, Kind};
use crate::fields::{Fields, cut};
use document::Described;

pub(super) const KIND: Kind = Kind {
    field: "openapi",
    read: |fields, common| Some(Box::new(Operation::read(fields, common)?)),
    parameters: |own| match Described::find(
        own.pointer("/document/content"),
        own["operationId"].as_str().unwrap_or_default(),
    ) {
        Some(Ok(described)) => described.parameters,
        // What is wrong is told where the field is read.
        Some(Err(_)) | None => json!({"type": "object", "properties": {}}),
    },
};

/// Longest id of an operation, and longest URL, in bytes.
const ID_BYTES_MAX: usize = 512;
const URL_BYTES_MAX: usize = 4096;
/// Largest document within a spec, in bytes of its JSON.
const DOCUMENT_BYTES_MAX: usize = 512 * 1024;
/// Schemes of authentication, as the workflow language names them.
const SCHEMES: [&str; 5] = ["basic", "bearer", "digest", "oauth2", "oidc"];
/// Where a document within a spec is from that does not say so; servers that are relative to it cannot be called.
const NOWHERE: &str = "http://document.invalid/";

#[derive(Debug)]
struct Operation {
    id: String,
    /// As the activity has it.
    document: Value,
    /// What is recorded of it.
    shown: Value,
    authentication: Value,
    timeout_ms: u64,
    effect: Effect,
}

impl Operation {
    fn read(fields: &Fields<'_>, common: &Common) -> Option<Self> {
        let id = fields.required_text("operationId").unwrap_or_default();
        if id.len() > ID_BYTES_MAX {
            fields.violation("operationId", format!("has {} bytes, allowed are 1 to {ID_BYTES_MAX}", id.len()));
        }
        let authentication = read_authentication(fields);
        let document = read_document(fields);
        let content = fields.get("document").and_then(|document| document.get("content"));
        let described = Described::find(content, id);
        let reads = match described {
            Some(Ok(described)) => described.reads,
            Some(Err(why)) => {
                fields.violation("operationId", why);
                false
            }
            None => {
                if !common.declared {
                    let why = "is fetched with the call; 'parameters' of the tool must say what the arguments are, or 'content' hold the document";
                    fields.violation("document", why);
                }
                false
            }
        };
        let (document, shown) = document?;
        Some(Self {
            id: id.to_owned(),
            document,
            shown,
            authentication,
            timeout_ms: common.timeout_ms.unwrap_or(ACTIVITY_TIMEOUT_MS_DEFAULT),
            effect: if common.repeatable || reads { Effect::Repeatable } else { Effect::Once },
        })
    }

    fn input(&self, document: &Value, arguments: &Value) -> Value {
        json!({
            "document": document, "operationId": self.id, "parameters": arguments,
            "authentication": self.authentication, "output": "content", "redirect": false,
        })
    }
}

impl Behaviour for Operation {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let given: Map<String, Value> = arguments.as_object().cloned().unwrap_or_default();
        let arguments = Value::Object(given.into_iter().filter(|(_, value)| !value.is_null()).collect());
        let recorded = (self.shown != self.document).then(|| self.input(&self.shown, &arguments));
        Ok(Action::Activity {
            activity: "openapi",
            input: self.input(&self.document, &arguments),
            timeout_ms: self.timeout_ms,
            effect: self.effect,
            on: format!("operation {}", cut(&self.id, 200)),
            recorded,
        })
    }
}

/// The document as the activity has it, and as the history has it.
fn read_document(fields: &Fields<'_>) -> Option<(Value, Value)> {
    let Some(own) = fields.object("document") else {
        if fields.get("document").is_none() {
            fields.violation("document", "must be given: {url}, or {content}");
        }
        return None;
    };
    let (url, content) = (own.text("url"), own.get("content"));
    if let Some(url) = url
        && (url.len() > URL_BYTES_MAX || !(url.starts_with("http://") || url.starts_with("https://")))
    {
        own.violation("url", format!("must begin with 'http://' or 'https://' and have at most {URL_BYTES_MAX} bytes"));
    }
    let authentication = read_authentication(&own);
    let digest = own.text("digest");
    if let Some(Err(_)) = digest.map(str::parse::<Digest>) {
        own.violation("digest", "must be 'sha256:' and 64 hexadecimal digits");
    }
    let document = if let Some(content) = content {
        let text = canonical_json(content).to_string();
        if text.len() > DOCUMENT_BYTES_MAX {
            own.violation("content", format!("has {} bytes, allowed are up to {DOCUMENT_BYTES_MAX}", text.len()));
        }
        if digest.is_some() {
            own.violation("digest", "is for a document that is fetched; this one is given");
        }
        let uri = url.unwrap_or(NOWHERE);
        let shown = json!({"uri": uri, "digest": Digest::of(text.as_bytes()).to_string()});
        Some((json!({"uri": uri, "content": text}), shown))
    } else {
        if url.is_none() {
            own.violation("", "must have 'url' or 'content'");
        }
        url.map(|url| {
            let document = json!({"uri": url, "authentication": authentication, "digest": digest});
            (document.clone(), document)
        })
    };
    own.finish();
    document
}

/// `authentication`: one scheme, and the Secret that has what it needs.
fn read_authentication(fields: &Fields<'_>) -> Value {
    let Some(given) = fields.get("authentication") else { return Value::Null };
    let named = given.as_object().filter(|schemes| schemes.len() == 1).and_then(|schemes| schemes.iter().next());
    let secret = named
        .filter(|(scheme, _)| SCHEMES.contains(&scheme.as_str()))
        .and_then(|(_, own)| own.as_object())
        .filter(|own| own.len() == 1)
        .and_then(|own| own.get("use"))
        .and_then(Value::as_str)
        .filter(|name| check_name(name).is_ok());
    if secret.is_none() {
        let schemes: Vec<String> = SCHEMES.iter().map(|scheme| format!("'{scheme}'")).collect();
        fields.violation(
            "authentication",
            format!(
                "must be one scheme with the name of a Secret, such as {{bearer: {{use: orders-token}}}}; schemes are {}",
                schemes.join(", ")
            ),
        );
    }
    given.clone()
}
