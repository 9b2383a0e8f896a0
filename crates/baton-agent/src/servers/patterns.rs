//! Patterns of the names of tools, such as `read_*`.

use globset::{Glob, GlobMatcher};
use serde_json::Value;

use crate::fields::{Fields, cut, kind_of};

/// Patterns in one list.
const PATTERNS_MAX: usize = 128;
/// Longest pattern, in bytes.
const PATTERN_BYTES_MAX: usize = 256;

/// Patterns, of which one is enough.
#[derive(Debug, Default)]
pub(crate) struct Patterns(Vec<(String, GlobMatcher)>);

impl Patterns {
    pub(crate) fn read(fields: &Fields<'_>, name: &'static str) -> Self {
        let mut patterns = Vec::new();
        for (path, item) in fields.list(name, PATTERNS_MAX) {
            match compiled(item) {
                Ok(pattern) => patterns.push(pattern),
                Err(why) => fields.report.add(path, why),
            }
        }
        Self(patterns)
    }

    /// As they were written.
    pub(crate) fn sources(&self) -> Vec<&str> {
        self.0.iter().map(|(source, _)| source.as_str()).collect()
    }

    /// Whether one of them matches.
    pub(crate) fn matches(&self, name: &str) -> bool {
        self.0.iter().any(|(_, pattern)| pattern.is_match(name))
    }
}

fn compiled(item: &Value) -> Result<(String, GlobMatcher), String> {
    let Value::String(text) = item else { return Err(format!("must be a string, found {}", kind_of(item))) };
    if text.is_empty() || text.len() > PATTERN_BYTES_MAX {
        return Err(format!("has {} bytes, allowed are 1 to {PATTERN_BYTES_MAX}", text.len()));
    }
    match Glob::new(text) {
        Ok(glob) => Ok((text.clone(), glob.compile_matcher())),
        Err(error) => Err(format!("'{}' is not a pattern: {}", cut(text, 64), error.kind())),
    }
}
