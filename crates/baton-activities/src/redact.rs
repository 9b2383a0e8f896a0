//! Taking credentials out of what leaves the process, by value.
//!
//! A value is found as it is; percent-encoded, as URLs and forms have it; with the escapes of JSON, also within JSON; in Base64 of either
//! alphabet, wherever in the encoded text it begins; and cut off at the end of a text. In its place stands `***`.
//!
//! # Invariants
//! - The work for a text is limited by its length: a text that would take more is shown as `***` altogether. Values of secrets
//!   and answers of services are other people's, and the two together could keep a processor busy for days.
//!
//! # Deliberately absent
//! Other encodings, and values put together from parts: a service that hides a credential on purpose holds it anyway.

mod partial;

use std::{
    cell::Cell,
    sync::{Arc, OnceLock},
};

use aho_corasick::{AhoCorasick, BuildError};
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
/// Longest part of a form in Base64 by which it is looked for; where it is found, the rest is compared.
const ANCHOR_LENGTH_MAX: usize = 24;
/// Steps for a text: so many, and so many for each of its bytes. A step looks at one character of a value in one place; ordinary
/// texts take a few for each byte even with a hundred secrets.
const STEPS_MIN: usize = 1 << 20;
const STEPS_PER_BYTE: usize = 64;

/// Takes values of secrets out of an answer from outside, as they are taken out of what activities give.
pub fn redact_outcome<'s>(values: impl IntoIterator<Item = &'s Secret>, outcome: Outcome) -> Outcome {
    let secrets = Secrets::of(values);
    match outcome {
        Outcome::Completed(output) => Outcome::Completed(secrets.redact_value(output)),
        Outcome::Failed(fault) => Outcome::Failed(secrets.redact_fault(fault)),
        Outcome::Cancelled { reason } => Outcome::Cancelled { reason: secrets.redact(&reason) },
    }
}

/// The same for what somebody else says, such as why they decided as they did; `None` if no value is in it.
pub fn redact_data<'s>(values: impl IntoIterator<Item = &'s Secret>, data: &Value) -> Option<Value> {
    let redacted = Secrets::of(values).redact_value(data.clone());
    (redacted != *data).then_some(redacted)
}

/// Texts that must not be shown.
#[derive(Clone, Default)]
pub(crate) struct Secrets {
    needles: Vec<Needle>,
    /// Finds their forms in Base64; made when it is first needed.
    encoded: OnceLock<Arc<Encoded>>,
}

#[derive(Clone)]
struct Needle {
    plain: String,
    /// The same as characters.
    characters: Vec<char>,
    /// What Base64 makes of it, but for the characters that hold bits of what stands beside it.
    encoded: Vec<String>,
}

/// The work that is left for a text is used up.
struct TooMuch;

/// What may still be done for a text.
struct Steps(Cell<usize>);

impl Steps {
    fn of(text: &str) -> Self {
        Self(Cell::new(text.len().saturating_mul(STEPS_PER_BYTE).saturating_add(STEPS_MIN)))
    }

    fn take(&self, steps: usize) -> Result<(), TooMuch> {
        self.0.set(self.0.get().checked_sub(steps).ok_or(TooMuch)?);
        Ok(())
    }
}

/// Forms in Base64, and what finds the beginning of each.
struct Encoded {
    forms: Vec<String>,
    finder: Option<AhoCorasick>,
}

impl Encoded {
    fn new(needles: &[Needle]) -> Result<Self, BuildError> {
        let forms: Vec<String> = needles.iter().flat_map(|needle| needle.encoded.iter().cloned()).collect();
        // Base64 is ASCII: there is a character at every byte.
        let anchors = forms.iter().map(|form| &form[..form.len().min(ANCHOR_LENGTH_MAX)]);
        let finder = if forms.is_empty() { None } else { Some(AhoCorasick::new(anchors)?) };
        Ok(Self { forms, finder })
    }

