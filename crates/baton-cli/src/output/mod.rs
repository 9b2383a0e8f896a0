//! Data as text: the API's JSON in several forms, and tables for people.

mod describe;
mod history;
mod speech;
mod table;
mod usage;

use baton_proto::{API_VERSION, v1};
use serde_json::{Value, json};

pub(crate) use describe::describe;
pub(crate) use history::{Row as HistoryRow, fault as fault_words, header as history_header};
pub(crate) use speech::Speech;
pub(crate) use table::{Columns, aligned, artifacts_table, callbacks_table, change_rows, objects_table, waiting_words};
pub(crate) use usage::usage_words;

use crate::{
    args::Format,
    kind::{Kind, Object},
};

/// Milliseconds since 1970, for ages. Commands read the clock once and pass it on.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// One object in any form.
pub(crate) fn object(format: Format, object: &Object) -> String {
    match format {
        Format::Table => objects_table(object.kind(), std::slice::from_ref(object), Columns::Narrow, now_ms()),
        Format::Json => pretty(&object.to_json()),
        Format::Jsonl => object.to_json().to_string(),
        Format::Yaml => yaml(&object.to_json()),
        Format::Name => object.reference(),
    }
}

/// A list in any form. In JSON and YAML it is the API's list.
pub(crate) fn list(
    format: Format,
    kind: Kind,
    metadata: &v1::ListMeta,
    objects: &[Object],
    columns: Columns,
) -> String {
    let whole = || {
        let items: Vec<_> = objects.iter().map(Object::to_json).collect();
        json!({"apiVersion": API_VERSION, "kind": format!("{}List", kind.name()), "metadata": baton_proto::to_json_value(metadata), "items": items})
    };
    match format {
        Format::Table => objects_table(kind, objects, columns, now_ms()),
        Format::Json => pretty(&whole()),
        Format::Jsonl => objects.iter().map(|object| object.to_json().to_string()).collect::<Vec<_>>().join("\n"),
        Format::Yaml => yaml(&whole()),
        Format::Name => objects.iter().map(Object::reference).collect::<Vec<_>>().join("\n"),
    }
}

/// A value in a form that is not made for resources; a table is what `table` makes.
pub(crate) fn value(format: Format, value: &Value, table: impl FnOnce() -> String) -> String {
    match format {
        Format::Table | Format::Name => table(),
        Format::Json => pretty(value),
        Format::Jsonl => value.to_string(),
        Format::Yaml => yaml(value),
    }
}

/// JSON for reading.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// YAML for reading.
pub(crate) fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).unwrap_or_else(|_| value.to_string())
}

#[cfg(test)]
mod tests;
