//! What is gathered while a document is read, and how the parts that occur everywhere are read.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use baton_types::{DURATION_MS_MAX, Violation, parse_duration};
use serde_json::Value;

use crate::{
    data::kind_of,
    document::{
        Reference,
        extensions::Extension,
        links::Links,
        reader::{Fields, quoted, shown},
    },
    expression::Expression,
    schema::Schema,
    task::{Block, BlockId, DataFlow, Delay, RaisedError, Retry, Task, Timeout, authentication::Authentication},
    template::Template,
};

/// Variables that every expression may name.
pub(crate) const VARIABLES: [&str; 9] =
    ["context", "input", "output", "secrets", "authorization", "task", "workflow", "runtime", "env"];

/// Those of the workflow's own `input.from`, and of its `timeout`.
pub(crate) const OF_INPUT: &[&str] = &["input", "secrets", "workflow", "runtime", "env"];
/// Those of a task before its input is ready: in `if` and `input.from`.
pub(crate) const OF_RAW_INPUT: &[&str] = &["context", "input", "secrets", "task", "workflow", "runtime", "env"];
/// Those of the definition of a task.
pub(crate) const OF_TASK: &[&str] =
    &["context", "input", "secrets", "authorization", "task", "workflow", "runtime", "env"];
/// Those of `output.as` and `export.as` of a task.
pub(crate) const OF_TASK_OUTPUT: &[&str] = &VARIABLES;
/// Those of the workflow's own `output.as`.
pub(crate) const OF_OUTPUT: &[&str] = &["context", "input", "output", "secrets", "workflow", "runtime", "env"];

/// Expressions of one document; each takes some ten kilobytes when it is compiled.
pub(crate) const EXPRESSIONS_MAX: usize = 2_000;

/// Everything that was read so far.
pub(crate) struct Builder {
    pub(crate) violations: Vec<Violation>,
    pub(crate) loose: bool,
    expressions: usize,
    pub(crate) namespace: String,
    pub(crate) tasks: Vec<Task>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) agents: Vec<Reference>,
    pub(crate) workflows: Vec<Reference>,
    pub(crate) reusable: Reusable,
    pub(crate) links: Links,
    pub(crate) extensions: Vec<Extension>,
    /// What is odd, and still means something.
    pub(crate) warnings: Vec<Violation>,
    /// Variables of the language that the expressions here may name.
    arguments: &'static [&'static str],
    /// Keys of secrets that expressions name.
    pub(crate) secret_keys: BTreeMap<String, BTreeSet<String>>,
    /// Variables that enclosing tasks add, such as `item`; innermost last.
    pub(crate) scope: Vec<String>,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            violations: Vec::new(),
            loose: false,
            expressions: 0,
            namespace: String::new(),
            tasks: Vec::new(),
            blocks: Vec::new(),
            agents: Vec::new(),
            workflows: Vec::new(),
            reusable: Reusable::default(),
            links: Links::default(),
            extensions: Vec::new(),
            warnings: Vec::new(),
            arguments: OF_TASK,
            secret_keys: BTreeMap::new(),
            scope: Vec::new(),
        }
    }
}

/// What `use` defines, by name.
#[derive(Default)]
pub(crate) struct Reusable {
    pub(crate) retries: BTreeMap<String, Option<Arc<Retry>>>,
    pub(crate) errors: BTreeMap<String, Option<Arc<RaisedError>>>,
    pub(crate) timeouts: BTreeMap<String, Option<Timeout>>,
    pub(crate) authentications: BTreeMap<String, Option<Arc<Authentication>>>,
    pub(crate) secrets: BTreeSet<String>,
}

impl Builder {
    /// Notes if a secret that is named is not in `use.secrets`.
    pub(crate) fn need_secret(&mut self, name: &str, path: &str) {
        if let Err(message) = self.known_secret(name) {
            self.violate(path, message);
        }
    }

    fn known_secret(&self, name: &str) -> Result<(), String> {
        if self.reusable.secrets.contains(name) {
            return Ok(());
        }
        let known = quoted(self.reusable.secrets.iter().map(String::as_str));
        Err(format!("no secret named '{}' in use.secrets; those there are {known}", shown(name)))
    }

    /// Compiles an expression that may stand in `${ }` or bare.
    pub(crate) fn expression(&mut self, text: &str, path: &str) -> Option<Expression> {
        let source = enclosed(text).unwrap_or(text);
        match self.compile(source) {
            Ok(expression) => Some(expression),
            Err(message) => {
                self.violate(path, message);
                None
            }
        }
    }

