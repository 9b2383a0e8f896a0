//! JSON values inside of expressions: cheap to share, and measured while they are made.
//!
//! Every array and object knows how large it would be if nothing in it were shared, and how deep it is. So no
//! operation can make a value that the next operation would not survive (a hundred doublings of an array take a
//! hundred bytes, but writing it out would never end), and every operation is charged before it is done.
//!
//! # Invariants
//! - `size` and `depth` of a value within an evaluation are at most [`SIZE_MAX`] and [`DEPTH_MAX`]; what would be
//!   more becomes null, and the meter keeps the limit that was passed.
//! - Integers from -2^63 to 2^64-1 are exact. Whole results of floating-point arithmetic are integers again.

use std::{collections::BTreeSet, fmt, rc::Rc};

use indexmap::IndexMap;
use serde_json::{Map, Number, Value};

use super::meter::{self, DEPTH_MAX, Limit, SIZE_MAX};

/// Bytes that are counted for a value apart from its text.
const SLOT: usize = 16;
/// Numbers up to this are whole in a double.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// Characters of a value that messages show.
const SHOWN_MAX: usize = 100;

/// A value.
#[derive(Clone, Debug, Default)]
pub(super) enum V {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// An integer above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Str(Rc<String>),
    Arr(Rc<Array>),
    Obj(Rc<Object>),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Array {
    items: Vec<V>,
    size: usize,
    depth: u32,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Object {
    fields: IndexMap<Rc<str>, V>,
    size: usize,
    depth: u32,
}

impl Array {
    pub(super) fn items(&self) -> &[V] {
        &self.items
    }

    /// Changes the items, then measures again.
    pub(super) fn change<R>(&mut self, change: impl FnOnce(&mut Vec<V>) -> R) -> R {
        let result = change(&mut self.items);
        self.size = self.items.iter().fold(0, |sum: usize, item| sum.saturating_add(item.size()));
        self.depth = self.items.iter().map(V::depth).max().unwrap_or(0);
        result
    }

    pub(super) fn extend(&mut self, more: impl IntoIterator<Item = V>) {
        for item in more {
            self.size = self.size.saturating_add(item.size());
            self.depth = self.depth.max(item.depth());
            self.items.push(item);
        }
    }

    /// Takes an item out, to be put back by [`Array::put`].
    pub(super) fn take(&mut self, index: usize) -> V {
        let item = std::mem::take(&mut self.items[index]);
        self.size = self.size.saturating_sub(item.size());
        item
    }

    pub(super) fn put(&mut self, index: usize, item: V) {
        self.size = self.size.saturating_add(item.size());
        self.depth = self.depth.max(item.depth());
        self.items[index] = item;
    }
}

impl Object {
    pub(super) fn fields(&self) -> &IndexMap<Rc<str>, V> {
        &self.fields
    }

    pub(super) fn insert(&mut self, key: Rc<str>, value: V) {
        let (size, depth, text) = (value.size(), value.depth(), key.len() + SLOT);
        let old = self.fields.insert(key, value).map_or(0, |old| old.size() + text);
        self.size = self.size.saturating_sub(old).saturating_add(size).saturating_add(text);
        self.depth = self.depth.max(depth);
    }

    pub(super) fn remove_all(&mut self, keys: &BTreeSet<&str>) {
        self.fields.retain(|key, _| !keys.contains(&**key));
        self.size = self.fields.iter().fold(0, |sum, (key, value)| sum.saturating_add(value.size() + key.len() + SLOT));
    }

    pub(super) fn get_mut_taken(&mut self, key: &str) -> Option<V> {
        let value = std::mem::take(self.fields.get_mut(key)?);
        self.size = self.size.saturating_sub(value.size() - V::Null.size());
        Some(value)
    }
}

impl V {
    /// Bytes that it would take if nothing in it were shared.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Str(text) => text.len() + SLOT,
            Self::Arr(array) => array.size.saturating_add(SLOT),
            Self::Obj(object) => object.size.saturating_add(SLOT),
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Float(_) => SLOT,
        }
    }

    /// Levels of arrays and objects.
    pub(super) fn depth(&self) -> u32 {
        match self {
            Self::Arr(array) => array.depth + 1,
            Self::Obj(object) => object.depth + 1,
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Float(_) | Self::Str(_) => 0,
        }
    }

    /// The value, or null with a limit passed if it is too much.
    pub(super) fn checked(self) -> Self {
        if self.size() > SIZE_MAX {
            meter::pass(Limit::Size);
        } else if self.depth() > DEPTH_MAX {
            meter::pass(Limit::Depth);
        } else {
            return self;
        }
        Self::Null
    }

    pub(super) fn string(text: impl Into<String>) -> Self {
        let text = text.into();
        meter::bytes(text.len() + SLOT);
        Self::Str(Rc::new(text)).checked()
    }

    pub(super) fn bytes(bytes: &[u8]) -> Self {
        Self::string(String::from_utf8_lossy(bytes))
    }

    /// An array; the items were charged when they came to be.
    pub(super) fn array(items: Vec<Self>) -> Self {
        meter::bytes(SLOT * (items.len() + 2));
        let mut array = Array { items, ..Array::default() };
        array.change(|_| ());
        Self::Arr(Rc::new(array)).checked()
    }

    pub(super) fn object(entries: impl IntoIterator<Item = (Rc<str>, Self)>) -> Self {
        let mut object = Object::default();
        for (key, value) in entries {
            if !meter::bytes(2 * SLOT + key.len()) {
                return Self::Null;
            }
            object.insert(key, value);
        }
        Self::Obj(Rc::new(object)).checked()
    }

