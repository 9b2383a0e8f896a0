//! Taking credentials out of what leaves the process, by value.
//!
//! A value is found as it is; percent-encoded, as URLs and forms have it; with the escapes of JSON, also within JSON; in Base64 of either
//! alphabet, wherever in the encoded text it begins; and cut off at the end of a text. In its place stands `***`.
//!
//! # Deliberately absent
//! Other encodings, and values put together from parts: a service that hides a credential on purpose holds it anyway.

use std::collections::BTreeSet;

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use baton_execution::{Fault, Outcome};
use serde_json::Value;

use crate::Secret;

/// Shorter values are not looked for, in bytes: they would blot out ordinary words.
const SECRET_LENGTH_MIN: usize = 4;
/// Characters of a value that stand at the end of a text, by which it is taken for one that was cut off.
const CUT_LENGTH_MIN: usize = 8;
/// Shortest form in Base64 that is looked for.
const ENCODED_LENGTH_MIN: usize = 5;
/// How often JSON may be a text within JSON.
const LEVELS: [u32; 3] = [1, 2, 3];
const SHOWN_INSTEAD: &str = "***";

/// Takes values of secrets out of an answer from outside, as they are taken out of what activities give.
pub fn redact_outcome<'s>(values: impl IntoIterator<Item = &'s Secret>, outcome: Outcome) -> Outcome {
    let mut secrets = Secrets::default();
    values.into_iter().for_each(|value| secrets.add(value.expose()));
    match outcome {
        Outcome::Completed(output) => Outcome::Completed(secrets.redact_value(output)),
        Outcome::Failed(fault) => Outcome::Failed(secrets.redact_fault(fault)),
        Outcome::Cancelled { reason } => Outcome::Cancelled { reason: secrets.redact(&reason) },
    }
}

/// Texts that must not be shown.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Needle>);

#[derive(Clone)]
struct Needle {
    plain: String,
    /// What Base64 makes of it, but for the characters that hold bits of what stands beside it.
    encoded: Vec<String>,
}

impl Needle {
    fn new(secret: &str) -> Self {
        let mut encoded = Vec::new();
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            for before in 0..3 {
                let whole = engine.encode([&[0; 2][..before], secret.as_bytes()].concat());
                let form = &whole[(before * 8).div_ceil(6)..(before + secret.len()) * 8 / 6];
                if form.len() >= ENCODED_LENGTH_MIN && !encoded.iter().any(|known| known == form) {
                    encoded.push(form.to_owned());
                }
            }
        }
        Self { plain: secret.to_owned(), encoded }
    }

    /// The text without it; `None` if it is not there.
    fn taken_out_of(&self, text: &str) -> Option<String> {
        let mut changed = text.contains(&self.plain).then(|| text.replace(&self.plain, SHOWN_INSTEAD));
        if let Some(found) = self.spelled(changed.as_deref().unwrap_or(text)) {
            changed = Some(found);
        }
        for form in &self.encoded {
            let present = changed.as_deref().unwrap_or(text);
            if present.contains(form) {
                changed = Some(present.replace(form, SHOWN_INSTEAD));
            }
        }
        changed
    }

    /// The text without forms in which some characters are written otherwise, and without one that is cut off.
    fn spelled(&self, text: &str) -> Option<String> {
        let first = self.plain.as_bytes().first()?;
        let (mut kept, mut from, mut at) = (String::new(), 0, 0);
        let bytes = text.as_bytes();
        while at < bytes.len() {
            let begins = bytes[at] == *first || matches!(bytes[at], b'%' | b'\\' | b'+');
            match begins.then(|| self.end_at(bytes, at)).flatten() {
                Some(end) if text.is_char_boundary(at) && text.is_char_boundary(end) => {
                    kept.push_str(&text[from..at]);
                    kept.push_str(SHOWN_INSTEAD);
                    (from, at) = (end, end);
                }
                _ => at += 1,
            }
        }
        (from > 0).then(|| kept + &text[from..])
    }

    /// Where it ends that begins here.
    fn end_at(&self, text: &[u8], start: usize) -> Option<usize> {
        // A `%` may be itself or begin a code, so there may be more than one way on.
        let mut ends = vec![start];
        for (count, character) in self.plain.chars().enumerate() {
            let next: BTreeSet<usize> = ends.iter().flat_map(|at| after(text, *at, character)).collect();
            if next.is_empty() {
                let is_cut = |at: &usize| {
                    let rest = &text[*at..];
                    rest.is_empty() || rest.starts_with("…".as_bytes()) || rest.starts_with(b"...")
                };
                return ends.into_iter().rfind(is_cut).filter(|_| count >= CUT_LENGTH_MIN);
            }
            ends = next.into_iter().collect();
        }
        ends.pop()
    }
}

