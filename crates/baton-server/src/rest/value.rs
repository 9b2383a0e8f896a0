//! Reading JSON and YAML into a value, within limits that hold whatever the text says.
//!
//! # Invariants
//! - Depth is at most [`baton_types::JSON_DEPTH_MAX`] (both parsers count), and the value costs at most
//!   [`EXPANDED_BYTES_MAX`], so that YAML aliases cannot multiply a small text into a large value.
//! - A field that is set twice is reported with its path; the last one stands.

use std::{
    cell::{Cell, RefCell},
    fmt,
};

use baton_types::{ErrorKind, JSON_DEPTH_MAX};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{
    body::{BODY_BYTES_MAX, MediaType},
    refusal::Refusal,
};
use baton_types::ApiError;

/// Largest value that a text may stand for, in bytes: its strings, and [`NODE_BYTES`] for every value.
pub(super) const EXPANDED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// What a value costs beside its text.
const NODE_BYTES: usize = 4;

/// Most opening brackets in YAML. The parser's work grows with the square of their depth, which it counts only after
/// that work; and what is deep cannot be told from what is quoted without doing it.
const YAML_BRACKETS_MAX: usize = 50_000;

/// Deepest nesting of brackets, quoted ones included, that the YAML parser is shown.
const YAML_BRACKETS_DEPTH_MAX: usize = 4 * JSON_DEPTH_MAX;

/// A value, and the paths of fields that are set more than once.
#[derive(Debug, PartialEq)]
pub(super) struct Parsed {
    pub(super) value: Value,
    pub(super) duplicates: Vec<String>,
}

/// Reads `text`. An empty one is refused: callers that allow it ask before.
pub(super) fn parse(text: &[u8], media_type: MediaType) -> Result<Parsed, Refusal> {
    let bad = |message: String| Refusal::bad_request("BODY_MALFORMED", message);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(bad("the body is empty; allowed is one object".to_owned()));
    }
    let format = if media_type == MediaType::Yaml { "YAML" } else { "JSON" };
    let text = std::str::from_utf8(text)
        .map_err(|error| bad(format!("the body is not UTF-8: byte {} is out of place", error.valid_up_to())))?;
    let limits =
        Limits { left: Cell::new(EXPANDED_BYTES_MAX), path: RefCell::default(), duplicates: RefCell::default() };
    let seed = Seed(&limits);
    let read = match media_type {
        MediaType::Json => {
            let mut from = serde_json::Deserializer::from_str(text);
            seed.deserialize(&mut from).and_then(|value| from.end().map(|()| value)).map_err(|error| error.to_string())
        }
        MediaType::Yaml => {
            refuse_deep_brackets(text)?;
            seed.deserialize(serde_yaml_ng::Deserializer::from_str(text)).map_err(|error| error.to_string())
        }
    };
    match read {
        Ok(value) => Ok(Parsed { value, duplicates: limits.duplicates.into_inner() }),
        // The YAML parser has a limit of its own, on how often aliases are followed.
        Err(says) if limits.left.get() == 0 || says.contains("repetition limit") => {
            let message = format!(
                "the body is larger than the limit of {EXPANDED_BYTES_MAX} bytes once its aliases are filled in"
            );
            Err(ApiError::new(ErrorKind::TooLarge, "BODY_TOO_LARGE", message).into())
        }
        Err(says) if says.contains("recursion limit") => Err(too_deep(format)),
        Err(says) => Err(bad(format!("the body is not {format}: {says}"))),
    }
}

/// Reads a file that was fetched, JSON or YAML, within the limits of a body.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_file(text: &[u8]) -> Result<Value, String> {
    // All JSON is YAML; read as JSON, what is wrong with it is said in its words.
    let json = text.trim_ascii_start().starts_with(b"{");
    let read = |media_type| parse(text, media_type).map(|parsed| parsed.value);
    let parsed = if json { read(MediaType::Json).or_else(|_| read(MediaType::Yaml)) } else { read(MediaType::Yaml) };
    parsed.map_err(|refusal| refusal.message().replace("the body", "the file"))
}

fn too_deep(format: &str) -> Refusal {
    Refusal::bad_request(
        "BODY_MALFORMED",
        format!("the body is not {format} that is read here: it is nested deeper than {JSON_DEPTH_MAX} levels"),
    )
}

/// Counts brackets without regard to quotes: more than allowed is either deep or meant to do harm.
fn refuse_deep_brackets(text: &str) -> Result<(), Refusal> {
    let (mut depth, mut opened) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'[' | b'{' => (depth, opened) = (depth + 1, opened + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > YAML_BRACKETS_DEPTH_MAX {
            return Err(too_deep("YAML"));
        }
    }
    if opened > YAML_BRACKETS_MAX {
        let message = format!("the body is YAML with {opened} opening brackets; allowed are up to {YAML_BRACKETS_MAX}");
        return Err(Refusal::bad_request("BODY_MALFORMED", message)
            .hint("send it as application/json, which has no such limit"));
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str, media_type: MediaType) -> String {
        parse(text.as_bytes(), media_type).unwrap_err().status()["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn keeps_numbers_exact_and_names_what_is_set_twice() {
        let parsed =
            parse(br#"{"a": 18446744073709551615, "b": [{"c": 1, "c": 5.0}], "a": -3}"#, MediaType::Json).unwrap();
        assert_eq!(parsed.value, json!({"a": -3, "b": [{"c": 5.0}]}));
        assert_eq!(parsed.duplicates, ["b[0].c", "a"]);
        let yaml = parse(b"a: 1\n200: yes\nlist: [1, 2.5, ~, 'x']\n", MediaType::Yaml).unwrap();
        assert_eq!(yaml.value, json!({"a": 1, "200": "yes", "list": [1, 2.5, null, "x"]}));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, media_type, says) in [
            ("", MediaType::Json, "the body is empty"),
            (" \n", MediaType::Yaml, "the body is empty"),
            ("{\"a\": }", MediaType::Json, "not JSON: expected value at line 1 column 7"),
            ("{} {}", MediaType::Json, "trailing characters"),
            ("a: [", MediaType::Yaml, "not YAML"),
            ("a: 1\n---\nb: 2\n", MediaType::Yaml, "more than one document"),
            ("a: !env x", MediaType::Yaml, "no tags"),
            ("a: .nan", MediaType::Yaml, "finite"),
            (&"[".repeat(10_000), MediaType::Json, "nested deeper than 128 levels"),
            (&"[".repeat(1_000_000), MediaType::Yaml, "nested deeper than 128 levels"),
            (&"[\"]\",".repeat(60_000), MediaType::Yaml, "60000 opening brackets; allowed are up to 50000"),
            (&format!("{}x", "- ".repeat(500)), MediaType::Yaml, "nested deeper than 128 levels"),
        ] {
            let message = refused(text, media_type);
            assert!(message.contains(says), "{message}");
        }
        let message = parse(b"{\"a\": \"\xff\"}", MediaType::Json).unwrap_err().status()["message"].to_string();
        assert!(message.contains("not UTF-8: byte 7"), "{message}");
    }

    #[test]
    fn aliases_do_not_multiply() {
        let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(100));
        assert!(refused(&wide, MediaType::Yaml).contains("once its aliases are filled in"));
        let text = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
            let previous = format!("*a{},", level - 1).repeat(10);
            format!("{text}a{level}: &a{level} [{previous}]\n")
        });
        let message = refused(&text, MediaType::Yaml);
        assert!(message.contains("once its aliases are filled in"), "{message}");
    }
}