    fn compile(&mut self, source: &str) -> Result<Expression, String> {
        self.expressions += 1;
        if self.expressions > EXPRESSIONS_MAX {
            return Err(format!("is one expression too many; a document may have {EXPRESSIONS_MAX}"));
        }
        let variables: Vec<&str> =
            self.arguments.iter().copied().chain(self.scope.iter().map(String::as_str)).collect();
        let expression = Expression::compile(source, &variables).map_err(|message| {
            let elsewhere = VARIABLES.iter().any(|name| message == format!("no variable '${name}' here"));
            if elsewhere { format!("{message}; those here are {}", names(&variables)) } else { message }
        })?;
        for (name, key) in expression.secrets() {
            self.known_secret(name)?;
            let keys = self.secret_keys.entry(name.clone()).or_default();
            keys.extend(key.clone());
        }
        Ok(expression)
    }

    /// Reads a part of the document in which expressions may name other variables of the language.
    pub(crate) fn with_arguments<T>(
        &mut self,
        arguments: &'static [&'static str],
        read: impl FnOnce(&mut Self) -> T,
    ) -> T {
        let before = std::mem::replace(&mut self.arguments, arguments);
        let done = read(self);
        self.arguments = before;
        done
    }

    /// Reads a part of the document that stands for itself: no task around it gives it variables.
    pub(crate) fn apart<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let scope = std::mem::take(&mut self.scope);
        let done = self.with_arguments(OF_TASK, read);
        self.scope = scope;
        done
    }

    /// Reads a value in which strings of the form `${ … }` are expressions.
    pub(crate) fn template(&mut self, value: &Value, path: &str) -> Template {
        match value {
            Value::String(text) => self.text_template(text, path),
            Value::Array(items) => {
                let parts: Vec<Template> = items
                    .iter()
                    .enumerate()
                    .map(|(index, item)| self.template(item, &format!("{path}[{index}]")))
                    .collect();
                if parts.iter().all(is_literal) { Template::Literal(value.clone()) } else { Template::Array(parts) }
            }
            Value::Object(fields) => {
                let parts: Vec<(String, Template)> = fields
                    .iter()
                    .map(|(key, item)| (key.clone(), self.template(item, &format!("{path}.{}", shown(key)))))
                    .collect();
                if parts.iter().all(|(_, part)| is_literal(part)) {
                    Template::Literal(value.clone())
                } else {
                    Template::Object(parts)
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => Template::Literal(value.clone()),
        }
    }

    fn text_template(&mut self, text: &str, path: &str) -> Template {
        let literal = || Template::Literal(Value::String(text.to_owned()));
        if enclosed(text).is_some() {
            return self.expression(text, path).map_or_else(literal, Template::Expression);
        }
        if self.loose && self.expressions >= EXPRESSIONS_MAX {
            self.violate(path, format!("is one text too many for loose mode; a document may have {EXPRESSIONS_MAX}"));
        } else if self.loose {
            return self
                .compile(text)
                .map_or_else(|_| literal(), |expression| Template::Loose(expression, text.to_owned()));
        }
        literal()
    }

    /// Reads `from` or `as`: a string is an expression, an object has expressions in it.
    pub(crate) fn transformation(&mut self, value: &Value, path: &str) -> Option<Template> {
        match value {
            Value::String(text) => self.expression(text, path).map(Template::Expression),
            Value::Object(_) => Some(self.template(value, path)),
            other => {
                self.violate(path, format!("must be an expression or an object, found {}", kind_of(other)));
                None
            }
        }
    }

    /// Reads `input`, `output` or `export`; `how` is the name of its transformation, `from` or `as`.
    pub(crate) fn data_flow(&mut self, parent: &mut Fields<'_>, name: &'static str, how: &'static str) -> DataFlow {
        let Some(mut fields) = parent.object(name, self) else { return DataFlow::default() };
        let transform = fields.get(how).and_then(|value| self.transformation(value, &fields.at(how)));
        let schema = fields.object("schema", self).and_then(|schema| self.schema(schema));
        fields.close(self);
        DataFlow { transform, schema }
    }

    fn schema(&mut self, mut fields: Fields<'_>) -> Option<Schema> {
        if let Some(format) = fields.text("format", self)
            && format != "json"
            && !format.starts_with("json:")
        {
            self.violate(&fields.at("format"), format!("is '{}', allowed is 'json'", shown(format)));
        }
        let document = fields.get("document");
        let fetched = fields.object("resource", self).map(|resource| self.schema_resource(resource));
        let compiled = match (document, fetched) {
            (None, None) => {
                self.violate(&fields.at("document"), "is required, unless there is a 'resource'");
                None
            }
            (Some(_), Some(_)) => {
                self.violate(&fields.path, "must have one of 'document' and 'resource'; it has both");
                None
            }
            (Some(document), None) => self.compile_schema(document, &fields.at("document")),
            (None, Some(fetched)) => fetched.and_then(|found| self.compile_schema(&found.content, &found.path)),
        };
        fields.close(self);
        compiled
    }

    fn compile_schema(&mut self, document: &Value, path: &str) -> Option<Schema> {
        match Schema::compile(document) {
            Ok(schema) => Some(schema),
            Err(message) => {
                self.violate(path, message);
                None
            }
        }
    }

    /// Reads a duration: an object, text in ISO 8601 form, or an expression that gives one of the two.
    pub(crate) fn duration(&mut self, value: &Value, path: &str) -> Option<Delay> {
        match value {
            Value::String(text) if enclosed(text).is_some() => self.expression(text, path).map(Delay::Expression),
            Value::Object(_) if has_expression(value) => {
                let fields = Fields::open(value, path, self)?;
                for (name, _) in
                    fields.entries().filter(|(name, _)| !DURATION_UNITS.iter().any(|(unit, _)| unit == name))
                {
                    self.violate(
                        &fields.at(&shown(name)),
                        format!("unknown field; fields here are {}", quoted(DURATION_UNITS.iter().map(|unit| unit.0))),
                    );
                }
                Some(Delay::Template(self.template(value, path)))
            }
            other => match duration_ms(other) {
                Ok(millis) => Some(Delay::Fixed(millis)),
                Err(message) => {
                    self.violate(path, message);
                    None
                }
            },
        }
    }

    /// Reads `timeout`: an object with `after`, or the name of one in `use.timeouts`.
    pub(crate) fn timeout(&mut self, parent: &mut Fields<'_>) -> Option<Timeout> {
        let value = parent.get("timeout")?;
        let path = parent.at("timeout");
        if let Value::String(name) = value {
            if let Some(timeout) = self.reusable.timeouts.get(name) {
                return timeout.clone();
            }
            let known = quoted(self.reusable.timeouts.keys().map(String::as_str));
            self.violate(
                &path,
                format!("no timeout named '{}' in use.timeouts; timeouts there are {known}", shown(name)),
            );
            return None;
        }
        self.timeout_definition(value, &path)
    }

    pub(crate) fn timeout_definition(&mut self, value: &Value, path: &str) -> Option<Timeout> {
        let mut fields = Fields::open(value, path, self)?;
        fields.need("after", self);
        let after = fields.duration("after", self);
        fields.close(self);
        after.map(Timeout::new)
    }

    /// The block under construction: its tasks, all of which must have different names.
    pub(crate) fn block(&mut self, value: &Value, path: &str, pointer: &str, parallel: bool) -> BlockId {
        crate::task::read_block(self, value, path, pointer, parallel)
    }
}

const DURATION_UNITS: [(&str, u64); 5] =
    [("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000), ("seconds", 1000), ("milliseconds", 1)];

/// Milliseconds of a duration: an object with `days` to `milliseconds`, or text.
///
/// # Errors
/// A sentence that says what was found and what is allowed.
pub(crate) fn duration_ms(value: &Value) -> Result<u64, String> {
    match value {
        Value::String(text) => {
            parse_duration(text).map(|duration| u64::try_from(duration.as_millis()).unwrap_or(DURATION_MS_MAX))
        }
        Value::Object(fields) if !fields.is_empty() => {
            let mut total: u64 = 0;
            for (name, count) in fields {
                let units = || quoted(DURATION_UNITS.iter().map(|unit| unit.0));
                let (_, size) = DURATION_UNITS
                    .iter()
                    .find(|(unit, _)| unit == name)
                    .ok_or_else(|| format!("has an unknown field '{}'; fields here are {}", shown(name), units()))?;
                let count = count.as_u64().ok_or_else(|| {
                    format!("has a '{name}' that is {}; it must be an integer of 0 or more", count_shown(count))
                })?;
                total = count
                    .checked_mul(*size)
                    .and_then(|part| total.checked_add(part))
                    .filter(|total| *total <= DURATION_MS_MAX)
                    .ok_or("is longer than the limit of ten years")?;
            }
            Ok(total)
        }
        Value::Object(_) => {
            Err(format!("must have at least one of {}", quoted(DURATION_UNITS.iter().map(|unit| unit.0))))
        }
        other => {
            Err(format!("must be a duration, such as 'PT30S' or an object with 'seconds'; found {}", kind_of(other)))
        }
    }
}

fn count_shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        other => kind_of(other).to_owned(),
    }
}

fn has_expression(value: &Value) -> bool {
    value
        .as_object()
        .is_some_and(|fields| fields.values().any(|field| field.as_str().is_some_and(|text| enclosed(text).is_some())))
}

fn is_literal(part: &Template) -> bool {
    matches!(part, Template::Literal(_))
}

/// `$a, $b and $c`.
fn names(variables: &[&str]) -> String {
    let dollared: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();
    quoted(dollared.iter().map(String::as_str))
}

/// What stands between `${` and `}`, if the text is exactly that.
pub(crate) fn enclosed(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}')
}
