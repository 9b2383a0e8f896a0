//! From the path of a field to the bytes that a message should point at.

use std::ops::Range;

use super::tree::{Body, Node};

/// Characters of a key that paths show; longer keys are cut (`baton_workflow` does so).
const KEY_SHOWN_MAX: usize = 77;

/// Where `path` is in a document: the value of a scalar, else the key of it, else the nearest key around.
///
/// `of_key` says that the key itself is what is wrong.
pub(super) fn locate(root: &Node, path: &str, of_key: bool) -> Range<usize> {
    let (at, rest) = deepest(Step { node: root, key: None }, path);
    // A part that is not there: what is around it is shown by its key.
    at.shown(of_key || !rest.is_empty())
}

/// The step that leaves least of the path; keys may hold dots, so there can be several ways.
fn deepest<'t, 'p>(at: Step<'t>, path: &'p str) -> (Step<'t>, &'p str) {
    steps(at.node, path)
        .into_iter()
        .map(|(next, left)| deepest(next, left))
        .min_by_key(|(_, left)| left.len())
        .unwrap_or((at, path))
}

#[derive(Clone, Copy)]
struct Step<'t> {
    node: &'t Node,
    key: Option<&'t Node>,
}

impl Step<'_> {
    fn shown(self, of_key: bool) -> Range<usize> {
        let is_scalar = matches!(self.node.body, Body::Scalar { .. } | Body::Alias);
        match self.key {
            Some(key) if of_key || !is_scalar || self.node.span.is_empty() => key.span.clone(),
            _ => first_line(self.node),
        }
    }
}

/// A collection is shown by its beginning, not whole.
fn first_line(node: &Node) -> Range<usize> {
    match &node.body {
        Body::Scalar { .. } | Body::Alias => node.span.clone(),
        Body::Mapping { entries, .. } => entries.first().map_or(node.span.clone(), |(key, _)| key.span.clone()),
        Body::Sequence { items, .. } => items.first().map_or(node.span.clone(), first_line),
    }
}

/// What one part of a path, a key or an index, can lead to.
fn steps<'t, 'p>(node: &'t Node, path: &'p str) -> Vec<(Step<'t>, &'p str)> {
    if path.is_empty() {
        return Vec::new();
    }
    match &node.body {
        Body::Mapping { entries, .. } => {
            let path = path.strip_prefix('.').unwrap_or(path);
            let step = |(key, value): &'t (Node, Node)| {
                let left = after_key(path, key.scalar()?)?;
                Some((Step { node: value, key: Some(key) }, left))
            };
            entries.iter().filter_map(step).collect()
        }
        Body::Sequence { items, .. } => {
            let step = || {
                let (index, left) = path.strip_prefix('[')?.split_once(']')?;
                let node = items.get(index.parse::<usize>().ok()?)?;
                Some((Step { node, key: None }, left))
            };
            step().into_iter().collect()
        }
        Body::Scalar { .. } | Body::Alias => Vec::new(),
    }
}

fn after_key<'p>(path: &'p str, key: &str) -> Option<&'p str> {
    let left = if let Some(left) = path.strip_prefix(key) {
        left
    } else {
        let (cut, _) = key.char_indices().nth(KEY_SHOWN_MAX)?;
        path.strip_prefix(&key[..cut])?.strip_prefix("...")?
    };
    (left.is_empty() || left.starts_with(['.', '['])).then_some(left)
}

#[cfg(test)]
mod tests {
    use crate::yaml::tree;

    fn found<'t>(text: &'t str, path: &str, of_key: bool) -> &'t str {
        let tree = tree::parse(text).unwrap();
        &text[super::locate(&tree.documents[0], path, of_key)]
    }

    #[test]
    fn a_path_is_found_where_it_stands() {
        let text = "document: {name: x}\ndo:\n  - one:\n      set: {a.b: 1, a: {b: [7, é]}}\n      then: on\n  - {}\n";
        for (path, of_key, shown) in [
            ("document.name", false, "x"),
            ("document.name", true, "name"),
            ("document", false, "document"),
            ("document.version", false, "document"),
            ("do[0].one.then", false, "on"),
            ("do[0].one.set.a.b", false, "1"),
            ("do[0].one.set.a.b[1]", false, "é"),
            ("do[0].one", false, "one"),
            ("do[0]", false, "one"),
            ("do[7].x", false, "do"),
            ("", false, "document"),
        ] {
            assert_eq!(found(text, path, of_key), shown, "{path}");
        }
        let key = "k".repeat(100);
        assert_eq!(found(&format!("{key}: {{a: b}}"), &format!("{}....a", "k".repeat(77)), false), "b");
    }
}
