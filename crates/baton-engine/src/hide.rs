//! Takes a callback token out of what comes back from whoever it was handed to, before that is recorded.
//!
//! A service that repeats its request in its response, or in its answer, is common, and history is read by many. In the
//! token's place stands its fingerprint. The token is found as it is and in base64, wherever in the encoded text it begins:
//! the raw form of a response is base64, and so are bytes in JSON. It is found cut off too: what an activity says of a long
//! response ends somewhere.
//!
//! # Deliberately absent
//! Other encodings, and tokens of other waits: a service that hides a token on purpose holds it anyway.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD},
};
use baton_execution::{Fault, Outcome, replace_text};
use serde_json::Value;

/// Characters by which a form of a token is told from anything else: enough of them are the token's own.
const START: usize = 16;

/// One token and its forms.
pub(crate) struct Hidden {
    plain: String,
    /// What base64 makes of it when it begins at the first, second and third byte of a group.
    encoded: [String; 3],
    instead: String,
}

impl Hidden {
    /// `None` for a token that is not plain text: ours are.
    pub(crate) fn new(token: &[u8]) -> Option<Self> {
        let plain = std::str::from_utf8(token).ok().filter(|text| text.is_ascii() && !text.is_empty())?.to_owned();
        let encoded = [0, 1, 2].map(|before| {
            let whole = BASE64_STANDARD_NO_PAD.encode([&[0; 2][..before], token].concat());
            // The first and the last characters hold bits of what stands beside.
            whole[(before * 8).div_ceil(6)..(before + token.len()) * 8 / 6].to_owned()
        });
        Some(Self { plain, encoded, instead: format!("callback token {}", baton_types::fingerprint(token)) })
    }

    /// In an outcome: all of its texts.
    pub(crate) fn outcome(&self, outcome: &mut Outcome) {
        match outcome {
            Outcome::Completed(output) => self.value(output),
            Outcome::Failed(fault) => self.fault(fault),
            Outcome::Cancelled { reason } => self.text(reason),
        }
    }

    pub(crate) fn fault(&self, fault: &mut Fault) {
        self.text(&mut fault.kind);
        for text in [&mut fault.title, &mut fault.detail, &mut fault.instance].into_iter().flatten() {
            self.text(text);
        }
        fault.data.iter_mut().for_each(|data| self.value(data));
    }

    pub(crate) fn value(&self, value: &mut Value) {
        replace_text(value, &self.plain, &self.instead);
        self.strings(value);
    }