/// Where a character ends that begins here, in each of the ways in which it may be written.
fn after(text: &[u8], at: usize, character: char) -> impl Iterator<Item = usize> {
    let mut buffer = [0; 4];
    let plain = character.encode_utf8(&mut buffer).as_bytes();
    let literal = text[at..].starts_with(plain).then_some(at + plain.len());
    let of_a_form = (character == ' ' && text.get(at) == Some(&b'+')).then_some(at + 1);
    let encoded = percent_encoded(text, at, plain);
    [literal, of_a_form, encoded]
        .into_iter()
        .chain(LEVELS.map(|level| escaped(text, at, character, level)))
        .chain(LEVELS.map(|level| numbered(text, at, character, level)))
        .flatten()
}

fn percent_encoded(text: &[u8], mut at: usize, plain: &[u8]) -> Option<usize> {
    for byte in plain {
        let written = text.get(at..at + 3)?.strip_prefix(b"%")?;
        let value = std::str::from_utf8(written).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok())?;
        (value == *byte).then_some(())?;
        at += 3;
    }
    Some(at)
}

/// A character as JSON escapes it, `level` times over: a service repeats JSON within JSON.
fn escaped(text: &[u8], at: usize, character: char, level: u32) -> Option<usize> {
    // Each level doubles the backslashes that are there, and puts one before a quote.
    let once = 1 << (level - 1);
    let (backslashes, rest): (usize, &[u8]) = match character {
        '"' => (2 * once - 1, b"\""),
        '\\' => (2 * once, b""),
        '/' => (once, b"/"),
        '\n' => (once, b"n"),
        '\r' => (once, b"r"),
        '\t' => (once, b"t"),
        '\u{8}' => (once, b"b"),
        '\u{c}' => (once, b"f"),
        _ => return None,
    };
    after_backslashes(text, at, backslashes, rest)
}

fn numbered(text: &[u8], mut at: usize, character: char, level: u32) -> Option<usize> {
    for unit in character.encode_utf16(&mut [0; 2]) {
        at = after_backslashes(text, at, 1 << (level - 1), b"u")?;
        let digits = std::str::from_utf8(text.get(at..at + 4)?).ok()?;
        (u16::from_str_radix(digits, 16).ok()? == *unit).then_some(())?;
        at += 4;
    }
    Some(at)
}

fn after_backslashes(text: &[u8], at: usize, count: usize, rest: &[u8]) -> Option<usize> {
    let end = at + count;
    let all = text.get(at..end)?.iter().all(|byte| *byte == b'\\');
    (all && text[end..].starts_with(rest)).then_some(end + rest.len())
}

impl Secrets {
    pub(crate) fn add(&mut self, secret: &str) {
        // Files end in a line break, which no header and no form keeps.
        for secret in [secret, secret.trim()] {
            if secret.len() >= SECRET_LENGTH_MIN && !self.0.iter().any(|known| known.plain == secret) {
                self.0.push(Needle::new(secret));
            }
        }
        // A longer secret may contain a shorter one, and goes first.
        self.0.sort_by_key(|known| std::cmp::Reverse(known.plain.len()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn redact(&self, text: &str) -> String {
        self.changed(text).unwrap_or_else(|| text.to_owned())
    }

    fn changed(&self, text: &str) -> Option<String> {
        // A text that is Base64 as a whole stays it: what is in it may be written in any of the forms.
        if let Some(inner) = decoded(text)
            && let Some(inner) = self.without(&inner)
        {
            return Some(BASE64_STANDARD.encode(inner));
        }
        self.without(text)
    }

    fn without(&self, text: &str) -> Option<String> {
        let mut changed: Option<String> = None;
        for needle in &self.0 {
            if let Some(found) = needle.taken_out_of(changed.as_deref().unwrap_or(text)) {
                changed = Some(found);
            }
        }
        changed
    }

    pub(crate) fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.changed(&text).unwrap_or(text)),
            Value::Array(items) => Value::Array(items.into_iter().map(|item| self.redact_value(item)).collect()),
            Value::Object(fields) => Value::Object(
                fields
                    .into_iter()
                    .map(|(name, field)| (self.changed(&name).unwrap_or(name), self.redact_value(field)))
                    .collect(),
            ),
            Value::Number(number) => {
                let text = number.to_string();
                if self.0.iter().any(|it| it.plain == text) { SHOWN_INSTEAD.into() } else { Value::Number(number) }
            }
            Value::Null | Value::Bool(_) => value,
        }
    }

    pub(crate) fn redact_fault(&self, mut fault: Fault) -> Fault {
        for text in
            [&mut fault.title, &mut fault.detail, &mut fault.instance].into_iter().flatten().chain([&mut fault.kind])
        {
            if let Some(changed) = self.changed(text) {
                *text = changed;
            }
        }
        fault.data = fault.data.map(|data| self.redact_value(data));
        fault
    }
}

