//! Free data: JSON held as text. Inline in the JSON of a resource, by digest in history when it is long.

use baton_types::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _, ser::Error as _};
use serde_json::{Value, value::RawValue};

use crate::{history_v1::Data, v1::Json};

/// Reads content that is stored by digest.
pub trait DataLoader {
    /// The content of a digest, if the store has it.
    fn load(&self, digest: &Digest) -> Option<Vec<u8>>;
}

/// A loader with nothing, for histories that are known to hold everything inline.
#[derive(Clone, Copy, Debug)]
pub struct NoBlobs;

impl DataLoader for NoBlobs {
    fn load(&self, _digest: &Digest) -> Option<Vec<u8>> {
        None
    }
}

impl Json {
    /// The message that holds `value`.
    pub fn from_value(value: &Value) -> Self {
        Self { text: value.to_string() }
    }

    /// The value, or why the text is not JSON.
    ///
    /// # Errors
    /// What the parser says; a stored resource never has this, as its text came from a value.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        if self.text.is_empty() { Ok(Value::Null) } else { serde_json::from_str(&self.text) }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_text(&self.text, serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Through a value, so that duplicate keys and spacing do not reach the store. Integers of 64 bits stay exact.
        Ok(Self::from_value(&Value::deserialize(deserializer)?))
    }
}

impl Data {
    /// Data for history: inline up to a length, or by digest with the content handed to `keep` for storing.
    pub(crate) fn within(value: &Value, inline_bytes_max: usize, keep: &mut Vec<(Digest, Vec<u8>)>) -> Self {
        let text = value.to_string();
        if text.len() <= inline_bytes_max {
            return Self { text, digest: String::new(), size_bytes: 0 };
        }
        let digest = Digest::of(text.as_bytes());
        let size_bytes = i32::try_from(text.len()).unwrap_or(i32::MAX);
        keep.push((digest, text.into_bytes()));
        Self { text: String::new(), digest: digest.to_string(), size_bytes }
    }

    /// The value, read through `loader` if it is stored by digest.
    ///
    /// # Errors
    /// A sentence saying what is missing or malformed.
    pub fn to_value(&self, loader: &dyn DataLoader) -> Result<Value, String> {
        if self.digest.is_empty() {
            let text = if self.text.is_empty() { "null" } else { &self.text };
            return serde_json::from_str(text).map_err(|error| format!("data is not JSON: {error}"));
        }
        let content =
            loader.load(&self.digest.parse()?).ok_or_else(|| format!("content {} is not in the store", self.digest))?;
        serde_json::from_slice(&content).map_err(|error| format!("content {} is not JSON: {error}", self.digest))
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.digest.is_empty() {
            return serialize_text(&self.text, serializer);
        }
        serde_json::json!({"$digest": self.digest, "sizeBytes": self.size_bytes}).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        match value.get("$digest").and_then(Value::as_str) {
            Some(digest) => {
                let size = value.get("sizeBytes").and_then(Value::as_i64).unwrap_or_default();
                Ok(Self {
                    text: String::new(),
                    digest: digest.to_owned(),
                    size_bytes: i32::try_from(size).map_err(D::Error::custom)?,
                })
            }
            None => Ok(Self { text: value.to_string(), digest: String::new(), size_bytes: 0 }),
        }
    }
}

fn serialize_text<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    let raw: &RawValue = serde_json::from_str(if text.is_empty() { "null" } else { text }).map_err(S::Error::custom)?;
    raw.serialize(serializer)
}
