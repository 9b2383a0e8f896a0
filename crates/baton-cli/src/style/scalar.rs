//! How a single value is written: plain where that is safe, else in single quotes, else in double ones.

use std::fmt::Write as _;

use granit_parser::ScalarStyle;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Within {
    Block,
    /// Between `{}` or `[]`, where commas and brackets mean something.
    Flow,
}

/// A value on one line.
pub(super) fn one_line(text: &str, style: ScalarStyle, within: Within) -> String {
    let is_text = style != ScalarStyle::Plain;
    // What is plain already means what it means: a number, a word, a text.
    let may_be_plain = !is_text || !means_something_else(text);
    if may_be_plain && is_plain(text, within) {
        return text.to_owned();
    }
    let is_printable = text.chars().all(|c| !c.is_control() && c != '\u{feff}');
    if is_printable { format!("'{}'", text.replace('\'', "''")) } else { in_double_quotes(text) }
}

/// Whether a text of several lines can be written as a literal block.
pub(super) fn is_block(text: &str) -> bool {
    let body = text.trim_end_matches('\n');
    body.contains('\n')
        && !body.starts_with([' ', '\n', '\t'])
        && body.lines().all(|line| !line.ends_with([' ', '\t']))
        && body.chars().all(|c| c == '\n' || c == '\t' || !c.is_control())
}

/// What stands behind `|` or `>` for the line ends at the end.
pub(super) fn chomping(text: &str) -> &'static str {
    match text.len() - text.trim_end_matches('\n').len() {
        0 => "-",
        1 => "",
        _ => "+",
    }
}

fn is_plain(text: &str, within: Within) -> bool {
    let Some(first) = text.chars().next() else { return false };
    if text.trim() != text || text.chars().any(|c| c.is_control() || c == '\u{feff}') {
        return false;
    }
    if "-?:".contains(first) && text.chars().nth(1).is_none_or(|c| c == ' ' || within == Within::Flow) {
        return false;
    }
    if ",[]{}#&*!|>'\"%@`".contains(first) || text.starts_with("---") || text.starts_with("...") {
        return false;
    }
    if text.contains(": ") || text.contains(" #") || text.ends_with(':') {
        return false;
    }
    within == Within::Block || !text.contains([',', '[', ']', '{', '}']) && !text.contains(":\"")
}

/// Whether the text without quotes would be read as something else, by this reader or by one of YAML 1.1.
fn means_something_else(text: &str) -> bool {
    let words = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n", ".inf", ".nan", "<<", "="];
    let is_number_like = text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    let is_version = text.split('.').count() == 3 && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    words.contains(&text.to_ascii_lowercase().as_str()) || is_number_like && !is_version
}

fn in_double_quotes(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            c if c.is_control() || c == '\u{feff}' => {
                let code = u32::from(c);
                // Writing to a text cannot fail.
                let _ = if code <= 0xff { write!(quoted, "\\x{code:02x}") } else { write!(quoted, "\\u{code:04x}") };
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
