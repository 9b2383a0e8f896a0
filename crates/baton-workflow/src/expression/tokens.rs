//! Between the lexer and the parser of the interpreter: what jq's grammar has and the parser reads otherwise.
//!
//! - A term in parentheses is marked ([`PARENTHESES`]), so that [`desugar`](super::desugar) knows which operators the
//!   author has put together and can give the others the precedence that they have in jq.
//! - The alternatives of a destructuring (`[$a] ?// $a`) become one pattern, an array that ends with [`ALTERNATIVES`].
//! - `{$a: pattern}` becomes `{$a, a: pattern}`.
//! - `.5` is a number, and two escapes of a string may be one character (`"\ud83d\ude00"`).
//!
//! # Invariants
//! - The names that are put in begin with `!`, which no expression can spell.

use std::borrow::Cow;

use jaq_core::load::lex::{StrPart, Tok, Token};

type Tokens<'s> = Vec<Token<&'s str>>;

/// The filter that a term in parentheses becomes an argument of.
pub(super) const PARENTHESES: &str = "!parentheses";
/// The last variable of an array pattern whose other parts are alternatives.
pub(super) const ALTERNATIVES: &str = "$!alternatives";

/// Words behind which a term begins.
const BEFORE_TERMS: [&str; 10] = ["and", "or", "if", "then", "elif", "else", "try", "catch", "reduce", "foreach"];

/// The text, with each character that is spelled as two escapes spelled as itself.
pub(super) fn join_escapes(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u") {
        return Cow::Borrowed(text);
    }
    let (mut joined, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(place) = rest.find('\\') {
        let (before, escape) = rest.split_at(place);
        joined.push_str(before);
        let pair = unit(escape).zip(escape.get(6..).and_then(unit));
        let character = pair.and_then(|pair| char::decode_utf16([pair.0, pair.1]).next()?.ok());
        let length = match character {
            Some(character) if u32::from(character) > 0xffff => {
                joined.push(character);
                12
            }
            // The escape and what it escapes.
            _ => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        if length < 12 {
            joined.push_str(&escape[..length]);
        }
        rest = &escape[length..];
    }
    joined.push_str(rest);
    Cow::Owned(joined)
}

/// The code unit that `\uXXXX` at the beginning of a text stands for.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
}

/// Tokens as the parser reads them, from tokens that the lexer has made of `text`.
pub(super) fn prepare<'s>(text: &'s str, tokens: Tokens<'s>) -> Tokens<'s> {
    Preparation { text }.sequence(tokens, Within::Term)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    Term,
    /// The construction of an object, in which `(key): value` is no term in parentheses.
    Object,
}

struct Preparation<'s> {
    text: &'s str,
}

impl<'s> Preparation<'s> {
    fn sequence(&self, tokens: Tokens<'s>, within: Within) -> Tokens<'s> {
        let mut out: Tokens<'s> = Vec::with_capacity(tokens.len());
        let mut rest = tokens.into_iter().peekable();
        // Whether a term has just ended, so that parentheses are those of its arguments.
        let mut ended = false;
        let mut is_key = within == Within::Object;
        while let Some(Token(word, kind)) = rest.next() {
            let was_key = std::mem::replace(&mut is_key, within == Within::Object && word == ",");
            let (begins, ends) = (!ended && !was_key, ends_term(word, &kind) || was_key);
            ended = ends;
            let token = match kind {
                Tok::Word if word == "as" && !was_key => {
                    out.push(Token(word, Tok::Word));
                    self.patterns(&mut out, &mut rest);
                    ended = true;
                    continue;
                }
                Tok::Sym if word == "." && begins => {
                    let number = rest.next_if(|Token(digits, kind)| {
                        matches!(kind, Tok::Num) && self.place(digits) == self.place(word) + 1
                    });
                    match number {
                        Some(Token(digits, _)) => {
                            let start = self.place(word);
                            Token(&self.text[start..=start + digits.len()], Tok::Num)
                        }
                        None => Token(word, Tok::Sym),
                    }
                }
                Tok::Block(inner) => {
                    if begins && word.starts_with('(') {
                        out.push(Token(PARENTHESES, Tok::Word));
                    }
                    let within = if word.starts_with('{') { Within::Object } else { Within::Term };
                    Token(word, Tok::Block(self.sequence(inner, within)))
                }
                Tok::Str(parts) => self.string(word, parts),
                other => Token(word, other),
            };
            out.push(token);
        }
        out
    }

    /// Where a part of the text begins.
    fn place(&self, part: &str) -> usize {
        (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize)
    }

    fn string(&self, word: &'s str, parts: Vec<StrPart<&'s str, Token<&'s str>>>) -> Token<&'s str> {
        let parts = parts.into_iter().map(|part| match part {
            StrPart::Term(Token(word, Tok::Block(inner))) => {
                StrPart::Term(Token(word, Tok::Block(self.sequence(inner, Within::Term))))
            }
            other => other,
        });
        Token(word, Tok::Str(parts.collect()))
    }

    /// Puts out the pattern that comes next, with its alternatives.
    fn patterns(&self, out: &mut Tokens<'s>, rest: &mut std::iter::Peekable<std::vec::IntoIter<Token<&'s str>>>) {
        let Some(first) = rest.next() else { return };
        let mut alternatives = vec![self.pattern(first)];
        while rest.next_if(|Token(word, _)| *word == "?").is_some() {
            // Whatever else follows a `?` here is for the parser to refuse.
            if rest.next_if(|Token(word, _)| *word == "//").is_none() {
                out.push(Token("?", Tok::Sym));
                break;
            }
            alternatives.push(Token(",", Tok::Sym));
            alternatives.extend(rest.next().map(|next| self.pattern(next)));
        }
        if alternatives.len() == 1 {
            out.append(&mut alternatives);
        } else {
            alternatives.extend([Token(",", Tok::Sym), Token(ALTERNATIVES, Tok::Var), Token("]", Tok::Sym)]);
            out.push(Token("[", Tok::Block(alternatives)));
        }
    }

    fn pattern(&self, token: Token<&'s str>) -> Token<&'s str> {
        let Token(word, Tok::Block(inner)) = token else { return token };
        let mut out: Tokens<'s> = Vec::with_capacity(inner.len());
        let mut rest = inner.into_iter().peekable();
        let mut is_key = word.starts_with('{');
        while let Some(token) = rest.next() {
            let next = match token {
                Token(name, Tok::Var) if is_key => {
                    let is_followed = rest.peek().is_some_and(|Token(word, _)| *word == ":");
                    out.push(Token(name, Tok::Var));
                    if is_followed {
                        out.extend([Token(",", Tok::Sym), Token(&name[1..], Tok::Word)]);
                    }
                    is_key = false;
                    continue;
                }
                Token(word, Tok::Block(inner)) if word.starts_with('(') => {
                    Token(word, Tok::Block(self.sequence(inner, Within::Term)))
                }
                Token(word, Tok::Str(parts)) => self.string(word, parts),
                other => self.pattern(other),
            };
            is_key = next.0 == "," && word.starts_with('{');
            out.push(next);
        }
        Token(word, Tok::Block(out))
    }
}

/// Whether a term may end with this token.
fn ends_term(word: &str, kind: &Tok<&str>) -> bool {
    match kind {
        Tok::Word => !BEFORE_TERMS.contains(&word),
        Tok::Sym => word.starts_with('.') || word == "?",
        Tok::Var | Tok::Fmt | Tok::Num | Tok::Str(_) | Tok::Block(_) => true,
    }
}
