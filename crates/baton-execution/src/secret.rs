//! Secrets as Programs see them: by name, never by value.
//!
//! In a Program, and so in its history, its state and its log, a placeholder stands for a value; whoever runs an activity
//! puts the value in its place at that moment. What holds a placeholder is a demand for the value: whoever can make one
//! can have the secret sent to where they like. So a placeholder begins and ends with characters that Unicode keeps for
//! such use within a process ("noncharacters", which nobody exchanges), and they are taken out of whatever comes to a
//! Program from outside: see [`disarm_input`]. The placeholders of callback tokens and of credentials are made of the same
//! two characters, with another word between them.
//!
//! # Deliberately absent
//! Encoded forms of a placeholder, such as Base64: other data could be decoded to one.

use std::{borrow::Cow, collections::BTreeSet};

use serde_json::Value;

use crate::{Fault, Input, Outcome};

pub(crate) const START: char = '\u{fdd0}';
pub(crate) const END: char = '\u{fdd1}';
const WORD: &str = "secret~";
/// How the words of all other placeholders begin.
const OTHERS: &str = "baton.dev/";
/// Between name and key; neither can hold it.
const SEPARATOR: char = '~';
const INSTEAD: &str = "\u{fffd}";

/// Something that begins as a placeholder does and is none: an expression has cut it, or put something into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenPlaceholder;

/// The text that stands for the value of a key of a secret until an activity runs.
pub fn secret_placeholder(name: &str, key: &str) -> String {
    format!("{START}{WORD}{name}{SEPARATOR}{key}{END}")
}

/// How every placeholder begins.
pub fn secret_placeholder_start() -> String {
    format!("{START}{WORD}")
}

/// The secrets whose placeholders stand in the strings (and keys) of `data`: name and key of each.
///
/// # Errors
/// If there is a broken one.
pub fn secrets_named(data: &Value) -> Result<BTreeSet<(&str, &str)>, BrokenPlaceholder> {
    let mut named = BTreeSet::new();
    let mut broken = false;
    each_text(data, &mut |text| {
        let mut rest = text;
        while let Some(at) = rest.find(START) {
            if let Some((name, key, after)) = placeholder(&rest[at..]) {
                named.insert((name, key));
                rest = after;
            } else if let Some(after) = after_other_placeholder(&rest[at..]) {
                rest = after;
            } else {
                broken = true;
                break;
            }
        }
    });
    if broken { Err(BrokenPlaceholder) } else { Ok(named) }
}

