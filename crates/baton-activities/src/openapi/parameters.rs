//! Parameters of an operation: where each goes, and how arrays and objects are written there.
//!
//! The styles are those of OpenAPI 3 (`simple`, `label`, `matrix`, `form`, `spaceDelimited`, `pipeDelimited`,
//! `deepObject`, with `explode`); the collection formats of 2.0 are read as the styles that write the same.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::{body::RESERVED, exchange::text_of};

/// What must be encoded in a query even if reserved characters are allowed.
const ALLOWED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'%').add(b'&').add(b'+');
/// Nothing of a header's value is encoded but what ends it.
const HEADER: &AsciiSet = CONTROLS;

/// Where a parameter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum In {
    Path,
    Query,
    Header,
    Cookie,
    /// `formData` of 2.0.
    Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Simple,
    Label,
    Matrix,
    Form,
    Space,
    Pipe,
    /// `tsv` of 2.0.
    Tab,
    DeepObject,
    /// `content` instead of a schema: the value is written as JSON.
    Json,
}

/// A parameter that an operation declares.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) place: In,
    pub(super) needed: bool,
    style: Style,
    explode: bool,
    reserved: bool,
}

impl Parameter {
    /// Reads a declared parameter, or a security scheme with a key.
    pub(super) fn read(declared: &Value, schema: Option<&Value>) -> Result<Self, String> {
        let text = |name: &str| declared.get(name).and_then(Value::as_str);
        let flag = |name: &str| declared.get(name).and_then(Value::as_bool);
        let name = text("name").ok_or("a parameter in it has no 'name'")?.to_owned();
        let place = match text("in").unwrap_or_default() {
            "path" => In::Path,
            "query" => In::Query,
            "header" => In::Header,
            "cookie" => In::Cookie,
            "formData" => In::Form,
            other => {
                let other: String = other.chars().take(32).collect();
                return Err(format!("its parameter '{name}' is in '{other}', which is no place for one"));
            }
        };
        let (style, explode) = match (text("style"), text("collectionFormat")) {
            (None, Some(format)) => collection(format, place),
            // Arrays of 2.0 are joined by commas where nothing else is said: they declare their type themselves.
            (None, None) if text("type") == Some("array") && schema.is_none() => collection("csv", place),
            (style, _) => {
                let style = match style {
                    Some("label") => Style::Label,
                    Some("matrix") => Style::Matrix,
                    Some("form") => Style::Form,
                    Some("simple") => Style::Simple,
                    Some("spaceDelimited") => Style::Space,
                    Some("pipeDelimited") => Style::Pipe,
                    Some("deepObject") => Style::DeepObject,
                    Some(other) => {
                        let other: String = other.chars().take(32).collect();
                        return Err(format!("its parameter '{name}' has the style '{other}', which is not known"));
                    }
                    None if declared.get("content").is_some() => Style::Json,
                    None if matches!(place, In::Path | In::Header) => Style::Simple,
                    None => Style::Form,
                };
                (style, flag("explode").unwrap_or(matches!(style, Style::Form)))
            }
        };
        let needed = place == In::Path || flag("required").unwrap_or_default();
        Ok(Self { name, place, needed, style, explode, reserved: flag("allowReserved").unwrap_or_default() })
    }

    /// The value as it stands in a path or in a header.
    pub(super) fn as_text(&self, value: &Value) -> String {
        let value = self.written(value);
        let value = value.as_ref();
        let set = if self.place == In::Header { HEADER } else { RESERVED };
        let name = utf8_percent_encode(&self.name, RESERVED).to_string();
        let items = Self::items(value, set);
        let prefix = match self.style {
            Style::Label => ".",
            Style::Matrix => ";",
            _ => "",
        };
        let separator = match (self.style, self.explode) {
            (Style::Label, true) => ".",
            (Style::Matrix, true) => ";",
            (Style::Space, _) => "%20",
            (Style::Pipe, _) => "|",
            (Style::Tab, _) => "%09",
            _ => ",",
        };
        let items: Vec<String> = match (self.style, value, self.explode) {
            (Style::Matrix, Value::Object(_), true) => items.into_iter().map(|(key, item)| pair(&key, &item)).collect(),
            (Style::Matrix, _, true) => items.into_iter().map(|(_, item)| pair(&name, &item)).collect(),
            (_, Value::Object(_), true) => items.into_iter().map(|(key, item)| format!("{key}={item}")).collect(),
            (_, Value::Object(_), false) => items.into_iter().flat_map(|(key, item)| [key, item]).collect(),
            _ => items.into_iter().map(|(_, item)| item).collect(),
        };
        let joined = items.join(separator);
        if self.style == Style::Matrix && !self.explode {
            format!(";{}", pair(&name, &joined))
        } else {
            format!("{prefix}{joined}")
        }
    }

