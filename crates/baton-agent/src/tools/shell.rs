//! A tool that is a command, run in the sandbox of whoever runs activities.
//!
//! The command is a list of words; `{name}` in a word is an argument of the call. There is no shell in between, so an argument
//! stays within its word. What else an argument could become by accident is refused:
//! - another program: the first word is literal;
//! - an option: an argument that begins a word must not begin with `-`, unless a literal `--` stands before it;
//! - code: up to its first word that is no option, the command of an interpreter (`sh`, `python3`, `awk`, …) is literal.
//!
//! A word with an argument that is not given is left out.

use std::collections::BTreeMap;

use baton_execution::{Effect, secret_placeholder};
use serde_json::{Map, Value, json};

use super::{ACTIVITY_TIMEOUT_MS_DEFAULT, Action, Behaviour, Common, Kind};
use crate::{
    fields::{Fields, cut},
    model::SecretKey,
};

pub(super) const KIND: Kind = Kind {
    field: "shell",
    read: |fields, common| Some(Box::new(Shell::read(fields, common)?)),
    parameters: |_| json!({"type": "object", "properties": {}}),
};

/// Words of one command.
const WORDS_MAX: usize = 256;
/// Bytes of one word, and of one value of the environment, with its arguments: Linux takes twice as much.
const WORD_BYTES_MAX: usize = 64 * 1024;
/// Variables of the environment.
const VARIABLES_MAX: usize = 64;
/// Largest limits that can be given: what the API's 32-bit integers hold.
const LIMIT_MAX: u32 = i32::MAX as u32;
/// Programs that take code as an argument, by the beginning of their names: versions may follow.
const INTERPRETERS: [&str; 22] = [
    "sh",
    "bash",
    "dash",
    "ash",
    "ksh",
    "mksh",
    "zsh",
    "fish",
    "busybox",
    "python",
    "perl",
    "ruby",
    "node",
    "deno",
    "bun",
    "php",
    "lua",
    "awk",
    "gawk",
    "mawk",
    "sed",
    "osascript",
];

#[derive(Debug)]
struct Shell {
    words: Vec<Word>,
    environment: BTreeMap<String, Variable>,
    stdin: bool,
    network: bool,
    json: bool,
    limits: Map<String, Value>,
    timeout_ms: u64,
    effect: Effect,
}

/// A text with arguments in it.
#[derive(Debug)]
struct Word(Vec<Part>);

#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    Argument(String),
}

#[derive(Debug)]
enum Variable {
    Text(Word),
    Secret(SecretKey),
}

impl Shell {
    fn read(fields: &Fields<'_>, common: &Common) -> Option<Self> {
        let words = read_command(fields, common);
        let environment = read_environment(fields, common);
        let stdin = fields.word("stdin", &[("none", false), ("arguments", true)]).unwrap_or_default();
        let json = fields.word("output", &[("text", false), ("json", true)]).unwrap_or_default();
        let network = fields.flag("network");
        let mut limits = Map::new();
        if let Some(own) = fields.object("limits") {
            for (name, sent, unit) in [
                ("memoryMib", "memoryBytes", 1 << 20),
                ("cpuSeconds", "cpuSeconds", 1),
                ("outputBytes", "outputBytes", 1),
            ] {
                if let Some(count) = own.count(name, 1, LIMIT_MAX) {
                    limits.insert(sent.to_owned(), (u64::from(count) * unit).into());
                }
            }
            own.finish();
        }
        Some(Self {
            words: words?,
            environment,
            stdin,
            network,
            json,
            limits,
            timeout_ms: common.timeout_ms.unwrap_or(ACTIVITY_TIMEOUT_MS_DEFAULT),
            effect: if common.repeatable { Effect::Repeatable } else { Effect::Once },
        })
    }
}

