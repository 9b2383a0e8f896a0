//! Which secrets an agent names: wherever its spec has `{secret: NAME, key: KEY}`, or `authentication: {SCHEME: {use: NAME}}`.
//!
//! Found by their form, in the spec as it is written and as it is pinned: a part of an agent that takes a value of a Secret in one
//! of these forms is known here without being named.

use serde_json::Value;

use crate::definition::Reference;

/// Fields with data of others, in which such an object means nothing.
const FREE_DATA: [&str; 5] = ["parameters", "arguments", "outputSchema", "json", "content"];

/// The secrets, each with the first field that names it. The depth of the spec has been checked.
pub(crate) fn named_in(spec: &Value) -> Vec<Reference> {
    let mut found = Vec::new();
    find(spec, &mut String::new(), &mut found);
    found
}

fn find(value: &Value, path: &mut String, found: &mut Vec<Reference>) {
    let length = path.len();
    match value {
        Value::Object(fields) => {
            let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
            if let (Some(secret), Some(_), 2) = (text("secret"), text("key"), fields.len()) {
                note(secret, format!("{path}.secret"), found);
                return;
            }
            for (name, field) in fields.iter().filter(|(name, _)| !FREE_DATA.contains(&name.as_str())) {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
                if name == "authentication" {
                    find_used(field, path, found);
                }
                find(field, path, found);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                path.extend(["[", &index.to_string(), "]"]);
                find(item, path, found);
                path.truncate(length);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A scheme that takes all that it needs from one secret.
fn find_used(authentication: &Value, path: &str, found: &mut Vec<Reference>) {
    for (scheme, own) in authentication.as_object().into_iter().flatten() {
        if let Some(name) = own.get("use").and_then(Value::as_str) {
            note(name, format!("{path}.{scheme}.use"), found);
        }
    }
}

fn note(name: &str, field: String, found: &mut Vec<Reference>) {
    if !found.iter().any(|known| known.name == name) {
        found.push(Reference { field, name: name.to_owned() });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_found_wherever_an_agent_can_name_one() {
        let of = |name: &str| json!({"secret": name, "key": "k"});
        let data = json!({"properties": of("data"), "authentication": {"bearer": {"use": "data"}}});
        let spec = json!({
            "model": {"apiKey": of("model"), "fallbacks": [{"apiKey": of("fallback")}, {"apiKey": of("model")}],
                      "playback": {"conversations": [{"turns": [{"json": of("data"), "toolCalls": [{"arguments": of("data")}]}]}]}},
            "tools": [
                {"parameters": data, "shell": {"environment": {"A": of("shell"), "B": {"value": "b"}}}},
                {"openapi": {"authentication": {"basic": {"use": "api"}}, "document": {"authentication": {"bearer": {"use": "docs"}}, "content": data}}},
            ],
            "toolServers": [{"definition": {"http": {"headers": {"x": of("header")}, "authentication": {"bearer": {"token": of("bearer")}}}}}],
            "outputSchema": data, "policy": {"rules": [{"arguments": data}]},
        });
        let found: Vec<(String, String)> = named_in(&spec).into_iter().map(|it| (it.field, it.name)).collect();
        let expected = [
            ("model.apiKey.secret", "model"),
            ("model.fallbacks[0].apiKey.secret", "fallback"),
            ("tools[0].shell.environment.A.secret", "shell"),
            ("tools[1].openapi.authentication.basic.use", "api"),
            ("tools[1].openapi.document.authentication.bearer.use", "docs"),
            ("toolServers[0].definition.http.headers.x.secret", "header"),
            ("toolServers[0].definition.http.authentication.bearer.token.secret", "bearer"),
        ];
        assert_eq!(found, expected.map(|(field, name)| (field.to_owned(), name.to_owned())));
    }
}