    /// Base64 in the strings of a value. A key is a name; nobody encodes one.
    fn strings(&self, value: &mut Value) {
        match value {
            Value::String(text) => self.text(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.strings(item)),
            Value::Object(fields) => fields.values_mut().for_each(|field| self.strings(field)),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    fn text(&self, text: &mut String) {
        // A text that is base64 as a whole stays it.
        if self.encoded.iter().any(|form| text.contains(form))
            && let Ok(decoded) = BASE64_STANDARD.decode(text.as_bytes())
        {
            *text = BASE64_STANDARD.encode(replaced(&decoded, self.plain.as_bytes(), self.instead.as_bytes()));
        }
        for form in [&self.plain].into_iter().chain(&self.encoded) {
            self.cut_out(text, form);
        }
    }

    /// Replaces a form, or as much of its beginning as is there.
    fn cut_out(&self, text: &mut String, form: &str) {
        let start = &form[..START.min(form.len())];
        if start.is_empty() || !text.contains(start) {
            return;
        }
        let mut all = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while let Some(at) = rest.find(start) {
            let length = rest[at..].bytes().zip(form.bytes()).take_while(|(found, wanted)| found == wanted).count();
            all.push_str(&rest[..at]);
            all.push_str(&self.instead);
            rest = &rest[at + length..];
        }
        all.push_str(rest);
        *text = all;
    }
}

fn replaced(bytes: &[u8], part: &[u8], instead: &[u8]) -> Vec<u8> {
    let mut all = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(part.len().max(1)).position(|window| window == part) {
        all.extend_from_slice(&rest[..at]);
        all.extend_from_slice(instead);
        rest = &rest[at + part.len()..];
    }
    all.extend_from_slice(rest);
    all
}

#[cfg(test)]
mod tests {
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;
    use baton_execution::fault_type;
    use serde_json::json;

    use super::*;

    const TOKEN: &str = "baton1.jZ8Ms5IEGwth7JJq1gnbIc43mTyrh9qfF2Snl128jNoAMujFMD2i5Ob1TaTf6Wcz7DJ-4YBoDUQYJ0ybCTg";

    fn hidden() -> Hidden {
        Hidden::new(TOKEN.as_bytes()).unwrap()
    }

    #[test]
    fn it_is_found_as_it_is_and_in_base64_wherever_it_begins() {
        let hidden = hidden();
        let mut forms = vec![TOKEN.to_owned(), format!("your token: {TOKEN}!")];
        for before in ["", "a", "ab", "{\"token\":\"", "{\"tokens\":[\""] {
            let body = format!("{before}{TOKEN}\"}}");
            forms.extend([
                BASE64_STANDARD.encode(&body),
                BASE64_URL_SAFE_NO_PAD.encode(&body),
                format!("<{}>", BASE64_STANDARD.encode(&body)),
            ]);
        }
        for form in forms {
            let mut text = form.clone();
            hidden.text(&mut text);
            assert_ne!(text, form);
            let decoded =
                BASE64_STANDARD.decode(&text).map(|bytes| String::from_utf8(bytes).unwrap()).unwrap_or_default();
            assert!(text.contains("callback token ") || decoded.contains("callback token "), "{text}");
            assert!(
                [&text, &decoded].iter().all(|text| !text.contains(&TOKEN[8..40])
                    && hidden.encoded.iter().all(|form| !text.contains(&form[..40]))),
                "{form}: {text} {decoded}"
            );
        }
    }

    #[test]
    fn one_that_was_cut_off_is_found_too() {
        let hidden = hidden();
        for (whole, cut) in [
            (TOKEN.to_owned(), 20),
            (TOKEN.to_owned(), 90),
            (BASE64_STANDARD.encode(TOKEN), 30),
            (BASE64_STANDARD.encode(format!("a{TOKEN}")), 60),
        ] {
            let mut text = format!("answered 500: {}", &whole[..cut]);
            hidden.text(&mut text);
            assert!(text.ends_with(&hidden.instead), "{text}");
            text.push_str(" and so on");
            let same = text.clone();
            hidden.text(&mut text);
            assert_eq!(text, same);
        }
    }

    #[test]
    fn every_text_of_an_outcome_is_looked_through_and_nothing_else_is_changed() {
        let hidden = hidden();
        let mut completed = Outcome::Completed(json!({"a": [TOKEN, 5, "b"], TOKEN: {"c": null}}));
        hidden.outcome(&mut completed);
        assert_eq!(completed, Outcome::Completed(json!({"a": [hidden.instead, 5, "b"], &hidden.instead: {"c": null}})));
        let mut fault = Fault::new(fault_type::RUNTIME, 500, format!("no {TOKEN}")).with_data(json!([TOKEN]));
        fault.title = Some(TOKEN.to_owned());
        hidden.fault(&mut fault);
        assert!(!format!("{fault:?}").contains(TOKEN), "{fault:?}");
        let mut cancelled = Outcome::Cancelled { reason: TOKEN.to_owned() };
        hidden.outcome(&mut cancelled);
        assert_eq!(cancelled, Outcome::Cancelled { reason: hidden.instead.clone() });
        let other = json!({"text": "YmFzZTY0", "n": 1.5, "b": true});
        let mut same = other.clone();
        hidden.value(&mut same);
        assert_eq!(same, other);
    }
}
