//! Regular expressions in time that is linear in the text, with a limit on the size of the compiled expression.
//!
//! One search is linear. Many searches in one text need not be: each may look at the whole rest of the text before it
//! settles for a short match (`x*y|` in a text of `x`). What a search has looked at behind its match is charged.
//!
//! # Deliberately absent
//! Look-around and back-references, which no linear matcher has.

use jaq_core::{Bind, Cv, Error, Exn, Native, ValR, ValX, box_iter::box_once, native};
use regex::{Captures, Regex, RegexBuilder};
use regex_automata::{
    Anchored, Input,
    hybrid::dfa::{Cache, DFA},
    nfa::thompson,
    util::syntax,
};

use super::{
    filters::{Filters, Kind, key},
    meter::{self, Limit, SIZE_MAX},
    operators::{charge, stopped},
    value::V,
};

/// Bytes of a compiled expression.
const COMPILED_MAX: usize = 1024 * 1024;
/// Searches in one text that are not looked after.
const FREE_SEARCHES: usize = 16;
/// Steps that a compilation costs: it is much more work than its text is long.
const COMPILE_STEPS: u64 = 500;

/// `_match(regex; flags)`: the matches, as `match` tells them. `_split(regex; flags)`: the texts between them.
/// `sub(regex; f; flags)`: the texts with the results of `f` in the places of the matches.
pub(super) fn all() -> Filters {
    let substitution = [Bind::Var(()), Bind::Fun(()), Bind::Var(())].into();
    vec![
        ("_match", native::v(2), Native::new(|cv| native::bome(matches(cv)))),
        ("_split", native::v(2), Native::new(|cv| native::bome(split(cv)))),
        (
            "sub",
            substitution,
            Native::new(|cv| match substitute(cv) {
                Ok(texts) => Box::new(texts.into_iter().map(Ok)),
                Err(error) => box_once(Err(error)),
            }),
        ),
    ]
}

fn matches(mut cv: Cv<'_, Kind>) -> ValR<V> {
    let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
    let search = Search::new(&cv.1, &pattern, &flags)?;
    let mut places = Places::new(search.text);
    Ok(V::array(search.run()?.iter().map(|found| search.describe(found, &mut places)).collect()))
}

fn split(mut cv: Cv<'_, Kind>) -> ValR<V> {
    let (flags, pattern) = (cv.0.pop_var(), cv.0.pop_var());
    let search = Search::new(&cv.1, &pattern, &flags)?;
    let (mut parts, mut end) = (Vec::new(), 0);
    for found in search.run()?.iter().filter_map(|captures| captures.get(0)) {
        parts.push(V::string(&search.text[end..found.start()]));
        end = found.end();
    }
    parts.push(V::string(&search.text[end..]));
    Ok(V::array(parts))
}

fn substitute(mut cv: Cv<'_, Kind>) -> ValX<'_, Vec<V>, V> {
    let flags = cv.0.pop_var();
    let (replacement, context) = cv.0.pop_fun();
    let pattern = cv.0.pop_var();
    let search = Search::new(&cv.1, &pattern, &flags)?;
    let (mut texts, mut end) = (Vec::<String>::new(), 0);
    for captures in search.run()? {
        let Some(whole) = captures.get(0) else { continue };
        let gap = &search.text[end..whole.start()];
        end = whole.end();
        for (index, new) in replacement.run((context.clone(), search.named(&captures))).enumerate() {
            let new = new?;
            let Some(part) = new.as_str() else {
                return Err(Exn::from(Error::str(format_args!("a match can be replaced by a string, not by {new}"))));
            };
            if texts.len() <= index {
                texts.push(String::new());
            }
            let text = &mut texts[index];
            if text.len() + gap.len() + part.len() > SIZE_MAX {
                meter::pass(Limit::Size);
            }
            if !(meter::step(1 + ((gap.len() + part.len()) / 64) as u64) && meter::bytes(gap.len() + part.len())) {
                return Err(Exn::from(stopped()));
            }
            text.push_str(gap);
            text.push_str(part);
        }
    }
    if texts.is_empty() {
        return Ok(vec![cv.1.clone()]);
    }
    let rest = &search.text[end..];
    Ok(texts.into_iter().map(|text| V::string(text + rest)).collect())
}

/// A regular expression and the text in which it is looked for.
struct Search<'t> {
    text: &'t str,
    regex: Regex,
    syntax: syntax::Config,
    is_global: bool,
    skips_empty: bool,
}

impl<'t> Search<'t> {
    fn new(value: &'t V, pattern: &V, flags: &V) -> Result<Self, Error<V>> {
        let text = value.as_str().ok_or_else(|| Error::typ(value.clone(), "string"))?;
        let pattern = pattern.as_str().ok_or_else(|| Error::typ(pattern.clone(), "string"))?;
        // Matching takes time in proportion to both lengths at worst.
        let cost = text.len().saturating_mul(pattern.len().min(64) + 1) / 64;
        if !meter::step(COMPILE_STEPS + cost as u64) {
            return Err(stopped());
        }
        let mut syntax = syntax::Config::new();
        let (mut is_global, mut skips_empty) = (false, false);
        let words = match flags {
            V::Null => "",
            other => other.as_str().ok_or_else(|| Error::typ(flags.clone(), "string"))?,
        };
        for flag in words.chars() {
            match flag {
                'g' => is_global = true,
                'n' => skips_empty = true,
                'i' => syntax = syntax.case_insensitive(true),
                'x' => syntax = syntax.ignore_whitespace(true),
                'm' | 'p' => syntax = syntax.dot_matches_new_line(true),
                // The ends of lines are no ends of the text, as without it.
                's' => {}
                'l' => syntax = syntax.swap_greed(true),
                other => {
                    return Err(Error::str(format_args!(
                        "'{other}' is not a flag of regular expressions; flags are g, i, l, m, n, p, s and x"
                    )));
                }
            }
        }
        let shown: String = pattern.chars().take(80).collect();
        let regex = RegexBuilder::new(pattern)
            .size_limit(COMPILED_MAX)
            .dfa_size_limit(COMPILED_MAX)
            .case_insensitive(syntax.get_case_insensitive())
            .ignore_whitespace(syntax.get_ignore_whitespace())
            .dot_matches_new_line(syntax.get_dot_matches_new_line())
            .swap_greed(syntax.get_swap_greed())
            .build()
            .map_err(|error| {
                Error::str(format_args!("'{shown}' is not a regular expression: {}", last_line(&error)))
            })?;
        Ok(Self { text, regex, syntax, is_global, skips_empty })
    }

