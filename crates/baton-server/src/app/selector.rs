//! Label and field selectors, as Kubernetes writes them: `a=b,c!=d,e in (x,y),f notin (z),g,!h`.

use std::collections::BTreeMap;

use baton_types::ApiError;

use super::{ServedResource, error, metadata};

/// Requirements of one selector at most; each is looked at for each object.
const REQUIREMENTS_MAX: usize = 64;

/// Which objects of a kind are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Selector {
    labels: Vec<LabelRequirement>,
    fields: Vec<FieldRequirement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct LabelRequirement {
    key: String,
    test: LabelTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum LabelTest {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    field: String,
    value: String,
    equal: bool,
}

impl Selector {
    /// Reads both selectors of a request; an empty one selects everything.
    ///
    /// # Errors
    /// InvalidArgument: what is wrong with the syntax, or a field that kind `R` is not selected by.
    pub(crate) fn parse<R: ServedResource>(labels: &str, fields: &str) -> Result<Self, ApiError> {
        let parsed = Self { labels: parse_labels(labels)?, fields: parse_fields::<R>(fields)? };
        if parsed.labels.len() + parsed.fields.len() > REQUIREMENTS_MAX {
            return Err(error::selector(format!("the selector has more than {REQUIREMENTS_MAX} requirements")));
        }
        Ok(parsed)
    }

    /// Whether everything matches.
    pub(crate) fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is meant.
    pub(crate) fn matches<R: ServedResource>(&self, object: &R) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        let labels = object.metadata().map_or(&NONE, |metadata| &metadata.labels);
        self.labels.iter().all(|requirement| requirement.matches(labels))
            && self.fields.iter().all(|requirement| {
                (object.field(&requirement.field).as_deref() == Some(requirement.value.as_str())) == requirement.equal
            })
    }

    /// Labels that every object that is meant has: what the store can filter by itself.
    pub(crate) fn equal_labels(&self) -> Vec<(String, String)> {
        let single = |requirement: &LabelRequirement| match &requirement.test {
            LabelTest::In(values) => match values.as_slice() {
                [value] => Some((requirement.key.clone(), value.clone())),
                _ => None,
            },
            LabelTest::NotIn(_) | LabelTest::Exists | LabelTest::Absent => None,
        };
        self.labels.iter().filter_map(single).collect()
    }

    /// The one value that a field must have, if there is one.
    pub(crate) fn equal_field(&self, field: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|requirement| requirement.equal && requirement.field == field)
            .map(|requirement| requirement.value.as_str())
    }
}

impl LabelRequirement {
    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        match &self.test {
            LabelTest::In(values) => value.is_some_and(|value| values.contains(value)),
            LabelTest::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            LabelTest::Exists => value.is_some(),
            LabelTest::Absent => value.is_none(),
        }
    }
}

fn parse_labels(text: &str) -> Result<Vec<LabelRequirement>, ApiError> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    split_outside_parentheses(text)?.into_iter().map(parse_label).collect()
}