    /// Adds where forms stand in a text.
    fn find(&self, text: &str, steps: &Steps, found: &mut Vec<(usize, usize)>) -> Result<(), TooMuch> {
        let Some(finder) = &self.finder else { return Ok(()) };
        let mut after: Vec<usize> = vec![0; self.forms.len()];
        for hit in finder.find_overlapping_iter(text) {
            let (number, start) = (hit.pattern().as_usize(), hit.start());
            let form = &self.forms[number];
            steps.take(1 + form.len() / 16)?;
            if start >= after[number] && text.as_bytes()[start..].starts_with(form.as_bytes()) {
                after[number] = start + form.len();
                found.push((start, start + form.len()));
            }
        }
        Ok(())
    }
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
        Self { plain: secret.to_owned(), characters: secret.chars().collect(), encoded }
    }

    /// Where it ends that begins here; also one that is cut off.
    fn end_at(&self, text: &[u8], start: usize, steps: &Steps) -> Result<Option<usize>, TooMuch> {
        // A `%` may be itself or begin a code, so there may be more than one way on.
        let (mut ends, mut next) = (vec![start], Vec::new());
        for (count, character) in self.characters.iter().enumerate() {
            next.clear();
            for at in &ends {
                steps.take(1)?;
                after(text, *at, *character, &mut next);
            }
            if next.is_empty() {
                let is_cut = |at: &usize| {
                    let rest = &text[*at..];
                    rest.is_empty() || rest.starts_with("…".as_bytes()) || rest.starts_with(b"...")
                };
                return Ok(ends.into_iter().rfind(is_cut).filter(|_| count >= CUT_LENGTH_MIN));
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut ends, &mut next);
        }
        Ok(ends.pop())
    }
}

/// Adds where values stand in a text, as they are or with some characters written otherwise, and one that is cut off.
fn find_spelled(needles: &[Needle], text: &str, steps: &Steps, found: &mut Vec<(usize, usize)>) -> Result<(), TooMuch> {
    let mut by_first: Vec<Vec<usize>> = vec![Vec::new(); 256];
    for (number, needle) in needles.iter().enumerate() {
        if let Some(first) = needle.plain.bytes().next() {
            by_first[usize::from(first)].push(number);
        }
    }
    let all: Vec<usize> = (0..needles.len()).collect();
    let bytes = text.as_bytes();
    let mut past: Vec<usize> = vec![0; needles.len()];
    for (at, byte) in bytes.iter().enumerate() {
        // A character may begin with a code, or with an escape.
        let candidates = match byte {
            b'%' | b'\\' | b'+' => &all,
            other => &by_first[usize::from(*other)],
        };
        for number in candidates {
            if at < past[*number] {
                continue;
            }
            if let Some(end) = needles[*number].end_at(bytes, at, steps)?
                && text.is_char_boundary(at)
                && text.is_char_boundary(end)
            {
                past[*number] = end;
                found.push((at, end));
            }
        }
    }
    Ok(())
}

/// The text with `***` in these places; those that overlap are one. `None` if there are none.
fn without_places(text: &str, mut places: Vec<(usize, usize)>) -> Option<String> {
    places.sort_unstable();
    let mut places = places.into_iter();
    let (mut start, mut end) = places.next()?;
    let (mut kept, mut from) = (String::new(), 0);
    for (next_start, next_end) in places {
        if next_start < end {
            end = end.max(next_end);
            continue;
        }
        kept.push_str(&text[from..start]);
        kept.push_str(SHOWN_INSTEAD);
        (from, start, end) = (end, next_start, next_end);
    }
    kept.push_str(&text[from..start]);
    kept.push_str(SHOWN_INSTEAD);
    kept.push_str(&text[end..]);
    Some(kept)
}

