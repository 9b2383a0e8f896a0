//! Endpoints: a URI, a URI template or an expression that gives one, and how to say who calls.
//!
//! A URI template has the language's simple expansion (RFC 6570, level 1 and lists of names): `{petId}` is the field
//! `petId` of the task's input, percent-encoded.
//!
//! What describes a service (a proto file, OpenAPI, AsyncAPI) may be a file that was given along with the document: no workflow
//! reads files where it runs, so its text is among the document's resources.
//!
//! # Failure
//! A name that the input does not have, or has as `null`, is a fault: an empty text would call another address.

use std::sync::Arc;

use baton_execution::{Fault, fault_type};
use serde_json::{Value, json};

use crate::{
    data::kind_of,
    document::{Builder, Fields, enclosed, shown},
    interpreter::{FrameId, Run},
    task::{
        authentication::{self, Authentication},
        values::wrong,
    },
    template::Template,
};

/// Where to call, and as whom.
#[derive(Debug)]
pub(crate) struct Endpoint {
    uri: Uri,
    authentication: Option<Arc<Authentication>>,
    /// The text of a file that was given along.
    content: Option<Value>,
}

/// How the URI of a file begins.
const FILE: &str = "file://";

/// An absolute `http` or `https` URI, known when the task starts.
#[derive(Debug)]
pub(crate) enum Uri {
    Expression(Template),
    Template(UriTemplate),
}

/// A URI with `{name}` in it: literal texts, and names of fields of the input after each but the last.
#[derive(Debug)]
pub(crate) struct UriTemplate {
    parts: Vec<(String, Vec<String>)>,
}

impl Endpoint {
    /// Reads a URI, an expression, or an object with `uri` and `authentication`.
    pub(crate) fn read(builder: &mut Builder, value: &Value, path: &str) -> Option<Self> {
        let Value::Object(_) = value else {
            let text = builder.text(value, path)?;
            return Some(Self { uri: Uri::read(builder, text, path)?, authentication: None, content: None });
        };
        let mut fields = Fields::open(value, path, builder)?;
        let uri = fields.need_text("uri", builder).and_then(|text| Uri::read(builder, text, &fields.at("uri")));
        let authentication = authentication::read_field(builder, &mut fields);
        fields.close(builder);
        Some(Self { uri: uri?, authentication, content: None })
    }

    /// Reads what describes a service: a resource, or a file that was given along.
    pub(crate) fn read_description(builder: &mut Builder, parent: &mut Fields<'_>, name: &'static str) -> Option<Self> {
        let is_file = |value: &Value| value.as_str().is_some_and(|text| text.starts_with(FILE));
        let endpoint = parent.get(name).and_then(|value| value.get("endpoint"));
        let uri = endpoint.and_then(|value| if value.is_object() { value.get("uri") } else { Some(value) });
        let Some(uri) = uri.filter(|uri| is_file(uri)).and_then(Value::as_str) else {
            return Self::read_resource(builder, parent, name);
        };
        let mut fields = parent.need_object(name, builder)?;
        fields.text("name", builder);
        let endpoint = fields.need("endpoint", builder)?;
        let mut at = fields.at("endpoint");
        if endpoint.is_object() {
            let mut endpoint = Fields::open(endpoint, at, builder)?;
            endpoint.need_text("uri", builder);
            at = endpoint.at("uri");
            endpoint.close(builder);
        }
        fields.close(builder);
        let content = builder.file(uri, &at)?;
        let uri = UriTemplate { parts: vec![(uri.to_owned(), Vec::new())] };
        Some(Self { uri: Uri::Template(uri), authentication: None, content: Some(content) })
    }

    /// Reads a resource that is kept elsewhere: an object with `endpoint`, and a `name` for people.
    pub(crate) fn read_resource(builder: &mut Builder, parent: &mut Fields<'_>, name: &'static str) -> Option<Self> {
        let mut fields = parent.need_object(name, builder)?;
        fields.text("name", builder);
        let endpoint =
            fields.need("endpoint", builder).and_then(|value| Self::read(builder, value, &fields.at("endpoint")));
        fields.close(builder);
        endpoint
    }