    /// The matches, one after the other; an empty one may come right behind another.
    fn run(&self) -> Result<Vec<Captures<'t>>, Error<V>> {
        let (mut found, mut start, mut searches) = (Vec::new(), 0, 0_usize);
        let mut ahead = None;
        let groups = self.regex.captures_len() as u64;
        while start <= self.text.len() {
            let Some(captures) = self.regex.captures_at(self.text, start) else { break };
            let Some(whole) = captures.get(0) else { break };
            let next = self.text[whole.end()..].chars().next().map_or(1, char::len_utf8);
            start = if whole.is_empty() { whole.end() + next } else { whole.end() };
            if !(meter::step(1 + groups) && meter::bytes(64 * captures.len())) {
                return Err(stopped());
            }
            searches += 1;
            if searches > FREE_SEARCHES {
                let looked_at =
                    ahead.get_or_insert_with(|| Ahead::new(&self.regex, self.syntax)).length(self.text, whole.start());
                charge(looked_at.saturating_sub(whole.len()))?;
            }
            if !(self.skips_empty && whole.is_empty()) {
                found.push(captures);
            }
            if !self.is_global {
                break;
            }
        }
        Ok(found)
    }

    fn describe(&self, captures: &Captures<'_>, places: &mut Places<'_>) -> V {
        let Some(whole) = captures.get(0) else { return V::Null };
        let place = places.characters_before(whole.start());
        let groups = captures.iter().zip(self.regex.capture_names()).skip(1).map(|(found, name)| {
            let (offset, length, text) = match found {
                // All groups of an empty match are as empty as it is.
                _ if whole.is_empty() => (V::from(place), 0, V::string("")),
                None => (V::Int(-1), 0, V::Null),
                Some(found) => {
                    let offset = V::from(places.characters_before(found.start()));
                    (offset, found.as_str().chars().count(), V::string(found.as_str()))
                }
            };
            let name = name.map_or(V::Null, V::string);
            fields([("offset", offset), ("length", V::from(length)), ("string", text), ("name", name)])
        });
        let groups = V::array(groups.collect());
        fields([
            ("offset", V::from(place)),
            ("length", V::from(whole.as_str().chars().count())),
            ("string", V::string(whole.as_str())),
            ("captures", groups),
        ])
    }

    /// What the groups that have names have found.
    fn named(&self, captures: &Captures<'_>) -> V {
        let is_empty = captures.get(0).is_none_or(|whole| whole.is_empty());
        let found = captures.iter().zip(self.regex.capture_names()).filter_map(|(found, name)| {
            let text = if is_empty { Some("") } else { found.map(|found| found.as_str()) };
            Some((key(name?), text.map_or(V::Null, V::string)))
        });
        V::object(found)
    }
}

/// Tells how far a search looks from where its match begins.
struct Ahead(Option<(DFA, Cache)>);

impl Ahead {
    fn new(regex: &Regex, syntax: syntax::Config) -> Self {
        let config =
            DFA::config().unicode_word_boundary(true).cache_capacity(COMPILED_MAX).skip_cache_capacity_check(true);
        let built = DFA::builder()
            .syntax(syntax)
            .thompson(thompson::Config::new().nfa_size_limit(Some(COMPILED_MAX)))
            .configure(config)
            .build(regex.as_str());
        Self(built.ok().map(|dfa| {
            let cache = dfa.create_cache();
            (dfa, cache)
        }))
    }

    /// Bytes after which nothing could change the match any more; where that is not known, the whole rest.
    fn length(&mut self, text: &str, start: usize) -> usize {
        let rest = text.len() - start;
        let Some((dfa, cache)) = &mut self.0 else { return rest };
        let input = Input::new(text).span(start..text.len()).anchored(Anchored::Yes);
        let Ok(mut state) = dfa.start_state_forward(cache, &input) else { return rest };
        for (length, byte) in text.as_bytes()[start..].iter().enumerate() {
            match dfa.next_state(cache, state, *byte) {
                Ok(next) if next.is_dead() => return length,
                Ok(next) if !next.is_quit() => state = next,
                Ok(_) | Err(_) => return rest,
            }
        }
        rest
    }
}

fn fields<const N: usize>(fields: [(&str, V); N]) -> V {
    V::object(fields.into_iter().map(|(name, value)| (key(name), value)))
}

/// The last line of the library's message; those before it draw the pattern.
fn last_line(error: &regex::Error) -> String {
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
            // A group may begin before the one that was told last: what lies between is as long as a match.
            self.characters -= self.text[byte..self.byte].chars().count();
        } else {
            self.characters += self.text[self.byte..byte].chars().count();
        }
        self.byte = byte;
        self.characters
    }
}