impl Behaviour for Shell {
    fn action(&self, arguments: &Value) -> Result<Action, String> {
        let mut command = Vec::with_capacity(self.words.len());
        let mut options_end = false;
        for word in &self.words {
            let Some(text) = word.filled(arguments)? else { continue };
            if !options_end && text.starts_with('-') && matches!(word.0.first(), Some(Part::Argument(_))) {
                let name = word.arguments().next().unwrap_or_default();
                return Err(format!(
                    "the argument '{name}' must not begin with '-': the command would take it for an option"
                ));
            }
            options_end |= text == "--" && word.arguments().next().is_none();
            command.push(text);
        }
        let mut environment = Map::new();
        for (name, variable) in &self.environment {
            let text = match variable {
                Variable::Text(word) => word.filled(arguments)?,
                Variable::Secret(it) => Some(secret_placeholder(&it.secret, &it.key)),
            };
            environment.extend(text.map(|text| (name.clone(), text.into())));
        }
        let program = command.remove(0);
        let on = format!("command {}", cut(&program, 200));
        let input = json!({
            "program": program, "arguments": command, "environment": environment,
            "stdin": self.stdin.then(|| arguments.to_string()), "network": self.network,
            "output": if self.json { "json" } else { "text" }, "limits": self.limits,
        });
        Ok(Action::Activity {
            activity: "command",
            input,
            timeout_ms: self.timeout_ms,
            effect: self.effect,
            on,
            recorded: None,
        })
    }
}

impl Word {
    fn read(text: &str, common: &Common) -> Result<Self, String> {
        if text.len() > WORD_BYTES_MAX {
            return Err(format!("has {} bytes, allowed are up to {WORD_BYTES_MAX}", text.len()));
        }
        if text.contains('\0') {
            return Err("must not hold the character U+0000".to_owned());
        }
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find('{') {
            literal.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            // `{{name}}` is the text `{name}`, which programs may have in words of their own.
            let escaped = after.strip_prefix('{').and_then(name_in).filter(|(_, rest)| rest.starts_with('}'));
            if let Some((name, behind)) = escaped {
                literal.push('{');
                literal.push_str(name);
                rest = behind;
            } else if let Some((name, behind)) = name_in(after) {
                if common.parameters.pointer("/properties").and_then(|properties| properties.get(name)).is_none() {
                    return Err(format!(
                        "'{{{name}}}' is not an argument: 'parameters.properties' of the tool does not have it; the text itself is '{{{{{name}}}}}'"
                    ));
                }
                parts.push(Part::Literal(std::mem::take(&mut literal)));
                parts.push(Part::Argument(name.to_owned()));
                rest = behind;
            } else {
                literal.push('{');
                rest = after;
            }
        }
        literal.push_str(rest);
        parts.push(Part::Literal(literal));
        parts.retain(|part| *part != Part::Literal(String::new()));
        Ok(Self(parts))
    }

    fn arguments(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Argument(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// The word if it is the same for all calls.
    fn literal(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [Part::Literal(text)] => Some(text),
            _ => None,
        }
    }

    /// The word with arguments in it; `None` if one of them is not given. The error is a sentence for the model.
    fn filled(&self, arguments: &Value) -> Result<Option<String>, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Argument(name) => match arguments.get(name) {
                    None | Some(Value::Null) => return Ok(None),
                    Some(Value::String(value)) if value.contains('\0') => {
                        return Err(format!("the argument '{name}' must not hold the character U+0000"));
                    }
                    Some(Value::String(value)) => text.push_str(value),
                    Some(value) => text.push_str(&value.to_string()),
                },
            }
        }
        if text.len() > WORD_BYTES_MAX {
            let names: Vec<String> = self.arguments().map(|name| format!("'{name}'")).collect();
            return Err(format!(
                "{} make a word of the command of {} bytes, allowed are up to {WORD_BYTES_MAX}",
                names.join(", "),
                text.len()
            ));
        }
        Ok(Some(text))
    }
}

/// The name before the next `}`, and what follows it.
fn name_in(text: &str) -> Option<(&str, &str)> {
    let (name, rest) = text.split_once('}')?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    is_name.then_some((name, rest))
}