/// Adds where a character ends that begins here, in each of the ways in which it may be written.
fn after(text: &[u8], at: usize, character: char, ends: &mut Vec<usize>) {
    let mut buffer = [0; 4];
    let plain = character.encode_utf8(&mut buffer).as_bytes();
    ends.extend(text[at..].starts_with(plain).then_some(at + plain.len()));
    match text.get(at) {
        Some(b'+') => ends.extend((character == ' ').then_some(at + 1)),
        Some(b'%') => ends.extend(percent_encoded(text, at, plain)),
        Some(b'\\') => {
            ends.extend(LEVELS.iter().filter_map(|level| escaped(text, at, character, *level)));
            ends.extend(LEVELS.iter().filter_map(|level| numbered(text, at, character, *level)));
        }
        _ => {}
    }
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
    fn of<'s>(values: impl IntoIterator<Item = &'s Secret>) -> Self {
        let mut secrets = Self::default();
        values.into_iter().for_each(|value| secrets.add(value.expose()));
        secrets
    }

    pub(crate) fn add(&mut self, secret: &str) {
        // Files end in a line break, which no header and no form keeps.
        for secret in [secret, secret.trim()] {
            if secret.len() >= SECRET_LENGTH_MIN && !self.needles.iter().any(|known| known.plain == secret) {
                self.needles.push(Needle::new(secret));
                self.encoded = OnceLock::new();
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.needles.is_empty()
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
        if self.needles.is_empty() {
            return None;
        }
        match self.places(text) {
            Ok(places) => without_places(text, places),
            Err(TooMuch) => Some(SHOWN_INSTEAD.to_owned()),
        }
    }

    fn places(&self, text: &str) -> Result<Vec<(usize, usize)>, TooMuch> {
        let (steps, mut found) = (Steps::of(text), Vec::new());
        if self.encoded.get().is_none() {
            _ = self.encoded.set(Arc::new(Encoded::new(&self.needles).map_err(|_| TooMuch)?));
        }
        if let Some(encoded) = self.encoded.get() {
            encoded.find(text, &steps, &mut found)?;
        }
        find_spelled(&self.needles, text, &steps, &mut found)?;
        Ok(found)
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
                if self.needles.iter().any(|it| it.plain == text) {
                    SHOWN_INSTEAD.into()
                } else {
                    Value::Number(number)
                }
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
    fn values_that_overlap_are_all_taken_out() {
        let hidden = secrets(&["xabc", "abcdefgh"]);
        assert_eq!(hidden.redact("-xabcdefgh-xabc-"), "-***-***-");
        assert_eq!(hidden.redact("xabcxabc"), "******");
    }

    #[test]
    fn the_work_is_limited_by_the_text() {
        // Each place of the text begins as the value does, for tens of thousands of characters.
        let near = format!("{}b", "a".repeat(64 * 1024));
        assert_eq!(secrets(&[&near]).redact(&"a".repeat(1 << 20)), "***");
        let percent = secrets(&[&"%25".repeat(20_000)]).redact(&"%25%2525".repeat(100_000));
        assert!(!percent.contains("%25%25%25"), "{}", percent.len());
        let slashes = secrets(&[&format!("{}x", "\\".repeat(60_000))]).redact(&"\\".repeat(1 << 20));
        assert!(slashes.len() < 100, "{}", slashes.len());
        // Hundreds of values in an ordinary text are none of that.
        let values: Vec<String> =
            (0..128_u32).map(|n| format!("{:x}-{n}-value", n.wrapping_mul(2_654_435_761))).collect();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let text =
            format!("{} {} ", json!({"a": "some \"quoted\" text", "b": [1.5, "c%20d+e"]}), values[77]).repeat(10_000);
        let shown = secrets(&values).redact(&text);
        assert_eq!((shown.matches("***").count(), shown.contains("some")), (10_000, true));
    }

    #[test]
    fn the_longer_goes_first_the_shortest_not_at_all_and_a_line_break_at_the_end_does_not_hide_it() {
        let hidden = secrets(&["abcd", "abcdefgh", "no", "from a file\n"]);
        assert_eq!(hidden.redact("abcdefgh abcd no from a file."), "*** *** no ***.");
        assert!(secrets(&["", "abc"]).is_empty());
    }
}
