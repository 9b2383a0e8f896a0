//! Regular expressions in time that is linear in the text, with a limit on the size of the compiled expression.
//!
//! # Deliberately absent
//! Look-around and back-references, which no linear matcher has.

use jaq_core::{Cv, DataT, Error, ValR};
use regex::{Regex, RegexBuilder};

use super::{filters::key, meter, value::V};

/// Bytes of a compiled expression.
const COMPILED_MAX: usize = 1024 * 1024;
/// Steps that a compilation costs: it is much more work than its text is long.
const COMPILE_STEPS: u64 = 500;

struct Flags {
    global: bool,
    skip_empty: bool,
}

/// `matches`, `split_matches` and `split_`: the texts between the matches, the matches, or both.
pub(super) fn run<D: for<'a> DataT<V<'a> = V>>(mut cv: Cv<'_, D>, between: bool, matches: bool) -> ValR<V> {
    let (flags, pattern, value) = (cv.0.pop_var(), cv.0.pop_var(), cv.1);
    let text = value.as_str().ok_or_else(|| Error::typ(value.clone(), "string"))?;
    let pattern = pattern.as_str().ok_or_else(|| Error::typ(pattern.clone(), "string"))?;
    // Matching takes time in proportion to both lengths at worst.
    let cost = text.len().saturating_mul(pattern.len().min(64) + 1) / 64;
    if !meter::step(COMPILE_STEPS + cost as u64) {
        return Err(Error::new(V::Null));
    }
    let (regex, flags) = compile(pattern, &flags)?;
    let names: Vec<Option<&str>> = regex.capture_names().collect();
    let (mut parts, mut places, mut end) = (Vec::new(), Places::new(text), 0);
    for captures in regex.captures_iter(text) {
        let Some(whole) = captures.get(0) else { continue };
        if flags.skip_empty && whole.as_str().is_empty() {
            continue;
        }
        if !meter::step(1 + names.len() as u64) {
            return Err(Error::new(V::Null));
        }
        if between {
            parts.push(V::string(&text[end..whole.start()]));
            end = whole.end();
        }
        if matches {
            let found = captures.iter().zip(&names).filter_map(|(found, name)| Some((found?, *name)));
            parts.push(found.map(|(found, name)| describe(found, name, &mut places)).collect());
        }
        if !flags.global {
            break;
        }
    }
    if between {
        parts.push(V::string(&text[end..]));
    }
    Ok(V::array(parts))
}

fn describe(found: regex::Match<'_>, name: Option<&str>, places: &mut Places<'_>) -> V {
    let fields = [
        ("offset", V::from(places.characters_before(found.start()))),
        ("length", V::from(found.as_str().chars().count())),
        ("string", V::string(found.as_str())),
    ];
    let name = name.map(|name| ("name", V::string(name)));
    V::object(fields.into_iter().chain(name).map(|(field, value)| (key(field), value)))
}

fn compile(pattern: &str, flags: &V) -> Result<(Regex, Flags), Error<V>> {
    let words = match flags {
        V::Null => "",
        other => other.as_str().ok_or_else(|| Error::typ(flags.clone(), "string"))?,
    };
    let mut builder = RegexBuilder::new(pattern);
    builder.size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX);
    let mut found = Flags { global: false, skip_empty: false };
    for flag in words.chars() {
        match flag {
            'g' => found.global = true,
            'n' => found.skip_empty = true,
            'i' => drop(builder.case_insensitive(true)),
            'm' => drop(builder.multi_line(true)),
            's' => drop(builder.dot_matches_new_line(true)),
            'p' => drop(builder.multi_line(true).dot_matches_new_line(true)),
            'l' => drop(builder.swap_greed(true)),
            'x' => drop(builder.ignore_whitespace(true)),
            other => {
                return Err(Error::str(format_args!(
                    "'{other}' is not a flag of regular expressions; flags are g, i, l, m, n, p, s and x"
                )));
            }
        }
    }
    let shown: String = pattern.chars().take(80).collect();
    let regex = builder
        .build()
        .map_err(|error| Error::str(format_args!("'{shown}' is not a regular expression: {}", first_line(&error))))?;
    Ok((regex, found))
}

/// The last line of the library's message; those before it draw the pattern.
fn first_line(error: &regex::Error) -> String {
    let text = error.to_string();
    text.lines().last().unwrap_or_default().trim_start_matches("error: ").chars().take(200).collect()
}

/// Counts characters up to places in a text, going on from the last place.
struct Places<'t> {
    text: &'t str,
    byte: usize,
    characters: usize,
}

impl<'t> Places<'t> {
    fn new(text: &'t str) -> Self {
        Self { text, byte: 0, characters: 0 }
    }

    fn characters_before(&mut self, byte: usize) -> usize {
        if byte < self.byte {
            // A group may begin before the one that was told last.
            *self = Self::new(self.text);
        }
        self.characters += self.text[self.byte..byte].chars().count();
        self.byte = byte;
        self.characters
    }
}
