//! Reads one object of a document and notes everything that is wrong with it.
//!
//! # Invariants
//! - Reading never stops at the first violation, and never panics whatever the JSON is.
//! - A field that nobody asked for is a violation: a misspelt field is found, not ignored.

use baton_types::Violation;
use serde_json::{Map, Value};

use crate::{
    data::kind_of,
    document::builder::{Builder, enclosed},
    expression::Expression,
    task::Delay,
    template::Template,
};

/// One object of the document, at a path, with the fields that were asked for.
pub(crate) struct Fields<'d> {
    pub(crate) path: String,
    map: &'d Map<String, Value>,
    asked: Vec<&'static str>,
    /// A field that may be there and that messages do not offer: authors do not write it.
    hidden: Option<&'static str>,
}

impl<'d> Fields<'d> {
    /// Opens `value`, which must be an object.
    pub(crate) fn open(value: &'d Value, path: impl Into<String>, builder: &mut Builder) -> Option<Self> {
        let path = path.into();
        match value {
            Value::Object(map) => Some(Self { path, map, asked: Vec::new(), hidden: None }),
            other => {
                builder.violate(&path, format!("must be an object, found {}", kind_of(other)));
                None
            }
        }
    }

    /// Path of one of its fields.
    pub(crate) fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// A field, whatever it is.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'d Value> {
        if !self.asked.contains(&name) {
            self.asked.push(name);
        }
        self.map.get(name)
    }

    /// A field that others than authors write.
    pub(crate) fn hidden(&mut self, name: &'static str) -> Option<&'d Value> {
        self.hidden = Some(name);
        self.map.get(name)
    }

    /// A field that must be there.
    pub(crate) fn need(&mut self, name: &'static str, builder: &mut Builder) -> Option<&'d Value> {
        let value = self.get(name);
        if value.is_none() {
            builder.violate(&self.at(name), "is required".to_owned());
        }
        value
    }

    pub(crate) fn object(&mut self, name: &'static str, builder: &mut Builder) -> Option<Fields<'d>> {
        let value = self.get(name)?;
        Fields::open(value, self.at(name), builder)
    }

    pub(crate) fn need_object(&mut self, name: &'static str, builder: &mut Builder) -> Option<Fields<'d>> {
        let value = self.need(name, builder)?;
        Fields::open(value, self.at(name), builder)
    }

    pub(crate) fn text(&mut self, name: &'static str, builder: &mut Builder) -> Option<&'d str> {
        let value = self.get(name)?;
        builder.text(value, &self.at(name))
    }

    pub(crate) fn need_text(&mut self, name: &'static str, builder: &mut Builder) -> Option<&'d str> {
        let value = self.need(name, builder)?;
        builder.text(value, &self.at(name))
    }

    pub(crate) fn boolean(&mut self, name: &'static str, builder: &mut Builder) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(flag) => Some(*flag),
            other => {
                builder.violate(&self.at(name), format!("must be a boolean, found {}", kind_of(other)));
                None
            }
        }
    }

    pub(crate) fn integer(&mut self, name: &'static str, min: i64, max: i64, builder: &mut Builder) -> Option<i64> {
        let value = self.get(name)?;
        match value.as_i64() {
            Some(number) if (min..=max).contains(&number) => Some(number),
            Some(number) => {
                builder.violate(&self.at(name), format!("is {number}, allowed are {min} to {max}"));
                None
            }
            None => {
                builder.violate(
                    &self.at(name),
                    format!("must be an integer from {min} to {max}, found {}", kind_of(value)),
                );
                None
            }
        }
    }

    /// A text that must be one of a few words.
    pub(crate) fn word(
        &mut self,
        name: &'static str,
        allowed: &[&'static str],
        builder: &mut Builder,
    ) -> Option<&'static str> {
        let text = self.text(name, builder)?;
        let word = allowed.iter().copied().find(|word| *word == text);
        if word.is_none() {
            builder.violate(
                &self.at(name),
                format!("is '{}', allowed are {}", shown(text), quoted(allowed.iter().copied())),
            );
        }
        word
    }

    /// A field that is an expression with or without `${ }`.
    pub(crate) fn expression(&mut self, name: &'static str, builder: &mut Builder) -> Option<Expression> {
        let text = self.text(name, builder)?;
        builder.expression(text, &self.at(name))
    }

    /// A field in which strings may be expressions.
    pub(crate) fn template(&mut self, name: &'static str, builder: &mut Builder) -> Option<Template> {
        let value = self.get(name)?;
        Some(builder.template(value, &self.at(name)))
    }

    /// An object in which strings may be expressions, or an expression that gives one.
    pub(crate) fn map(&mut self, name: &'static str, builder: &mut Builder) -> Option<Template> {
        let value = self.get(name)?;
        let path = self.at(name);
        match value {
            Value::Object(_) => {}
            Value::String(text) if enclosed(text).is_some() => {}
            other => {
                let found = kind_of(other);
                builder.violate(&path, format!("must be an object or an expression in '${{ }}', found {found}"));
            }
        }
        Some(builder.template(value, &path))
    }

    pub(crate) fn duration(&mut self, name: &'static str, builder: &mut Builder) -> Option<Delay> {
        let value = self.get(name)?;
        builder.duration(value, &self.at(name))
    }

    /// Notes every field that nobody asked for.
    pub(crate) fn close(self, builder: &mut Builder) {
        for key in self.map.keys() {
            if !self.asked.contains(&key.as_str()) && self.hidden != Some(key) {
                let allowed = quoted(self.asked.iter().copied());
                builder.violate(&self.at(&shown(key)), format!("unknown field; fields here are {allowed}"));
            }
        }
    }

    /// The fields by name, for objects whose keys are names; everything counts as asked for.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'d str, &'d Value)> + use<'d> {
        self.map.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl Builder {
    pub(crate) fn violate(&mut self, path: &str, message: impl Into<String>) {
        self.violations.push(Violation::new(path, message));
    }

    pub(crate) fn text<'d>(&mut self, value: &'d Value, path: &str) -> Option<&'d str> {
        match value {
            Value::String(text) => Some(text),
            other => {
                self.violate(path, format!("must be a string, found {}", kind_of(other)));
                None
            }
        }
    }

    /// The one entry of an object that must have exactly one, as items of lists of tasks and cases have.
    pub(crate) fn single<'d>(&mut self, value: &'d Value, path: &str, what: &str) -> Option<(&'d str, &'d Value)> {
        let found = match value {
            Value::Object(map) if map.len() == 1 => {
                return map.iter().next().map(|(name, value)| (name.as_str(), value));
            }
            Value::Object(map) => format!("{} fields", map.len()),
            other => kind_of(other).to_owned(),
        };
        self.violate(path, format!("must be an object with one field, the name of the {what}; found {found}"));
        None
    }
}

/// Some text of the document as messages show it: not too long.
pub(crate) fn shown(text: &str) -> String {
    if text.chars().count() <= 80 { text.to_owned() } else { text.chars().take(77).chain("...".chars()).collect() }
}

/// `'a', 'b' and 'c'`; at most sixteen, then how many more there are.
pub(crate) fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    const SHOWN_MAX: usize = 16;
    let words: Vec<String> = words.map(|word| format!("'{}'", shown(word))).collect();
    match words.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        [first @ .., last] if words.len() <= SHOWN_MAX => format!("{} and {last}", first.join(", ")),
        many => format!("{} and {} more", many[..SHOWN_MAX].join(", "), many.len() - SHOWN_MAX),
    }
}
