//! Reading JSON and YAML into a value, within limits that hold whatever the text says.
//!
//! # Invariants
//! - Depth is at most [`baton_types::JSON_DEPTH_MAX`] (both parsers count), and the value costs at most what the caller
//!   allows, so that YAML aliases cannot multiply a small text into a large value.
//! - A field that is set twice is reported with its path; the last one stands.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use baton_types::JSON_DEPTH_MAX;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// What a value costs beside its text.
const NODE_BYTES: usize = 4;

/// Most opening brackets in YAML. The parser's work grows with the square of their depth, which it counts only after
/// that work; and what is deep cannot be told from what is quoted without doing it.
const YAML_BRACKETS_MAX: usize = 50_000;

/// Deepest nesting of brackets, quoted ones included, that the YAML parser is shown.
const YAML_BRACKETS_DEPTH_MAX: usize = 4 * JSON_DEPTH_MAX;

/// What a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// YAML, of which JSON is a part.
    Yaml,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "JSON",
            Self::Yaml => "YAML",
        })
    }
}

/// A value, and the paths of fields that are set more than once.
#[derive(Debug, PartialEq)]
pub struct Parsed {
    /// The value.
    pub value: Value,
    /// Paths of fields that are set more than once.
    pub duplicates: Vec<String>,
}

/// Why a text is not read; a sentence once what it is of stands before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no text.
    #[error("is not UTF-8: byte {at} is out of place")]
    NotText {
        /// The first byte that is wrong.
        at: usize,
    },
    /// It stands for more than is allowed.
    #[error("is larger than the limit of {limit} bytes once its aliases are filled in")]
    TooLarge {
        /// In bytes.
        limit: usize,
    },
    /// It is nested too deep.
    #[error("is not {0} that is read here: it is nested deeper than {JSON_DEPTH_MAX} levels")]
    TooDeep(Format),
    /// It is YAML with more brackets than could be read in a reasonable time if all of them were nested. JSON has no such limit.
    #[error("is YAML with {opened} opening brackets; allowed are up to {YAML_BRACKETS_MAX}")]
    Brackets {
        /// How many there are.
        opened: usize,
    },
    /// It is not what it should be.
    #[error("is not {format}: {says}")]
    Wrong {
        /// What it should be.
        format: Format,
        /// The parser's words.
        says: String,
    },
}

/// Reads a text into a value that costs at most `expanded_bytes_max`: the bytes of its strings, and some for every value.
/// Takes time in proportion to both.
///
/// # Errors
/// See [`Unreadable`].
pub fn read(text: &[u8], format: Format, expanded_bytes_max: usize) -> Result<Parsed, Unreadable> {
    let text = std::str::from_utf8(text).map_err(|error| Unreadable::NotText { at: error.valid_up_to() })?;
    let limits =
        Limits { left: Cell::new(expanded_bytes_max), path: RefCell::default(), duplicates: RefCell::default() };
    let seed = Seed(&limits);
    let read = match format {
        Format::Json => {
            let mut from = serde_json::Deserializer::from_str(text);
            seed.deserialize(&mut from).and_then(|value| from.end().map(|()| value)).map_err(|error| error.to_string())
        }
        Format::Yaml => {
            refuse_deep_brackets(text)?;
            seed.deserialize(serde_yaml_ng::Deserializer::from_str(text)).map_err(|error| error.to_string())
        }
    };
    match read {
        Ok(value) => Ok(Parsed { value, duplicates: limits.duplicates.into_inner() }),
        // The YAML parser has a limit of its own, on how often aliases are followed.
        Err(says) if limits.left.get() == 0 || says.contains("repetition limit") => {
            Err(Unreadable::TooLarge { limit: expanded_bytes_max })
        }
        Err(says) if says.contains("recursion limit") => Err(Unreadable::TooDeep(format)),
        Err(says) => Err(Unreadable::Wrong { format, says }),
    }
}

/// Reads a file that may be JSON or YAML.
///
/// # Errors
/// See [`Unreadable`].
pub fn read_either(text: &[u8], expanded_bytes_max: usize) -> Result<Value, Unreadable> {
    let read = |format| read(text, format, expanded_bytes_max).map(|parsed| parsed.value);
    // All JSON is YAML; read as JSON, what is wrong with it is said in its words.
    if text.trim_ascii_start().starts_with(b"{") {
        read(Format::Json).or_else(|_| read(Format::Yaml))
    } else {
        read(Format::Yaml)
    }
}

/// Counts brackets without regard to quotes: more than allowed is either deep or meant to do harm.
fn refuse_deep_brackets(text: &str) -> Result<(), Unreadable> {
    let (mut depth, mut opened) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => (depth, opened) = (depth + 1, opened + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > YAML_BRACKETS_DEPTH_MAX {
            return Err(Unreadable::TooDeep(Format::Yaml));
        }
    }
    if opened > YAML_BRACKETS_MAX { Err(Unreadable::Brackets { opened }) } else { Ok(()) }
}

struct Limits {
    left: Cell<usize>,
    path: RefCell<String>,
    duplicates: RefCell<Vec<String>>,
}

impl Limits {
    fn charge<E: Error>(&self, text: usize) -> Result<(), E> {
        match self.left.get().checked_sub(text + NODE_BYTES) {
            Some(left) if left > 0 => {
                self.left.set(left);
                Ok(())
            }
            _ => {
                self.left.set(0);
                Err(E::custom("larger than the limit"))
            }
        }
    }

    /// Runs `read` with `step` at the end of the path.
    fn below<T>(&self, step: &str, read: impl FnOnce() -> T) -> T {
        let length = self.path.borrow().len();
        self.path.borrow_mut().push_str(step);
        let result = read();
        self.path.borrow_mut().truncate(length);
        result
    }
}

#[derive(Clone, Copy)]
struct Seed<'a>(&'a Limits);

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON has (no tags, no numbers beyond 64 bits)")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.0.charge(0).map(|()| Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.0.charge(0).map(|()| value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.0.charge(0).map(|()| value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.0.charge(0)?;
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.0.charge(value.len()).map(|()| value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        self.0.charge(value.len()).map(|()| value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.0.charge(0)?;
        let mut list = Vec::new();
        while let Some(item) = self.0.below(&format!("[{}]", list.len()), || items.next_element_seed(self))? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.0.charge(0)?;
        let mut object = Map::new();
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            self.0.charge(key.len())?;
            let step = if self.0.path.borrow().is_empty() { key.clone() } else { format!(".{key}") };
            let value = self.0.below(&step, || entries.next_value_seed(self))?;
            if object.contains_key(&key) {
                let path = format!("{}{step}", self.0.path.borrow());
                self.0.duplicates.borrow_mut().push(path);
            }
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

/// A name of a field. YAML has names that are numbers or booleans, such as `200:`; they stand for their text.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<String, E> {
        Ok(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<String, E> {
        Ok(value)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<String, E> {
        Ok(value.to_string())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<String, E> {
        Ok(value.to_string())
    }
}