/// Puts what `value_of` gives for name and key in place of every placeholder in `data`; what it gives nothing for stays.
pub fn replace_secrets(data: &mut Value, value_of: &impl Fn(&str, &str) -> Option<String>) {
    change_texts(data, &|text| {
        if !text.contains(START) {
            return None;
        }
        let (mut whole, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find(START) {
            whole.push_str(&rest[..at]);
            rest = &rest[at..];
            let found = placeholder(rest).and_then(|(name, key, after)| Some((value_of(name, key)?, after)));
            if let Some((value, after)) = found {
                whole.push_str(&value);
                rest = after;
            } else {
                whole.push(START);
                rest = &rest[START.len_utf8()..];
            }
        }
        whole.push_str(rest);
        Some(whole)
    });
}

/// The input without anything that could be taken for a placeholder; `None` if there is no such thing in it.
pub fn disarm_input(input: &Input) -> Option<Input> {
    let armed = match input {
        Input::Started(start) => {
            is_armed(&start.input)
                || is_armed(&start.settings)
                || start.env.iter().any(|(name, value)| is_armed_text(name) || is_armed_text(value))
        }
        Input::ActivityCompleted { output, .. } => is_armed(output),
        Input::ActivityFailed { fault, .. } => is_armed_fault(fault),
        Input::CallbackAnswered { outcome, .. } => match outcome {
            Outcome::Completed(output) => is_armed(output),
            Outcome::Failed(fault) => is_armed_fault(fault),
            Outcome::Cancelled { reason } => is_armed_text(reason),
        },
        Input::CancelRequested { reason } => is_armed_text(reason),
        Input::TimerFired { .. }
        | Input::TimeoutReached
        | Input::Suspended
        | Input::Resumed
        | Input::ChildStarted { .. } => false,
    };
    armed.then(|| disarmed(input.clone()))
}

fn disarmed(mut input: Input) -> Input {
    match &mut input {
        Input::Started(start) => {
            disarm_secrets(&mut start.input);
            disarm_secrets(&mut start.settings);
            start.env = std::mem::take(&mut start.env)
                .into_iter()
                .map(|(name, value)| (disarm_text(&name).into_owned(), disarm_text(&value).into_owned()))
                .collect();
        }
        Input::ActivityCompleted { output, .. }
        | Input::CallbackAnswered { outcome: Outcome::Completed(output), .. } => {
            disarm_secrets(output);
        }
        Input::ActivityFailed { fault, .. } | Input::CallbackAnswered { outcome: Outcome::Failed(fault), .. } => {
            disarm_fault(fault);
        }
        Input::CancelRequested { reason } | Input::CallbackAnswered { outcome: Outcome::Cancelled { reason }, .. } => {
            *reason = disarm_text(reason).into_owned();
        }
        Input::TimerFired { .. }
        | Input::TimeoutReached
        | Input::Suspended
        | Input::Resumed
        | Input::ChildStarted { .. } => {}
    }
    input
}

/// Takes out of a value whatever could be taken for a placeholder.
pub fn disarm_secrets(data: &mut Value) {
    change_texts(data, &|text| match disarm_text(text) {
        Cow::Owned(changed) => Some(changed),
        Cow::Borrowed(_) => None,
    });
}

/// Takes out of a text whatever could be taken for a placeholder.
pub fn disarm_text(text: &str) -> Cow<'_, str> {
    if is_armed_text(text) { Cow::Owned(text.replace([START, END], INSTEAD)) } else { Cow::Borrowed(text) }
}

fn disarm_fault(fault: &mut Fault) {
    for text in
        [&mut fault.title, &mut fault.detail, &mut fault.instance].into_iter().flatten().chain([&mut fault.kind])
    {
        *text = disarm_text(text).into_owned();
    }
    fault.data.iter_mut().for_each(disarm_secrets);
}

fn is_armed_text(text: &str) -> bool {
    text.contains([START, END])
}

fn is_armed(data: &Value) -> bool {
    let mut armed = false;
    each_text(data, &mut |text| armed |= is_armed_text(text));
    armed
}

fn is_armed_fault(fault: &Fault) -> bool {
    let texts = [&fault.title, &fault.detail, &fault.instance].into_iter().flatten();
    texts.chain([&fault.kind]).any(|text| is_armed_text(text)) || fault.data.as_ref().is_some_and(is_armed)
}

/// Name and key of the placeholder at the beginning of a text, and what follows it.
fn placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (inner, after) = text.strip_prefix(START)?.strip_prefix(WORD)?.split_once(END)?;
    let (name, key) = inner.split_once(SEPARATOR)?;
    (!name.is_empty() && !key.is_empty() && !inner.contains(START)).then_some((name, key, after))
}

/// What follows a placeholder for something else than a secret, at the beginning of a text.
fn after_other_placeholder(text: &str) -> Option<&str> {
    let (inner, after) = text.strip_prefix(START)?.strip_prefix(OTHERS)?.split_once(END)?;
    (!inner.contains(START)).then_some(after)
}

