//! YAML and JSON text as values, within limits of size, depth and number, so that no file can exhaust the process.

use std::{fmt, sync::Arc};

use baton_types::{JSON_DEPTH_MAX, Violation};
use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::{
    failure::{Failure, Finding},
    yaml::{Origin, Source, tree},
};

/// Largest file, in bytes. A resource is at most 1 MiB; a file may hold some dozens.
pub(crate) const FILE_BYTES_MAX: u64 = 32 << 20;
/// Values in one document after aliases are expanded. A short text can name a thousand values a thousand times.
const DOCUMENT_VALUES_MAX: usize = 500_000;
/// Bytes of text in one document after aliases are expanded.
const DOCUMENT_BYTES_MAX: usize = 32 << 20;
/// Documents in one file.
const DOCUMENTS_MAX: usize = 10_000;

/// Reads the documents of a YAML text (JSON is YAML). Empty documents are left out.
pub(crate) fn parse_yaml(origin: &str, text: &[u8]) -> Result<Vec<Value>, Failure> {
    parse_source(&decode(origin, text)?)
}

/// A file's text.
pub(crate) fn decode(origin: &str, text: &[u8]) -> Result<Arc<Source>, Failure> {
    let text = std::str::from_utf8(text)
        .map_err(|error| Failure::refused(format!("{origin}: byte {} is not UTF-8", error.valid_up_to())))?;
    Ok(Source::new(origin, text))
}

/// Reads the documents of a file. Empty documents are left out.
pub(crate) fn parse_source(source: &Arc<Source>) -> Result<Vec<Value>, Failure> {
    let mut documents = Vec::new();
    for (index, document) in serde_yaml_ng::Deserializer::from_str(source.text()).enumerate() {
        if index >= DOCUMENTS_MAX {
            return Err(Failure::refused(format!("{}: more than {DOCUMENTS_MAX} documents", source.name())));
        }
        let mut budget = Budget { values: DOCUMENT_VALUES_MAX, bytes: DOCUMENT_BYTES_MAX };
        let value =
            Seed { budget: &mut budget, depth: 0 }.deserialize(document).map_err(|error| wrong_yaml(source, &error))?;
        if !value.is_null() {
            documents.push(value);
        }
    }
    Ok(documents)
}

/// Reads one JSON value; `what` says where it was given, such as `--input`.
pub(crate) fn parse_json(what: &str, text: &str) -> Result<Value, Failure> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Value::deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| {
        let says = error.to_string();
        let says = if says.contains("recursion limit") {
            format!("it is nested deeper than {JSON_DEPTH_MAX} levels")
        } else {
            says
        };
        Failure::refused(format!("{what} is not JSON: {says}"))
            .hint("text is JSON only in quotes, such as --input '\"text\"'")
    })
}

fn wrong_yaml(source: &Arc<Source>, error: &serde_yaml_ng::Error) -> Failure {
    let says = error.to_string();
    let byte = error.location().map(|at| source.byte(at.line(), at.column()));
    let (says, byte) = match says.split(" at line ").next().unwrap_or(&says) {
        "recursion limit exceeded" => (format!("it is nested deeper than {JSON_DEPTH_MAX} levels"), byte),
        "repetition limit exceeded" => (format!("its aliases expand to more than {DOCUMENT_VALUES_MAX} values"), byte),
        // Of a text that is no YAML at all the other reader says more exactly what and where.
        says => match tree::parse(source.text()) {
            Err(wrong) => (wrong.message, Some(wrong.at)),
            Ok(_) => (says.to_owned(), byte),
        },
    };
    let Some(byte) = byte else { return Failure::refused(format!("{}: {says}", source.name())) };
    let origin = Origin::new(Arc::clone(source), 0, false);
    let place = source.place(byte..byte);
    Failure::findings(vec![Finding { violation: Violation::new("", says), origin: Some(origin), place: Some(place) }])
}

