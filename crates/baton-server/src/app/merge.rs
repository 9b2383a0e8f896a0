//! JSON merge patch (RFC 7386), and the paths at which two values differ.

use serde_json::Value;

/// Puts `patch` over `target`: `null` removes, objects are merged, everything else replaces.
///
/// Recursion is bounded by the depth at which JSON from outside is refused.
pub(crate) fn merge_patch(target: &mut Value, patch: Value) {
    let Value::Object(changes) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let Value::Object(fields) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            fields.shift_remove(&key);
        } else {
            merge_patch(fields.entry(key).or_insert(Value::Null), change);
        }
    }
}

/// Paths below `path` at which `new` differs from `old`: every leaf of objects; lists are compared whole. A field that is
/// `null` counts as left out.
pub(crate) fn changed_paths(path: &str, old: &Value, new: &Value, paths: &mut Vec<String>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                changed_paths(&join(path, key), value, after.get(key).unwrap_or(&Value::Null), paths);
            }
            for (key, value) in after.iter().filter(|(key, value)| !value.is_null() && !before.contains_key(*key)) {
                changed_paths(&join(path, key), &Value::Null, value, paths);
            }
        }
        _ if old == new => {}
        _ => paths.push(path.to_owned()),
    }
}

fn join(path: &str, key: &str) -> String {
    format!("{path}.{key}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut target = original.clone();
            merge_patch(&mut target, patch.clone());
            assert_eq!(target, result, "{original} with {patch}");
        }
    }

    #[test]
    fn every_changed_path_is_named() {
        let old = json!({"a": 1, "b": {"c": [1], "d": 2}, "gone": true, "null": null});
        let new = json!({"a": 2, "b": {"c": [1, 2], "d": 2}, "new": 1});
        let mut paths = Vec::new();
        changed_paths("spec", &old, &new, &mut paths);
        assert_eq!(paths, ["spec.a", "spec.b.c", "spec.gone", "spec.new"]);
    }
}