fn read_command(fields: &Fields<'_>, common: &Common) -> Option<Vec<Word>> {
    let items = fields.list("command", WORDS_MAX);
    if items.is_empty() {
        fields.violation("command", "must be given: a program and its arguments");
        return None;
    }
    let mut words = Vec::new();
    for (path, item) in items {
        let read = item.as_str().ok_or_else(|| "must be a string".to_owned()).and_then(|text| Word::read(text, common));
        match read {
            Ok(word) => words.push((path, word)),
            Err(why) => fields.report.add(path, why),
        }
    }
    if let Some((path, why)) = words.first().and_then(|(path, word)| match word.literal() {
        Some("") => Some((path, "must name a program")),
        Some(_) => None,
        None => Some((path, "must be literal: a model must not choose the program")),
    }) {
        fields.report.add(path.clone(), why);
    }
    check_code(fields, &words);
    check_options(fields, &words, common);
    Some(words.into_iter().map(|(_, word)| word).collect())
}

/// An argument must not become the code of an interpreter.
fn check_code(fields: &Fields<'_>, words: &[(String, Word)]) {
    let is_interpreter = |word: &Word| word.literal().is_some_and(names_interpreter);
    let Some(at) = words.iter().position(|(_, word)| is_interpreter(word)) else { return };
    let mut before_code = true;
    let mut after_option = false;
    for (path, word) in &words[at + 1..] {
        let literal = word.literal();
        let is_short_option =
            matches!(word.0.first(), Some(Part::Literal(text)) if text.starts_with('-') && !text.starts_with("--"));
        if literal.is_none() && (before_code || after_option || is_short_option) {
            fields.report.add(
                path.clone(),
                "must be literal: an argument would become code here; put it in a word of its own behind the code, or in the environment",
            );
        }
        after_option = literal.is_some_and(|text| text.starts_with('-') && !text.starts_with("--") && text.len() > 1);
        before_code &= literal.is_none_or(|text| text.starts_with('-'));
    }
}

/// A word that may be left out must not be the value of an option: the next word would take its place.
fn check_options(fields: &Fields<'_>, words: &[(String, Word)], common: &Common) {
    let required = |name: &str| {
        let listed = common.parameters.get("required").and_then(Value::as_array);
        listed.is_some_and(|listed| listed.iter().any(|item| item.as_str() == Some(name)))
    };
    for pair in words.windows(2) {
        let [(_, option), (path, value)] = pair else { continue };
        let is_option =
            option.literal().is_some_and(|text| text.starts_with('-') && !text.trim_matches('-').is_empty());
        if let Some(name) = value.arguments().find(|name| is_option && !required(name)) {
            fields.report.add(
                path.clone(),
                format!(
                    "is left out where the argument '{name}' is not given, and the option before it would take the next word; make '{name}' required, or write both as one word"
                ),
            );
        }
    }
}

fn names_interpreter(program: &str) -> bool {
    let name = program.rsplit('/').next().unwrap_or_default();
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    INTERPRETERS.contains(&stem)
}

fn read_environment(fields: &Fields<'_>, common: &Common) -> BTreeMap<String, Variable> {
    let mut environment = BTreeMap::new();
    let Some(given) = fields.get("environment") else { return environment };
    let Some(given) = given.as_object() else {
        fields.violation("environment", "must be an object of {value} or {secret, key}");
        return environment;
    };
    if given.len() > VARIABLES_MAX {
        fields.violation("environment", format!("has {} variables, allowed are 0 to {VARIABLES_MAX}", given.len()));
    }
    for (name, item) in given {
        let path = fields.path(&format!("environment.{}", cut(name, 64)));
        let mut letters = name.chars();
        if !letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
            || !letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
        {
            fields.report.add(path.clone(), "is not the name of a variable; allowed are letters, digits and '_'");
        }
        let Some(own) = Fields::of(fields.report, path, item) else { continue };
        environment.extend(read_variable(own, common).map(|variable| (name.clone(), variable)));
    }
    environment
}

fn read_variable(fields: Fields<'_>, common: &Common) -> Option<Variable> {
    let value = fields.text("value");
    if fields.get("secret").is_none() && fields.get("key").is_none() {
        let word = Word::read(value.unwrap_or_default(), common).map_err(|why| fields.violation("value", why));
        fields.finish();
        return word.ok().map(Variable::Text);
    }
    if value.is_some() {
        fields.violation("", "must have 'value', or 'secret' and 'key', not both");
    }
    Some(Variable::Secret(SecretKey::read(fields)))
}
