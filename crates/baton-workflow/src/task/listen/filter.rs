//! Which events are listened to: filters, correlations, and how many of them it takes.
//!
//! An attribute of a filter is a literal text, a regular expression (for the whole value), or a runtime expression whose `.`
//! is the attribute's value. An event that a filter cannot be evaluated on does not fit: events come from anybody.

use std::collections::BTreeMap;

use baton_execution::Fault;
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::{
    data::{Data, kind_of},
    document::{Builder, Fields, enclosed, shown},
    expression::{Expression, Variables},
    task::emit::{is_attribute, is_text},
    template::Template,
};

/// Filters of one strategy: every event is tried on each.
const FILTERS_MAX: usize = 100;
/// Bytes of a compiled regular expression.
const COMPILED_MAX: usize = 1024 * 1024;

/// Values that correlations have been bound to, by name: those of all filters of a task.
pub(crate) type Bound = BTreeMap<String, Data>;

/// What expressions of filters see: those of a task its data, those of a schedule nothing of any execution.
pub(crate) struct Scope<'s> {
    pub(crate) variables: &'s dyn Variables,
    /// The `.` of what is expected of a correlation.
    pub(crate) input: &'s Value,
}

/// `one`, `any` or `all`.
#[derive(Debug)]
pub(crate) struct Strategy {
    filters: Vec<Filter>,
    /// Whether it takes an event for each filter, rather than for any.
    all: bool,
}

#[derive(Debug)]
struct Filter {
    with: Vec<(String, Test)>,
    correlate: Vec<Correlation>,
}

/// What an attribute must be.
#[derive(Debug)]
enum Test {
    Text(String),
    Pattern(String, Regex),
    /// A boolean is the verdict, anything else what the attribute must be, or in `data` have.
    Value(Template),
}

#[derive(Debug)]
struct Correlation {
    name: String,
    from: Expression,
    expect: Option<Template>,
}

/// An event that fits.
#[derive(Debug)]
pub(crate) struct Fit {
    /// Which filter; `None` if there is none and so every event fits.
    filter: Option<usize>,
    bound: Vec<(String, Data)>,
}

impl Strategy {
    /// Reads the one of `one`, `any` and `all` that is there.
    pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>) -> Option<Self> {
        let found: Vec<&'static str> = ["one", "any", "all"].into_iter().filter(|name| fields.has(name)).collect();
        let [word] = found.as_slice() else {
            for name in ["one", "any", "all"] {
                fields.get(name);
            }
            builder.violate(&fields.path, "must have exactly one of 'one', 'any' and 'all'");
            return None;
        };
        let path = fields.at(word);
        let value = fields.get(word)?;
        let filters = match (*word, value) {
            ("one", value) => vec![Filter::read(builder, value, &path)],
            (_, Value::Array(items)) if items.len() > FILTERS_MAX => {
                builder.violate(&path, format!("has {} filters, allowed are {FILTERS_MAX}", items.len()));
                return None;
            }
            ("all", Value::Array(items)) if items.is_empty() => {
                builder.violate(&path, "must have at least one filter");
                return None;
            }
            (_, Value::Array(items)) => items
                .iter()
                .enumerate()
                .map(|(index, item)| Filter::read(builder, item, &format!("{path}[{index}]")))
                .collect(),
            (_, other) => {
                builder.violate(&path, format!("must be a list of filters, found {}", kind_of(other)));
                return None;
            }
        };
        Some(Self { filters: filters.into_iter().collect::<Option<Vec<_>>>()?, all: *word == "all" })
    }

    /// Whether an event is wanted; `served` holds the filters that have had theirs.
    pub(crate) fn fit(
        &self,
        scope: &Scope<'_>,
        event: &Value,
        served: &[usize],
        bound: &Bound,
    ) -> Result<Option<Fit>, Fault> {
        if self.filters.is_empty() {
            return Ok(Some(Fit { filter: None, bound: Vec::new() }));
        }
        for (index, filter) in self.filters.iter().enumerate() {
            if self.all && served.contains(&index) {
                continue;
            }
            if let Some(bound) = filter.fit(scope, event, bound)? {
                return Ok(Some(Fit { filter: Some(index), bound }));
            }
        }
        Ok(None)
    }

    /// Notes that an event was consumed.
    pub(crate) fn serve(fit: Fit, served: &mut Vec<usize>, bound: &mut Bound) {
        if let Some(index) = fit.filter.filter(|index| !served.contains(index)) {
            served.push(index);
        }
        bound.extend(fit.bound);
    }

    /// Whether it has had all that it takes, now that an event was consumed.
    pub(crate) fn is_satisfied(&self, served: &[usize]) -> bool {
        !self.all || (0..self.filters.len()).all(|index| served.contains(&index))
    }

    /// What the bus is to look for: the literal attributes of each filter that still waits.
    pub(crate) fn literals(&self, served: &[usize]) -> Vec<BTreeMap<&str, &str>> {
        if self.filters.is_empty() {
            return vec![BTreeMap::new()];
        }
        let waiting = self.filters.iter().enumerate().filter(|(index, _)| !(self.all && served.contains(index)));
        waiting.map(|(_, filter)| filter.literals()).collect()
    }

    /// For people: the types that are listened to.
    pub(crate) fn about(&self) -> String {
        let mut types: Vec<&str> = self
            .filters
            .iter()
            .map(|filter| {
                let of_type = filter.with.iter().find(|(name, _)| name == "type");
                match of_type {
                    Some((_, Test::Text(text) | Test::Pattern(text, _))) => text,
                    Some((_, Test::Value(_))) | None => "any",
                }
            })
            .collect();
        types.dedup();
        match types.as_slice() {
            [] => "any event".to_owned(),
            few if few.len() <= 3 => shown(&format!("event {}", few.join(", "))),
            [first, second, ..] => shown(&format!("event {first}, {second} and {} more", types.len() - 2)),
            [only] => shown(&format!("event {only}")),
        }
    }
}

