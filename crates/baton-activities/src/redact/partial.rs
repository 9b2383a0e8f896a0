//! Values of secrets in a text that is not whole yet: where one may have begun that ends in what is still to come.

use super::{CUT_LENGTH_MIN, LEVELS, Needle, Secrets, Steps, TooMuch, after};

/// Longest form of one character that begins with a backslash: two escapes of JSON within JSON within JSON.
const ESCAPE_LENGTH_MAX: usize = 2 * (1 + 4 + (1 << (LEVELS.len() - 1)));
/// And with a `%`: four bytes, each with two digits.
const PERCENT_LENGTH_MAX: usize = 12;

impl Secrets {
    /// How many bytes of a text can be shown whatever follows it: no value begins in them that ends later. `None` if that would
    /// take more work than a text of its length is worth.
    pub(crate) fn settled(&self, text: &str) -> Option<usize> {
        if self.needles.is_empty() {
            return Some(text.len());
        }
        let steps = Steps::of(text);
        let mut open = text.len();
        for needle in &self.needles {
            open = open.min(needle.open_from(text, &steps).ok()?);
        }
        let places = self.places(text).ok()?;
        // What is found may reach into what is open, and is then shown with it.
        while let Some((start, _)) = places.iter().filter(|(start, end)| *start < open && open < *end).min() {
            open = *start;
        }
        Some(open)
    }
}

impl Needle {
    /// Where it may begin in the text and end after it; the text's length if nowhere.
    fn open_from(&self, text: &str, steps: &Steps) -> Result<usize, TooMuch> {
        let bytes = text.as_bytes();
        let first = self.plain.as_bytes().first().copied().unwrap_or_default();
        let mut open = text.len();
        for (at, byte) in bytes.iter().enumerate() {
            let may_begin = *byte == first || matches!(byte, b'%' | b'\\' | b'+');
            if may_begin && text.is_char_boundary(at) && self.is_open_at(bytes, at, steps)? {
                open = at;
                break;
            }
        }
        for form in &self.encoded {
            let longest = form.len().saturating_sub(1).min(text.len());
            steps.take(longest)?;
            // Base64 is ASCII: any part of a form is a text.
            let begun = (1..=longest).rev().find(|length| text.ends_with(&form[..*length]));
            open = open.min(text.len() - begun.unwrap_or(0));
        }
        Ok(open)
    }

    /// Whether it begins here and the text ends before it does.
    fn is_open_at(&self, text: &[u8], start: usize, steps: &Steps) -> Result<bool, TooMuch> {
        let (mut ends, mut next) = (vec![start], Vec::new());
        for (count, character) in self.characters.iter().enumerate() {
            next.clear();
            for at in &ends {
                steps.take(1)?;
                let rest = &text[*at..];
                if rest.is_empty() || is_part_of_code(rest) {
                    return Ok(true);
                }
                // It may be shown cut off, with dots after it of which the first are there.
                if count >= CUT_LENGTH_MIN && (rest == b"." || rest == b"..") {
                    return Ok(true);
                }
                after(text, *at, *character, &mut next);
            }
            if next.is_empty() {
                return Ok(false);
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut ends, &mut next);
        }
        Ok(false)
    }
}

/// Whether this may be the beginning of a character that is written as a code, or with an escape.
fn is_part_of_code(rest: &[u8]) -> bool {
    match rest.first() {
        Some(b'%') => {
            let fits = |(at, byte): (usize, &u8)| if at % 3 == 0 { *byte == b'%' } else { byte.is_ascii_hexdigit() };
            rest.len() < PERCENT_LENGTH_MAX && rest.iter().enumerate().all(fits)
        }
        Some(b'\\') => {
            let fits = |byte: &u8| matches!(byte, b'\\' | b'u') || byte.is_ascii_hexdigit();
            rest.len() < ESCAPE_LENGTH_MAX && rest.iter().all(fits)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};

    use super::*;

    /// A text in pieces as it would be shown, each as soon as it can be.
    fn shown(hidden: &Secrets, pieces: &[&str]) -> String {
        let (mut held, mut shown) = (String::new(), String::new());
        for piece in pieces {
            held.push_str(piece);
            let settled = hidden.settled(&held).unwrap();
            shown.push_str(&hidden.redact(&held[..settled]));
            held.drain(..settled);
        }
        shown + &hidden.redact(&held)
    }

    #[test]
    fn a_value_is_found_however_the_text_is_cut() {
        let secret = "p/ä +\"%25\\s\n💥-and-more";
        let mut hidden = Secrets::default();
        hidden.add(secret);
        let json = serde_json::to_string(secret).unwrap();
        let nested = serde_json::to_string(&json).unwrap();
        let percent = secret.bytes().fold(String::new(), |text, byte| format!("{text}%{byte:02x}"));
        let unicode = secret.encode_utf16().fold(String::new(), |text, unit| format!("{text}\\u{unit:04X}"));
        let base64 = BASE64_STANDARD.encode(format!("user:{secret}"));
        for form in [secret, &json[1..json.len() - 1], &nested[3..nested.len() - 3], &percent, &unicode, &base64] {
            let text = format!("before 100% p/ {form}. after");
            let whole = hidden.redact(&text);
            assert!(whole.contains("***"), "{form}");
            let characters: Vec<String> = text.chars().map(String::from).collect();
            for size in [1, 2, 3, 5, 7, 11] {
                let pieces: Vec<String> = characters.chunks(size).map(<[String]>::concat).collect();
                let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
                assert_eq!(shown(&hidden, &pieces), whole, "{form} in pieces of {size}");
            }
        }
    }

    #[test]
    fn one_that_is_cut_off_stays_hidden_when_the_dots_come_one_by_one() {
        let mut hidden = Secrets::default();
        hidden.add("correct horse battery staple");
        for text in ["it is correct horse bat...", "it is correct horse bat"] {
            let pieces: Vec<String> = text.chars().map(String::from).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            assert!(!shown(&hidden, &pieces).contains("correct horse"), "{text}");
        }
    }

    #[test]
    fn ordinary_text_is_not_held_back() {
        let mut hidden = Secrets::default();
        hidden.add("sk-0123456789abcdef");
        for text in ["Hello, world.", "100% sure about it", "{\"a\": [1, 2]} ok!"] {
            assert_eq!(hidden.settled(text), Some(text.len()), "{text}");
        }
        assert_eq!(hidden.settled("the key is sk-0123"), Some("the key is ".len()));
        assert_eq!(Secrets::default().settled("anything"), Some(8));
    }

    #[test]
    fn values_that_overlap_are_held_back_together() {
        let mut hidden = Secrets::default();
        hidden.add("xabcd");
        hidden.add("cdefgh");
        assert_eq!(hidden.settled("-xabcd"), Some(1));
        assert_eq!(shown(&hidden, &["-xabcd", "efgh-"]), "-***-");
        assert_eq!(shown(&hidden, &["-xabcd", "-"]), "-***-");
    }
}
