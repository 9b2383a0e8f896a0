//! Positions as people read them: `/do/1/each/for/3/do/0/ask` is `each[3]/ask`.

/// The readable form of a position.
pub(super) fn label(position: &str) -> String {
    let parts: Vec<&str> = position.split('/').filter(|part| !part.is_empty()).collect();
    let mut text = String::new();
    let mut index = 0;
    while index < parts.len() {
        let number =
            parts.get(index + 1).filter(|next| !next.is_empty() && next.bytes().all(|byte| byte.is_ascii_digit()));
        match (parts[index], number) {
            // Words of the language, with the number of a task in its list.
            ("do" | "branches" | "try" | "tools" | "approvals" | "in-doubt", Some(_)) => index += 2,
            ("for", Some(number)) => {
                text.extend(["[", number, "]"]);
                index += 2;
            }
            ("turns", Some(number)) => {
                push(&mut text, &format!("turn {number}"));
                index += 2;
            }
            ("catch" | "fork", _) if index + 1 < parts.len() => index += 1,
            (name, _) => {
                push(&mut text, &name.replace("~1", "/").replace("~0", "~"));
                index += 1;
            }
        }
    }
    text
}

fn push(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('/');
    }
    text.push_str(name);
}

/// The readable form of a position below another one: `[3]/ask` below `/do/1/each`.
pub(super) fn label_below(position: &str, parent: Option<&str>) -> String {
    let whole = label(position);
    let Some(parent) = parent.map(label) else { return whole };
    match whole.strip_prefix(&parent) {
        Some(rest) if !rest.is_empty() => rest.trim_start_matches('/').to_owned(),
        Some(_) | None => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_language_are_left_out() {
        for (position, expected) in [
            ("/do/0/fetch", "fetch"),
            ("/do/1/each/for/3/do/0/ask", "each[3]/ask"),
            ("/do/2/both/fork/branches/0/a", "both/a"),
            ("/do/1/t/try/0/x", "t/x"),
            ("/do/1/t/catch/do/0/y", "t/y"),
            ("/turns/2/model", "turn 2/model"),
            ("/turns/2/tools/0/lookup", "turn 2/lookup"),
            ("/turns/2/approvals/0/pay", "turn 2/pay"),
            ("/turns/2", "turn 2"),
            ("/do/0/a~1b", "a/b"),
            ("", ""),
        ] {
            assert_eq!(label(position), expected, "{position}");
        }
        assert_eq!(label_below("/do/1/each/for/3/do/0/ask", Some("/do/1/each")), "[3]/ask");
        assert_eq!(label_below("/do/1/t/try/0/x", Some("/do/1/t")), "x");
    }
}