impl Filter {
    fn read(builder: &mut Builder, value: &Value, path: &str) -> Option<Self> {
        let mut fields = Fields::open(value, path, builder)?;
        let with = fields.need_object("with", builder);
        let correlate = fields.object("correlate", builder);
        fields.close(builder);
        let with = with?;
        let mut tests = Vec::new();
        for (name, value) in with.entries() {
            let path = with.at(&shown(name));
            if !is_attribute(name) {
                builder.violate(
                    &path,
                    format!(
                        "'{}' is not a name of an attribute; allowed are lower-case letters and digits",
                        shown(name)
                    ),
                );
            }
            if is_text(name) && !value.is_string() {
                builder.violate(&path, format!("must be a string, found {}", kind_of(value)));
            }
            if let Some(test) = Test::read(builder, value, &path) {
                tests.push((name.to_owned(), test));
            }
        }
        if with.entries().next().is_none() {
            builder.violate(&with.path, "must have at least one attribute");
        }
        let mut correlations = Vec::new();
        if let Some(correlate) = correlate {
            for (name, value) in correlate.entries() {
                correlations.extend(Correlation::read(builder, name, value, &correlate.at(&shown(name))));
            }
        }
        Some(Self { with: tests, correlate: correlations })
    }

    /// The values that an event binds, if it fits.
    fn fit(&self, scope: &Scope<'_>, event: &Value, bound: &Bound) -> Result<Option<Vec<(String, Data)>>, Fault> {
        if !self.with.iter().all(|(name, test)| test.holds(scope, event.get(name))) {
            return Ok(None);
        }
        let mut fresh = Vec::new();
        for correlation in &self.correlate {
            let found = match correlation.from.evaluate(event, scope.variables) {
                Ok(Value::Null) | Err(_) => return Ok(None),
                Ok(found) => found,
            };
            let expected = match &correlation.expect {
                Some(expect) => Some(expect.evaluate(scope.input, scope.variables)?),
                None => bound.get(&correlation.name).map(|value| (**value).clone()),
            };
            match expected {
                Some(expected) if !same(&expected, &found) => return Ok(None),
                Some(_) => {}
                None => fresh.push((correlation.name.clone(), Data::new(found))),
            }
        }
        Ok(Some(fresh))
    }

    fn literals(&self) -> BTreeMap<&str, &str> {
        let literal = |(name, test): &'_ (String, Test)| matches!(test, Test::Text(_)) && name != "data";
        self.with
            .iter()
            .filter(|entry| literal(entry))
            .filter_map(|(name, test)| match test {
                Test::Text(text) => Some((name.as_str(), text.as_str())),
                Test::Pattern(..) | Test::Value(_) => None,
            })
            .collect()
    }
}

impl Test {
    fn read(builder: &mut Builder, value: &Value, path: &str) -> Option<Self> {
        let Some(text) = value.as_str().filter(|text| enclosed(text).is_none()) else {
            return Some(Self::Value(builder.template(value, path)));
        };
        // Neither dots nor braces: types are full of the one, URI templates of the other.
        if !text.contains(['\\', '^', '$', '*', '+', '?', '(', ')', '[', ']', '|']) {
            return Some(Self::Text(text.to_owned()));
        }
        let whole = format!("^(?:{text})$");
        if let Ok(pattern) = RegexBuilder::new(&whole).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX).build() {
            Some(Self::Pattern(text.to_owned(), pattern))
        } else {
            builder.violate(path, format!("'{}' is not a regular expression", shown(text)));
            None
        }
    }

    fn holds(&self, scope: &Scope<'_>, found: Option<&Value>) -> bool {
        match self {
            Self::Text(text) => found.and_then(scalar_text).is_some_and(|found| found == *text),
            Self::Pattern(text, pattern) => {
                found.and_then(scalar_text).is_some_and(|found| found == *text || pattern.is_match(&found))
            }
            Self::Value(template) => {
                let found = found.unwrap_or(&Value::Null);
                match template.evaluate(found, scope.variables) {
                    Ok(Value::Bool(verdict)) if matches!(template, Template::Expression(_)) => verdict,
                    Ok(wanted) => has(found, &wanted),
                    Err(_) => false,
                }
            }
        }
    }
}

impl Correlation {
    fn read(builder: &mut Builder, name: &str, value: &Value, path: &str) -> Option<Self> {
        let mut fields = Fields::open(value, path, builder)?;
        let from = fields.need_text("from", builder);
        let from = from.and_then(|text| builder.expression(text, &fields.at("from")));
        let expect = fields.template("expect", builder);
        fields.close(builder);
        Some(Self { name: name.to_owned(), from: from?, expect })
    }
}

/// The text of a value that has one.
fn scalar_text(value: &Value) -> Option<std::borrow::Cow<'_, str>> {
    match value {
        Value::String(text) => Some(text.into()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string().into()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Whether two values are one, in JSON or as the text that a document has of it.
fn same(wanted: &Value, found: &Value) -> bool {
    wanted == found || (wanted.is_string() || found.is_string()) && scalar_text(wanted) == scalar_text(found)
}

/// Whether a value is what is wanted; an object may have more fields.
fn has(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| has(found, wanted)))
        }
        _ => same(wanted, found),
    }
}