    /// The number: an integer if it is whole.
    pub(super) fn number(value: f64) -> Self {
        if value.fract() == 0.0 && value.abs() < WHOLE_MAX {
            Self::whole(value).map_or(Self::Float(value), Self::Int)
        } else {
            Self::Float(value)
        }
    }

    /// The whole part of a float, cut to what an integer holds; `None` for not-a-number.
    #[expect(clippy::cast_possible_truncation, reason = "cutting is what is asked for")]
    pub(super) fn whole(value: f64) -> Option<i64> {
        (!value.is_nan()).then_some(value as i64)
    }

    /// The integer, in the smallest form that holds it; one that no form holds is a float.
    #[expect(clippy::cast_precision_loss, reason = "as in jq, integers that are too large are floats")]
    pub(super) fn integer(value: i128) -> Self {
        if let Ok(value) = i64::try_from(value) {
            Self::Int(value)
        } else if let Ok(value) = u64::try_from(value) {
            Self::Uint(value)
        } else {
            Self::Float(value as f64)
        }
    }

    pub(super) fn as_integer(&self) -> Option<i128> {
        match *self {
            Self::Int(value) => Some(value.into()),
            Self::Uint(value) => Some(value.into()),
            _ => None,
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "who wants it exact asks for the integer")]
    pub(super) fn as_number(&self) -> Option<f64> {
        match *self {
            Self::Int(value) => Some(value as f64),
            Self::Uint(value) => Some(value as f64),
            Self::Float(value) => Some(value),
            _ => None,
        }
    }

    /// As an index of an array: fractions are cut off.
    pub(super) fn as_index(&self) -> Option<i64> {
        match *self {
            Self::Int(value) => Some(value),
            Self::Uint(_) => Some(i64::MAX),
            Self::Float(value) => Self::whole(value.floor()),
            _ => None,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// Its JSON text.
    pub(super) fn to_json(&self) -> String {
        let mut text = String::new();
        if meter::bytes(self.size()) {
            // Writing to a string does not fail.
            let _ = self.write(&mut text);
        }
        text
    }

    fn write(&self, out: &mut impl fmt::Write) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Bool(value) => write!(out, "{value}"),
            Self::Int(value) => write!(out, "{value}"),
            Self::Uint(value) => write!(out, "{value}"),
            Self::Float(value) => write!(out, "{}", float(*value)),
            Self::Str(text) => out.write_str(&quoted(text)),
            Self::Arr(array) => {
                for (index, item) in array.items.iter().enumerate() {
                    out.write_str(if index == 0 { "[" } else { "," })?;
                    item.write(out)?;
                }
                out.write_str(if array.items.is_empty() { "[]" } else { "]" })
            }
            Self::Obj(object) => {
                for (index, (key, item)) in object.fields.iter().enumerate() {
                    out.write_str(if index == 0 { "{" } else { "," })?;
                    write!(out, "{}:", quoted(key))?;
                    item.write(out)?;
                }
                out.write_str(if object.fields.is_empty() { "{}" } else { "}" })
            }
        }
    }

    /// From JSON that came from outside of the expression.
    pub(super) fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(value), _) => Self::Int(value),
                (None, Some(value)) => Self::Uint(value),
                (None, None) => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Self::Str(Rc::new(text.clone())),
            Value::Array(items) => {
                let mut array = Array::default();
                array.extend(items.iter().map(Self::from_json));
                Self::Arr(Rc::new(array))
            }
            Value::Object(fields) => {
                let mut object = Object::default();
                for (key, value) in fields {
                    object.insert(key.as_str().into(), Self::from_json(value));
                }
                Self::Obj(Rc::new(object))
            }
        }
    }

    /// To JSON for the world outside. Its size and depth have been looked at before.
    pub(super) fn into_json(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Number(value.into()),
            Self::Uint(value) => Value::Number(value.into()),
            Self::Float(value) => float(value),
            Self::Str(text) => Value::String(Rc::try_unwrap(text).unwrap_or_else(|shared| shared.as_ref().clone())),
            Self::Arr(array) => match Rc::try_unwrap(array) {
                Ok(array) => array.items.into_iter().map(Self::into_json).collect(),
                Err(shared) => shared.items.iter().cloned().map(Self::into_json).collect(),
            },
            Self::Obj(object) => {
                let entries: Map<String, Value> = match Rc::try_unwrap(object) {
                    Ok(object) => {
                        object.fields.into_iter().map(|(key, value)| (key.to_string(), value.into_json())).collect()
                    }
                    Err(shared) => {
                        shared.fields.iter().map(|(key, value)| (key.to_string(), value.clone().into_json())).collect()
                    }
                };
                Value::Object(entries)
            }
        }
    }
}

/// A text as JSON has it; like jq, with an escape for the one control character that JSON allows.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string().replace('\u{7f}', "\\u007f")
}

/// A float as JSON has it: not-a-number is null, and infinity is the largest number, as in jq.
fn float(value: f64) -> Value {
    let finite = if value.is_infinite() { f64::MAX.copysign(value) } else { value };
    Number::from_f64(finite).map_or(Value::Null, Value::Number)
}

/// For messages: not more than the beginning.
impl fmt::Display for V {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut start = Start { text: String::new() };
        match self.write(&mut start) {
            Ok(()) => f.write_str(&start.text),
            Err(_) => write!(f, "{}…", start.text.chars().take(SHOWN_MAX).collect::<String>()),
        }
    }
}

/// Takes the beginning of a text, and refuses the rest.
struct Start {
    text: String,
}

impl fmt::Write for Start {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.text.extend(part.chars().take(SHOWN_MAX + 1));
        if self.text.chars().count() > SHOWN_MAX { Err(fmt::Error) } else { Ok(()) }
    }
}
