//! Reading JSON from outside: every violation is noted with its path, and reading goes on.
//!
//! `null` and, for optional texts, the empty text count as absent, as in the JSON mapping of protobuf.

use std::cell::RefCell;

use baton_types::{Violation, parse_duration};
use serde_json::{Map, Value};

/// Collects what is wrong.
#[derive(Default)]
pub(crate) struct Report(RefCell<Vec<Violation>>);

impl Report {
    pub(crate) fn add(&self, field: impl Into<String>, message: impl Into<String>) {
        self.0.borrow_mut().push(Violation::new(field, message));
    }

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.0.into_inner()
    }
}

/// One JSON object being read.
pub(crate) struct Fields<'a> {
    pub(crate) report: &'a Report,
    path: String,
    map: &'a Map<String, Value>,
    known: RefCell<Vec<&'static str>>,
    /// Known too, and named to nobody: the server itself writes it.
    inner: RefCell<Vec<&'static str>>,
}

impl<'a> Fields<'a> {
    /// The object at `path`; anything else is a violation.
    pub(crate) fn of(report: &'a Report, path: impl Into<String>, value: &'a Value) -> Option<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => {
                Some(Self { report, path, map, known: RefCell::default(), inner: RefCell::default() })
            }
            other => {
                report.add(path, format!("must be an object, found {}", kind_of(other)));
                None
            }
        }
    }

    /// Full path of one of its fields; of the object itself for the empty name.
    pub(crate) fn path(&self, name: &str) -> String {
        match (self.path.as_str(), name) {
            ("", name) => name.to_owned(),
            (path, "") => path.to_owned(),
            (path, name) => format!("{path}.{name}"),
        }
    }

    pub(crate) fn violation(&self, name: &str, message: impl Into<String>) {
        self.report.add(self.path(name), message);
    }

    /// Notes that the field is known, so that [`Fields::finish`] does not refuse it; `None` if it is absent.
    pub(crate) fn get(&self, name: &'static str) -> Option<&'a Value> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&name) {
            known.push(name);
        }
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// The object in a field that the server writes.
    pub(crate) fn inner_object(&self, name: &'static str) -> Option<Fields<'a>> {
        self.inner.borrow_mut().push(name);
        Fields::of(self.report, self.path(name), self.map.get(name)?)
    }

    pub(crate) fn text(&self, name: &'static str) -> Option<&'a str> {
        match self.get(name)? {
            Value::String(text) => Some(text.as_str()).filter(|text| !text.is_empty()),
            other => {
                self.violation(name, format!("must be a string, found {}", kind_of(other)));
                None
            }
        }
    }

    pub(crate) fn required_text(&self, name: &'static str) -> Option<&'a str> {
        let is_text = self.map.get(name).is_none_or(|value| value.is_null() || value.is_string());
        let text = self.text(name);
        if text.is_none() && is_text {
            self.violation(name, "must be given and must not be empty");
        }
        text
    }

    pub(crate) fn flag(&self, name: &'static str) -> bool {
        match self.get(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(other) => {
                self.violation(name, format!("must be true or false, found {}", kind_of(other)));
                false
            }
        }
    }

    /// A whole number between `min` and `max`.
    pub(crate) fn count(&self, name: &'static str, min: u32, max: u32) -> Option<u32> {
        let value = self.get(name)?;
        let count =
            value.as_u64().and_then(|count| u32::try_from(count).ok()).filter(|count| (min..=max).contains(count));
        if count.is_none() {
            self.violation(name, format!("must be a whole number from {min} to {max}, found {}", shown(value)));
        }
        count
    }

    pub(crate) fn number(&self, name: &'static str, min: f64, max: f64) -> Option<f64> {
        let value = self.get(name)?;
        let number = value.as_f64().filter(|number| (min..=max).contains(number));
        if number.is_none() {
            self.violation(name, format!("must be a number from {min} to {max}, found {}", shown(value)));
        }
        number
    }

    /// One of some words, as what it stands for.
    pub(crate) fn word<T: Copy>(&self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let allowed: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
            self.violation(name, format!("'{}' is not allowed; allowed are {}", cut(text, 64), allowed.join(", ")));
        }
        found
    }

    /// A duration in milliseconds, at least one.
    pub(crate) fn duration_ms(&self, name: &'static str) -> Option<u64> {
        let text = self.text(name)?;
        match parse_duration(text).map(|duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)) {
            Ok(0) => {
                self.violation(name, format!("must be longer than 0, found '{text}'"));
                None
            }
            Ok(millis) => Some(millis),
            Err(why) => {
                self.violation(name, why);
                None
            }
        }
    }

    pub(crate) fn object(&self, name: &'static str) -> Option<Fields<'a>> {
        Fields::of(self.report, self.path(name), self.get(name)?)
    }

    /// One of its fields by a name that is data, such as that of a resource.
    pub(crate) fn child(&self, name: &str) -> Option<Fields<'a>> {
        Fields::of(self.report, self.path(name), self.map.get(name)?)
    }

    /// Checks that all fields are texts: at most `count_max`, each of at most `bytes_max` bytes with its name.
    pub(crate) fn texts(&self, count_max: usize, bytes_max: usize) {
        if self.map.len() > count_max {
            self.violation("", format!("has {} entries, allowed are 0 to {count_max}", self.map.len()));
        }
        for (name, value) in self.map {
            match value.as_str() {
                Some(text) if name.len() + text.len() <= bytes_max => {}
                Some(_) => {
                    self.violation(&cut(name, 64), format!("has more than {bytes_max} bytes, which are allowed"));
                }
                None => self.violation(&cut(name, 64), format!("must be a string, found {}", kind_of(value))),
            }
        }
    }

    /// The items of a list with their paths; more than `max` is a violation.
    pub(crate) fn list(&self, name: &'static str, max: usize) -> Vec<(String, &'a Value)> {
        match self.get(name) {
            None => Vec::new(),
            Some(Value::Array(items)) if items.len() > max => {
                self.violation(name, format!("has {} items, allowed are 0 to {max}", items.len()));
                Vec::new()
            }
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(index, item)| (format!("{}[{index}]", self.path(name)), item)).collect()
            }
            Some(other) => {
                self.violation(name, format!("must be a list, found {}", kind_of(other)));
                Vec::new()
            }
        }
    }

    /// Refuses fields that nobody asked for.
    pub(crate) fn finish(self) {
        let (known, inner) = (self.known.borrow(), self.inner.borrow());
        let is_known = |name: &str| known.contains(&name) || inner.contains(&name);
        for name in self.map.keys().filter(|name| !is_known(name)) {
            let allowed: Vec<String> = known.iter().map(|known| format!("'{known}'")).collect();
            self.report.add(self.path(name), format!("unknown field; allowed are {}", allowed.join(", ")));
        }
    }
}

/// What a value is, for a sentence.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// A value as JSON, cut to a length that fits into a sentence.
pub(crate) fn shown(value: &Value) -> String {
    cut(&value.to_string(), 64)
}

/// At most `max` characters of a text.
pub(crate) fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