    /// The value as it stands in a query, a cookie or a form: names and values, encoded.
    pub(super) fn as_pairs(&self, value: &Value) -> Vec<(String, String)> {
        let value = self.written(value);
        let value = value.as_ref();
        let set = if self.reserved { ALLOWED } else { RESERVED };
        let name = utf8_percent_encode(&self.name, RESERVED).to_string();
        let items = Self::items(value, set);
        match (self.style, value) {
            (Style::DeepObject, Value::Object(_)) => {
                items.into_iter().map(|(key, item)| (format!("{name}%5B{key}%5D"), item)).collect()
            }
            (Style::Form, Value::Object(_)) if self.explode => items,
            (_, Value::Array(_)) if self.explode => items.into_iter().map(|(_, item)| (name.clone(), item)).collect(),
            (style, _) => {
                let separator = match style {
                    Style::Space => "%20",
                    Style::Pipe => "%7C",
                    Style::Tab => "%09",
                    _ => ",",
                };
                let parts: Vec<String> = if value.is_object() {
                    items.into_iter().flat_map(|(key, item)| [key, item]).collect()
                } else {
                    items.into_iter().map(|(_, item)| item).collect()
                };
                vec![(name, parts.join(separator))]
            }
        }
    }

    /// The value as it stands in a form: an array that is not a field for each item is one text.
    pub(super) fn as_field(&self, value: &Value) -> Value {
        let Some(items) = value.as_array().filter(|_| !self.explode) else { return value.clone() };
        let separator = match self.style {
            Style::Space => " ",
            Style::Pipe => "|",
            Style::Tab => "\t",
            _ => ",",
        };
        let items: Vec<String> = items.iter().filter(|item| !item.is_null()).map(text_of).collect();
        Value::String(items.join(separator))
    }

    /// The value to write: the text of its JSON where the document wants that.
    fn written<'v>(&self, value: &'v Value) -> Cow<'v, Value> {
        if self.style == Style::Json { Cow::Owned(Value::String(value.to_string())) } else { Cow::Borrowed(value) }
    }

    /// The parts of a value, encoded, each with its key if it has one. What is null is left out.
    fn items(value: &Value, set: &'static AsciiSet) -> Vec<(String, String)> {
        let encode = |text: &str| utf8_percent_encode(text, set).to_string();
        match value {
            Value::Array(items) => items
                .iter()
                .filter(|item| !item.is_null())
                .map(|item| (String::new(), encode(&text_of(item))))
                .collect(),
            Value::Object(fields) => fields
                .iter()
                .filter(|(_, item)| !item.is_null())
                .map(|(key, item)| (encode(key), encode(&text_of(item))))
                .collect(),
            scalar => vec![(String::new(), encode(&text_of(scalar)))],
        }
    }
}

fn pair(name: &str, value: &str) -> String {
    if value.is_empty() { name.to_owned() } else { format!("{name}={value}") }
}

/// A collection format of 2.0 as a style.
fn collection(format: &str, place: In) -> (Style, bool) {
    let commas = if matches!(place, In::Path | In::Header) { Style::Simple } else { Style::Form };
    match format {
        "multi" => (commas, true),
        "ssv" => (Style::Space, false),
        "tsv" => (Style::Tab, false),
        "pipes" => (Style::Pipe, false),
        _ => (commas, false),
    }
}
