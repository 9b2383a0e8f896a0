//! Reading bodies in JSON and YAML, within the limits of [`baton_activities::limited`].

use baton_activities::limited::{self, Format, Parsed, Unreadable};
use baton_types::{ApiError, ErrorKind};
use serde_json::Value;

use super::{
    body::{BODY_BYTES_MAX, MediaType},
    refusal::Refusal,
};

/// Largest value that a text may stand for, in bytes: its strings, and some for every value.
pub(super) const EXPANDED_BYTES_MAX: usize = 4 * BODY_BYTES_MAX;

/// Reads `text`. An empty one is refused: callers that allow it ask before.
pub(super) fn parse(text: &[u8], media_type: MediaType) -> Result<Parsed, Refusal> {
    if text.iter().all(u8::is_ascii_whitespace) {
        let message = "the body is empty; allowed is one object";
        return Err(Refusal::bad_request("BODY_MALFORMED", message.to_owned()));
    }
    let format = if media_type == MediaType::Yaml { Format::Yaml } else { Format::Json };
    limited::read(text, format, EXPANDED_BYTES_MAX).map_err(|why| {
        let message = format!("the body {why}");
        match why {
            Unreadable::TooLarge { .. } => ApiError::new(ErrorKind::TooLarge, "BODY_TOO_LARGE", message).into(),
            Unreadable::Brackets { .. } => Refusal::bad_request("BODY_MALFORMED", message)
                .hint("send it as application/json, which has no such limit"),
            Unreadable::NotText { .. } | Unreadable::TooDeep(_) | Unreadable::Wrong { .. } => {
                Refusal::bad_request("BODY_MALFORMED", message)
            }
        }
    })
}

/// Reads a file that was fetched, JSON or YAML, within the limits of a body.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_file(text: &[u8]) -> Result<Value, String> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err("the file is empty; allowed is one object".to_owned());
    }
    limited::read_either(text, EXPANDED_BYTES_MAX).map_err(|why| format!("the file {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str, media_type: MediaType) -> String {
        parse(text.as_bytes(), media_type).unwrap_err().status()["message"].as_str().unwrap().to_owned()
    }

    #[test]
    fn keeps_numbers_exact_and_names_what_is_set_twice() {
        let parsed =
            parse(br#"{"a": 18446744073709551615, "b": [{"c": 1, "c": 5.0}], "a": -3}"#, MediaType::Json).unwrap();
        assert_eq!(parsed.value, json!({"a": -3, "b": [{"c": 5.0}]}));
        assert_eq!(parsed.duplicates, ["b[0].c", "a"]);
        let yaml = parse(b"a: 1\n200: yes\nlist: [1, 2.5, ~, 'x']\n", MediaType::Yaml).unwrap();
        assert_eq!(yaml.value, json!({"a": 1, "200": "yes", "list": [1, 2.5, null, "x"]}));
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, media_type, says) in [
            ("", MediaType::Json, "the body is empty"),
            (" \n", MediaType::Yaml, "the body is empty"),
            ("{\"a\": }", MediaType::Json, "not JSON: expected value at line 1 column 7"),
            ("{} {}", MediaType::Json, "trailing characters"),
            ("a: [", MediaType::Yaml, "not YAML"),
            ("a: 1\n---\nb: 2\n", MediaType::Yaml, "more than one document"),
            ("a: !env x", MediaType::Yaml, "no tags"),
            ("a: .nan", MediaType::Yaml, "finite"),
            (&"[".repeat(10_000), MediaType::Json, "nested deeper than 128 levels"),
            (&"[".repeat(1_000_000), MediaType::Yaml, "nested deeper than 128 levels"),
            (&"[\"]\",".repeat(60_000), MediaType::Yaml, "60000 opening brackets; allowed are up to 50000"),
            (&format!("{}x", "- ".repeat(500)), MediaType::Yaml, "nested deeper than 128 levels"),
        ] {
            let message = refused(text, media_type);
            assert!(message.contains(says), "{message}");
        }
        let message = parse(b"{\"a\": \"\xff\"}", MediaType::Json).unwrap_err().status()["message"].to_string();
        assert!(message.contains("not UTF-8: byte 7"), "{message}");
    }

    #[test]
    fn aliases_do_not_multiply() {
        let wide = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a,".repeat(100));
        assert!(refused(&wide, MediaType::Yaml).contains("once its aliases are filled in"));
        let text = (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, level| {
            let previous = format!("*a{},", level - 1).repeat(10);
            format!("{text}a{level}: &a{level} [{previous}]\n")
        });
        let message = refused(&text, MediaType::Yaml);
        assert!(message.contains("once its aliases are filled in"), "{message}");
    }
}