    /// The URI.
    pub(crate) fn uri(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<String, Fault> {
        self.uri.evaluate(run, frame, dot)
    }

    /// What activities take as `authentication`: `{"<scheme>": {…}}`, or null.
    pub(crate) fn authentication(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<Value, Fault> {
        authentication::evaluate(self.policy(), run, frame, dot)
    }

    /// How it authenticates, if it does.
    pub(crate) fn policy(&self) -> Option<&Authentication> {
        self.authentication.as_deref()
    }

    /// A resource for an activity: `{"uri", "authentication"}`, and `content` if that was given along.
    pub(crate) fn evaluate(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<Value, Fault> {
        let (uri, authentication) = (self.uri(run, frame, dot)?, self.authentication(run, frame, dot)?);
        let mut resource = json!({"uri": uri, "authentication": authentication});
        if let Some(content) = &self.content {
            resource["content"] = content.clone();
        }
        Ok(resource)
    }
}

impl Uri {
    pub(crate) fn read(builder: &mut Builder, text: &str, path: &str) -> Option<Self> {
        if enclosed(text).is_some() {
            return builder.expression(text, path).map(|expression| Self::Expression(Template::Expression(expression)));
        }
        match UriTemplate::parse(text) {
            Ok(template) => Some(Self::Template(template)),
            Err(message) => {
                builder.violate(path, message);
                None
            }
        }
    }

    pub(crate) fn evaluate(&self, run: &Run, frame: FrameId, dot: &Value) -> Result<String, Fault> {
        match self {
            Self::Template(template) => template.expand(dot),
            Self::Expression(expression) => match run.fill(frame, expression, dot)? {
                Value::String(uri) => Ok(uri),
                other => Err(wrong("'endpoint'", "a string", &other)),
            },
        }
    }
}

impl UriTemplate {
    fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('{') {
            let (names, after) =
                after.split_once('}').ok_or_else(|| format!("'{}' has a '{{' without a '}}'", shown(text)))?;
            let plain = |name: &str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
            };
            if !names.split(',').all(plain) {
                return Err(format!(
                    "'{{{}}}' is not supported in a URI template; allowed are names of fields of the input, such as '{{petId}}'",
                    shown(names)
                ));
            }
            parts.push((literal.to_owned(), names.split(',').map(str::to_owned).collect()));
            rest = after;
        }
        if rest.contains('}') {
            return Err(format!("'{}' has a '}}' without a '{{'", shown(text)));
        }
        parts.push((rest.to_owned(), Vec::new()));
        let scheme = text.trim().split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let template_first = text.starts_with('{');
        if !template_first && !matches!(scheme.as_deref(), Some("http" | "https")) {
            return Err(format!(
                "'{}' is not supported yet; a URI must be an absolute one of http or https",
                shown(text)
            ));
        }
        Ok(Self { parts })
    }

    fn expand(&self, input: &Value) -> Result<String, Fault> {
        let mut uri = String::new();
        for (literal, names) in &self.parts {
            uri.push_str(literal);
            for (index, name) in names.iter().enumerate() {
                if index > 0 {
                    uri.push(',');
                }
                match input.get(name) {
                    Some(Value::String(text)) => percent_encode(text, &mut uri),
                    Some(scalar @ (Value::Bool(_) | Value::Number(_))) => {
                        percent_encode(&scalar.to_string(), &mut uri);
                    }
                    other => {
                        let found = other.map_or("no such field", kind_of);
                        let detail = format!(
                            "the endpoint needs '{name}' of the task's input as a string, number or boolean; found {found}"
                        );
                        return Err(Fault::new(fault_type::EXPRESSION, 400, detail));
                    }
                }
            }
        }
        Ok(uri)
    }
}

/// Everything but the unreserved characters of RFC 3986 becomes `%XX`.
fn percent_encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for nibble in [byte >> 4, byte & 15] {
                into.push(char::from(b"0123456789ABCDEF"[usize::from(nibble)]));
            }
        }
    }
}