fn each_text<'v>(data: &'v Value, see: &mut impl FnMut(&'v str)) {
    match data {
        Value::String(text) => see(text),
        Value::Array(items) => items.iter().for_each(|item| each_text(item, see)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            see(key);
            each_text(value, see);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Changes the strings (and keys) of a value for which `change` gives another.
fn change_texts(data: &mut Value, change: &impl Fn(&str) -> Option<String>) {
    match data {
        Value::String(text) => {
            if let Some(changed) = change(text) {
                *text = changed;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| change_texts(item, change)),
        Value::Object(fields) => {
            if fields.keys().any(|key| change(key).is_some()) {
                let all = std::mem::take(fields);
                fields.extend(all.into_iter().map(|(key, value)| (change(&key).unwrap_or(key), value)));
            }
            fields.values_mut().for_each(|value| change_texts(value, change));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn placeholders_are_found_and_replaced_wherever_they_stand() {
        let (user, password) = (secret_placeholder("db", "user"), secret_placeholder("db", "pass.word"));
        let mut data = json!({"dsn": format!("pg://{user}:{password}@h"), "list": [1, user], password.clone(): null});
        assert_eq!(secrets_named(&data), Ok(BTreeSet::from([("db", "user"), ("db", "pass.word")])));
        replace_secrets(&mut data, &|name, key| (key != "user").then(|| format!("<{name}/{key}>")));
        let expected =
            json!({"dsn": format!("pg://{user}:<db/pass.word>@h"), "list": [1, user], "<db/pass.word>": null});
        assert_eq!(data, expected);
    }

    #[test]
    fn placeholders_of_other_things_are_no_broken_ones() {
        let id = crate::OperationId::new("/do/0/a", 1);
        let others = format!("{}{}", crate::AUTHORIZATION_PLACEHOLDER, crate::callback_token_placeholder(&id));
        let both = format!("{others}{}", secret_placeholder("db", "user"));
        assert_eq!(secrets_named(&json!([others, both])), Ok(BTreeSet::from([("db", "user")])));
        assert_eq!(secrets_named(&json!(others[..others.len() - 3])), Err(BrokenPlaceholder));
    }

    #[test]
    fn a_placeholder_that_was_cut_is_told() {
        let whole = secret_placeholder("db", "user");
        for broken in [
            &whole[..whole.len() - 3],
            &whole[..8],
            "\u{fdd0}",
            "\u{fdd0}secret~db\u{fdd1}",
            &format!("\u{fdd0}{whole}"),
        ] {
            assert_eq!(secrets_named(&json!([broken])), Err(BrokenPlaceholder), "{broken:?}");
        }
        assert_eq!(secrets_named(&json!("secret~db~user\u{fdd1}")), Ok(BTreeSet::new()), "its end alone is none");
    }

    #[test]
    fn what_comes_from_outside_holds_none() {
        let armed = secret_placeholder("db", "user");
        let harmless = "\u{fffd}secret~db~user\u{fffd}";
        let id = crate::OperationId::new("/do/0/a", 1);
        let completed = |text: &str| Input::ActivityCompleted { id: id.clone(), output: json!({text: [text]}) };
        assert_eq!(disarm_input(&completed(&armed)), Some(completed(harmless)));
        let failed = |text: &str| {
            let mut fault = Fault::new(text, 400, text).with_data(json!(text));
            fault.title = None;
            Outcome::Failed(fault)
        };
        let answered = |text: &str| Input::CallbackAnswered { id: id.clone(), outcome: failed(text), used: None };
        assert_eq!(disarm_input(&answered(&armed)), Some(answered(harmless)));
        assert_eq!(disarm_input(&completed("plain")), None);
        for demand in [crate::AUTHORIZATION_PLACEHOLDER.to_owned(), crate::callback_token_placeholder(&id)] {
            let Some(Input::ActivityCompleted { output, .. }) = disarm_input(&completed(&demand)) else {
                panic!("'{demand}' is let in");
            };
            assert!(!output.to_string().contains([START, END]), "{output}");
        }
        // In two parts that are put together it would be one again.
        let (first, second) = armed.split_at(9);
        assert_eq!(disarm_text(first).into_owned() + &disarm_text(second), harmless);
    }
}
