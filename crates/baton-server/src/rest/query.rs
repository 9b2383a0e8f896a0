//! The parameters of a request, with every one that is wrong reported at once.

use axum::{extract::Query as AxumQuery, http::Uri};
use baton_types::{ApiError, ErrorKind, Violation};
use std::str::FromStr;

use super::refusal::{Refusal, printable};

/// Every parameter that some route reads, or that clients of Kubernetes send and that changes nothing here.
const KNOWN: [&str; 22] = [
    "after",
    "allowWatchBookmarks",
    "continue",
    "dryRun",
    "fieldManager",
    "fieldSelector",
    "fieldValidation",
    "follow",
    "force",
    "gracePeriodSeconds",
    "includeObject",
    "labelSelector",
    "limit",
    "orphanDependents",
    "pretty",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeout",
    "timeoutSeconds",
    "watch",
];

/// The parameters.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, Refusal> {
        let AxumQuery(pairs) = AxumQuery::<Vec<(String, String)>>::try_from_uri(uri)
            .map_err(|error| Refusal::bad_request("QUERY_MALFORMED", format!("the query cannot be read: {error}")))?;
        Ok(Self(pairs))
    }

    /// The text of a parameter; empty if it is not there. Of several, the last.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.iter().rev().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A warning for every parameter that means nothing here.
    pub(super) fn warnings(&self) -> impl Iterator<Item = String> {
        let unknown = |(key, _): &&(String, String)| !key.is_empty() && !KNOWN.contains(&key.as_str());
        self.0.iter().filter(unknown).map(|(key, _)| format!("no such query parameter: '{}'", printable(key)))
    }

    /// Reads typed parameters: `read` names them, and all that are wrong are reported together.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> T) -> Result<T, Refusal> {
        let mut reader = Reader { query: self, violations: Vec::new() };
        let values = read(&mut reader);
        if reader.violations.is_empty() { Ok(values) } else { Err(ApiError::violations(reader.violations).into()) }
    }

    /// `dryRun`: `All`, or not there.
    pub(super) fn dry_run(&self) -> Result<bool, Refusal> {
        dry_run(self.text("dryRun"))
    }
}

/// What `dryRun` says.
pub(super) fn dry_run(text: &str) -> Result<bool, Refusal> {
    match text {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(unsupported("dryRun", &format!("'{}' is not a value of it; allowed is 'All'", printable(other)))),
    }
}

/// A parameter with a value that is known and not offered.
pub(super) fn unsupported(field: &str, message: &str) -> Refusal {
    let violation = Violation::new(field, message);
    let error =
        ApiError { kind: ErrorKind::Invalid, reason: "PARAMETER_UNSUPPORTED", ..ApiError::violations(vec![violation]) };
    error.into()
}

/// Reads parameters and remembers what is wrong.
pub(super) struct Reader<'a> {
    query: &'a Query,
    violations: Vec<Violation>,
}

impl Reader<'_> {
    /// `true`, `1` or a name without a value; `false`, `0` or nothing.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some((_, value)) = self.query.0.iter().rev().find(|(key, _)| key == name) else { return false };
        match value.as_str() {
            "" | "true" | "1" => true,
            "false" | "0" => false,
            other => {
                self.violations.push(Violation::new(
                    name,
                    format!("'{}' is not a boolean; allowed are 'true' and 'false'", printable(other)),
                ));
                false
            }
        }
    }

    /// A count, 0 or more; `None` if it is not there.
    pub(super) fn count<T: FromStr + Default + PartialOrd>(&mut self, name: &str, allowed: &str) -> Option<T> {
        let text = self.query.text(name);
        if text.is_empty() {
            return None;
        }
        let number = text.parse().ok().filter(|number| *number >= T::default());
        if number.is_none() {
            self.violations
                .push(Violation::new(name, format!("'{}' is not allowed; allowed are {allowed}", printable(text))));
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_all_at_once_and_bears_with_odd_queries() {
        let query = Query::of(&"/x?&watch=maybe&limit=-3&&timeoutSeconds=x&labelselector=a".parse().unwrap()).unwrap();
        let refusal = query
            .read(|it| {
                (it.flag("watch"), it.count::<i32>("limit", "0 or more"), it.count::<u32>("timeoutSeconds", "seconds"))
            })
            .unwrap_err();
        assert_eq!(refusal.status()["details"]["causes"].as_array().unwrap().len(), 3);
        assert_eq!(query.warnings().collect::<Vec<_>>(), ["no such query parameter: 'labelselector'"]);
        assert!(Query::of(&"/x?".parse().unwrap()).unwrap().0.is_empty());
        let flags = Query::of(&"/x?watch&follow=0".parse().unwrap()).unwrap();
        assert_eq!(
            flags.read(|it| (it.flag("watch"), it.flag("follow"), it.flag("pretty"))).unwrap(),
            (true, false, false)
        );
    }
}