/// What is left to be read of a document.
struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn take_value<E: Error>(&mut self) -> Result<(), E> {
        self.values = self.values.checked_sub(1).ok_or_else(|| {
            E::custom(format_args!("it holds more than {DOCUMENT_VALUES_MAX} values, aliases expanded"))
        })?;
        Ok(())
    }

    fn take_bytes<E: Error>(&mut self, bytes: usize) -> Result<(), E> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(|| {
            E::custom(format_args!("it holds more than {DOCUMENT_BYTES_MAX} bytes of text, aliases expanded"))
        })?;
        Ok(())
    }
}

struct Seed<'a> {
    budget: &'a mut Budget,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.take_value()?;
        if self.depth > JSON_DEPTH_MAX {
            return Err(D::Error::custom(format_args!("it is nested deeper than {JSON_DEPTH_MAX} levels")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("data that JSON can express")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<Value, E> {
        Err(E::custom(format_args!("the whole number {value} needs more than 64 bits; write it in quotes")))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<Value, E> {
        Err(E::custom(format_args!("the whole number {value} needs more than 64 bits; write it in quotes")))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom(format_args!("{value} is not a number that JSON can express")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.budget.take_bytes(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Seed { budget: &mut *self.budget, depth: self.depth + 1 })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key_seed(Seed { budget: &mut *self.budget, depth: self.depth + 1 })? {
            let key = match key {
                Value::String(text) => text,
                // As in Kubernetes: `1: x` is the field "1".
                Value::Number(number) => number.to_string(),
                Value::Bool(word) => word.to_string(),
                Value::Null | Value::Array(_) | Value::Object(_) => return Err(A::Error::custom("a key must be text")),
            };
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key '{key}' is there twice")));
            }
            let value = fields.next_value_seed(Seed { budget: &mut *self.budget, depth: self.depth + 1 })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _data: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("tags such as !name are not supported"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(text: &str) -> String {
        parse_yaml("a.yaml", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn reads_what_json_can_express() {
        let text = "a: 1\nb: [yes, ~, 1.5, 9007199254740993]\n1: x\nc: &x {d: '1'}\ne: *x\n---\n---\n{\"f\": 1}\n";
        let read = parse_yaml("a.yaml", text.as_bytes()).unwrap();
        assert_eq!(
            read,
            [
                json!({"a": 1, "b": ["yes", null, 1.5, 9_007_199_254_740_993_i64], "1": "x", "c": {"d": "1"}, "e": {"d": "1"}}),
                json!({"f": 1})
            ]
        );
    }

    #[test]
    fn refuses_with_the_place() {
        for (text, says) in [
            ("a: 1\na: 2", "the key 'a' is there twice"),
            ("a: [1", "a.yaml:"),
            ("a: !x 1", "tags such as !name are not supported"),
            ("a: .nan", "not a number"),
            ("? [a]\n: b", "a key must be text"),
            ("a: 340282366920938463463374607431768211455", "more than 64 bits"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(says) && refusal.contains("a.yaml"), "{text}: {refusal}");
        }
        assert!(parse_yaml("a.yaml", b"a: \xff").unwrap_err().to_string().contains("byte 3 is not UTF-8"));
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            let row = vec![before; 10].join(", ");
            text = format!("{text}a{level}: &a{level} [{row}]\n");
        }
        let refusal = refusal(&text);
        assert!(refusal.contains("values"), "{refusal}");
    }

    #[test]
    fn a_long_text_named_often_is_refused() {
        let row = vec!["*a"; 2000].join(", ");
        let refusal = refusal(&format!("a: &a {}\nb: [{row}]\n", "x".repeat(100_000)));
        assert!(refusal.contains("bytes of text"), "{refusal}");
    }

    #[test]
    fn deep_nesting_is_refused() {
        let refusal = refusal(&format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)));
        assert!(refusal.contains("nested deeper than 128"), "{refusal}");
        let refusal = parse_json("--input", &"[".repeat(10_000)).unwrap_err().to_string();
        assert!(refusal.contains("nested deeper than 128"), "{refusal}");
    }
}