/// Parts between commas that are not within parentheses.
fn split_outside_parentheses(text: &str) -> Result<Vec<&str>, ApiError> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (index, c) in text.char_indices() {
        match c {
            '(' if !open => open = true,
            ')' if open => open = false,
            '(' | ')' => {
                return Err(error::selector(format!(
                    "label selector '{}': '{c}' without its partner",
                    metadata::shortened(text)
                )));
            }
            ',' if !open => {
                parts.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    if open {
        return Err(error::selector(format!(
            "label selector '{}': '(' without its partner",
            metadata::shortened(text)
        )));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn parse_label(term: &str) -> Result<LabelRequirement, ApiError> {
    let term = term.trim();
    let made = |key: &str, test| {
        let key = key.trim();
        metadata::check_qualified_name(key).map_err(|message| {
            error::selector(format!("label selector: key '{}' {message}", metadata::shortened(key)))
        })?;
        Ok(LabelRequirement { key: key.to_owned(), test })
    };
    if let Some(key) = term.strip_prefix('!') {
        return made(key, LabelTest::Absent);
    }
    if let Some((key, value)) = term.split_once("!=") {
        return made(key, LabelTest::NotIn(vec![label_value(value)?]));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return made(key, LabelTest::In(vec![label_value(value)?]));
    }
    let Some((head, list)) = term.split_once('(') else { return made(term, LabelTest::Exists) };
    let values =
        list.trim_end().strip_suffix(')').unwrap_or(list).split(',').map(label_value).collect::<Result<Vec<_>, _>>()?;
    match head.trim().rsplit_once(char::is_whitespace) {
        Some((key, "in")) => made(key, LabelTest::In(values)),
        Some((key, "notin")) => made(key, LabelTest::NotIn(values)),
        _ => Err(error::selector(format!(
            "label selector '{}': allowed before '(' are 'KEY in' and 'KEY notin'",
            metadata::shortened(term)
        ))),
    }
}

fn label_value(text: &str) -> Result<String, ApiError> {
    let value = text.trim();
    metadata::check_label_value(value)
        .map_err(|message| error::selector(format!("label selector: value {message}")))?;
    Ok(value.to_owned())
}

fn parse_fields<R: ServedResource>(text: &str) -> Result<Vec<FieldRequirement>, ApiError> {
    let terms = text.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let unequal = term.split_once("!=").map(|parts| (parts, false));
            let equal = || term.split_once("==").or_else(|| term.split_once('=')).map(|parts| (parts, true));
            let Some(((field, value), equal)) = unequal.or_else(equal) else {
                return Err(error::selector(format!(
                    "field selector '{}': allowed are FIELD=VALUE and FIELD!=VALUE",
                    metadata::shortened(term)
                )));
            };
            let field = field.trim();
            if !R::SELECTABLE_FIELDS.contains(&field) {
                return Err(error::selector(format!("field label not supported: {}", metadata::shortened(field)))
                    .hint(format!("{} are selected by {}", R::PLURAL, R::SELECTABLE_FIELDS.join(", "))));
            }
            Ok(FieldRequirement { field: field.to_owned(), value: value.trim().to_owned(), equal })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use baton_proto::v1::{ObjectMeta, Workflow, WorkflowExecution, WorkflowExecutionStatus};

    use super::*;

    fn workflow(labels: &[(&str, &str)]) -> Workflow {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Workflow {
            metadata: Some(ObjectMeta { name: "a".into(), namespace: "n".into(), labels, ..ObjectMeta::default() }),
            ..Workflow::default()
        }
    }

    #[test]
    fn labels_select_as_in_kubernetes() {
        let object = workflow(&[("app", "x"), ("example.com/tier", "web")]);
        for (selector, expected) in [
            ("", true),
            ("app=x", true),
            ("app==x", true),
            ("app = y", false),
            ("app!=y", true),
            ("other!=y", true),
            ("app in (x, y)", true),
            ("app in (y)", false),
            ("app notin (x)", false),
            ("other notin (x)", true),
            ("app", true),
            ("other", false),
            ("!other", true),
            ("! app", false),
            ("app in (x,y),example.com/tier=web,!z", true),
            ("app=x,example.com/tier!=web", false),
        ] {
            assert_eq!(Selector::parse::<Workflow>(selector, "").unwrap().matches(&object), expected, "{selector}");
        }
    }

    #[test]
    fn bad_syntax_is_refused_with_what_is_allowed() {
        for (labels, fields, says) in [
            ("app in x)", "", "')' without its partner"),
            ("app in (x", "", "'(' without its partner"),
            ("app near (x)", "", "KEY in"),
            ("=x", "", "key ''"),
            ("a b", "", "key 'a b'"),
            ("a=b=c", "", "value 'b=c'"),
            (",", "", "key ''"),
            ("", "spec.x=1", "field label not supported: spec.x"),
            ("", "status.phase=Running", "field label not supported: status.phase"),
            ("", "metadata.name", "FIELD=VALUE"),
        ] {
            let refused = Selector::parse::<Workflow>(labels, fields).unwrap_err();
            assert!(refused.message.contains(says), "{labels} {fields}: {}", refused.message);
        }
    }

    #[test]
    fn fields_select_executions_by_phase() {
        let status = WorkflowExecutionStatus { phase: "Running".into(), ..WorkflowExecutionStatus::default() };
        let object = WorkflowExecution { status: Some(status), ..WorkflowExecution::default() };
        for (selector, expected) in [
            ("status.phase=Running", true),
            ("status.phase!=Running", false),
            ("status.phase=Failed", false),
            ("spec.workflow=", true),
        ] {
            assert_eq!(
                Selector::parse::<WorkflowExecution>("", selector).unwrap().matches(&object),
                expected,
                "{selector}"
            );
        }
    }

    #[test]
    fn what_the_store_can_filter_is_found() {
        let selector = Selector::parse::<Workflow>("a=b,c in (d),e in (f,g),h!=i", "metadata.name=x").unwrap();
        assert_eq!(selector.equal_labels(), [("a".to_owned(), "b".to_owned()), ("c".to_owned(), "d".to_owned())]);
        assert_eq!(selector.equal_field("metadata.name"), Some("x"));
        assert_eq!(selector.equal_field("metadata.namespace"), None);
    }
}