/// The text that another one is the Base64 of.
fn decoded(text: &str) -> Option<String> {
    let plausible = text.len() >= SECRET_LENGTH_MIN && text.len().is_multiple_of(4);
    String::from_utf8(plausible.then(|| BASE64_STANDARD.decode(text).ok()).flatten()?).ok()
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE;
    use serde_json::json;

    use super::*;

    const SECRET: &str = "p/ä +\"%25\\s\n💥";

    fn secrets(values: &[&str]) -> Secrets {
        let mut secrets = Secrets::default();
        for value in values {
            secrets.add(value);
        }
        secrets
    }

    /// The text of a JSON string as a further level has it, without the quotes around.
    fn nested(json: &str) -> String {
        let once = serde_json::to_string(json).unwrap();
        let quotes = once.find("p/").unwrap();
        once[quotes..once.len() - quotes].to_owned()
    }

    fn percent_encoded(text: &str, keep: impl Fn(u8) -> bool, space: &str) -> String {
        let written = |byte: u8| match byte {
            b' ' => space.to_owned(),
            byte if keep(byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02x}"),
        };
        text.bytes().map(written).collect()
    }

    #[test]
    fn a_value_is_found_in_all_its_forms() {
        let hidden = secrets(&[SECRET]);
        let json = serde_json::to_string(SECRET).unwrap();
        let ascii = SECRET.encode_utf16().fold(String::new(), |text, unit| format!("{text}\\u{unit:04X}"));
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric();
        for form in [
            SECRET.to_owned(),
            json[1..json.len() - 1].to_owned(),
            nested(&json),
            nested(&serde_json::to_string(&json).unwrap()),
            ascii,
            percent_encoded(SECRET, unreserved, "%20"),
            percent_encoded(SECRET, unreserved, "+").to_uppercase().replace('P', "p").replace('S', "s"),
            percent_encoded(SECRET, |byte| byte.is_ascii_alphanumeric() || byte == b'/', "%20"),
        ] {
            assert_eq!(hidden.redact(&format!("a={form}&b={form}.")), "a=***&b=***.", "{form}");
        }
    }

    #[test]
    fn a_value_is_found_in_base64_wherever_it_begins() {
        let hidden = secrets(&[SECRET]);
        for before in ["", "u", "u:", "user:"] {
            let plain = format!("{before}{SECRET} and more");
            for whole in [BASE64_STANDARD.encode(&plain), BASE64_URL_SAFE.encode(&plain)] {
                let shown = hidden.redact(&format!("Basic {whole}"));
                assert!(shown.contains("***") && shown.len() < whole.len(), "{before}: {shown}");
            }
            let whole = BASE64_STANDARD.encode(&plain);
            let shown = hidden.redact(&whole);
            let inner = BASE64_STANDARD.decode(&shown).map(|inner| String::from_utf8(inner).unwrap());
            assert_eq!(inner.ok(), Some(format!("{before}*** and more")), "what is Base64 stays it: {shown}");
        }
        let raw = BASE64_STANDARD.encode(json!({"echo": SECRET}).to_string());
        let inner = BASE64_STANDARD.decode(hidden.redact(&raw)).unwrap();
        assert_eq!(inner, br#"{"echo":"***"}"#);
    }

    #[test]
    fn in_values_and_faults_it_is_found_everywhere() {
        let hidden = secrets(&["hunter22", "123456"]);
        let value = json!({"hunter22": ["hunter22", {"deep": "xhunter22x"}], "n": [123_456, 1234, true, null]});
        let shown = json!({"***": ["***", {"deep": "x***x"}], "n": ["***", 1234, true, null]});
        assert_eq!(hidden.redact_value(value.clone()), shown);
        let fault = hidden.redact_fault(Fault::new("https://x/hunter22", 400, "said: hunter22").with_data(value));
        assert_eq!(fault.detail.as_deref(), Some("said: ***"));
        assert_eq!((fault.kind.as_str(), fault.data), ("https://x/***", Some(shown)));
        assert!(!fault.title.unwrap().contains("hunter22"));
    }

    #[test]
    fn a_value_that_is_cut_off_is_found_and_what_only_begins_alike_is_not() {
        let hidden = secrets(&["correct horse battery staple"]);
        for (text, shown) in [
            ("it says: correct horse bat", "it says: ***"),
            ("it says: correct horse bat…", "it says: ***…"),
            ("it says: correct+horse+bat...", "it says: ***..."),
            ("a correct horse runs", "a correct horse runs"),
            ("correct", "correct"),
        ] {
            assert_eq!(hidden.redact(text), shown);
        }
    }

    #[test]
    fn the_longer_goes_first_the_shortest_not_at_all_and_a_line_break_at_the_end_does_not_hide_it() {
        let hidden = secrets(&["abcd", "abcdefgh", "no", "from a file\n"]);
        assert_eq!(hidden.redact("abcdefgh abcd no from a file."), "*** *** no ***.");
        assert!(secrets(&["", "abc"]).is_empty());
    }
}
