//! `use`: what tasks refer to by name.

use baton_types::check_name;
use serde_json::Value;

use crate::{
    data::kind_of,
    document::{Builder, Fields, extensions, links},
    task::{authentication, raise, try_catch},
};

/// Reads `use`, before any task is.
pub(crate) fn read_use(document: &mut Fields<'_>, builder: &mut Builder) {
    let Some(mut fields) = document.object("use", builder) else { return };
    // Secrets before all: any expression may name one.
    read_secrets(&mut fields, builder);
    // Timeouts first and authentications before tasks: retries and tasks refer to them.
    for (name, value, path) in named(&mut fields, "timeouts", builder) {
        let timeout = builder.timeout_definition(value, &path);
        builder.reusable.timeouts.insert(name, timeout);
    }
    for (name, value, path) in named(&mut fields, "errors", builder) {
        let error = raise::read_error(builder, value, &path);
        builder.reusable.errors.insert(name, error);
    }
    for (name, value, path) in named(&mut fields, "retries", builder) {
        // Where a policy stands, its conditions see the error under its default name.
        builder.scope.push(try_catch::ERROR_DEFAULT.to_owned());
        let retry = try_catch::read_retry(builder, value, &path);
        builder.scope.pop();
        builder.reusable.retries.insert(name, retry);
    }
    for (name, value, path) in named(&mut fields, "authentications", builder) {
        builder.links.note_authentication(&name, value);
        let policy = authentication::read_definition(builder, value, &path);
        builder.reusable.authentications.insert(name, policy);
    }
    links::read_catalogs(&mut fields, builder);
    for (name, value, path) in named(&mut fields, "functions", builder) {
        links::define(builder, &name, value, path);
    }
    extensions::read(&mut fields, builder);
    links::read_functions(builder);
    fields.close(builder);
}

/// The names of the secrets that the document may use.
fn read_secrets(fields: &mut Fields<'_>, builder: &mut Builder) {
    let path = fields.at("secrets");
    match fields.get("secrets") {
        None => {}
        Some(Value::Array(names)) => {
            for (index, name) in names.iter().enumerate() {
                let path = format!("{path}[{index}]");
                if let Some(name) = builder.text(name, &path) {
                    // Names of resources are in small letters, those of the language need not be.
                    if let Err(message) = check_name(&name.to_ascii_lowercase()) {
                        builder.violate(&path, message);
                    }
                    builder.reusable.secrets.insert(name.to_owned());
                }
            }
        }
        Some(other) => builder.violate(&path, format!("must be an array of names, found {}", kind_of(other))),
    }
}

/// The entries of an object of named definitions, with the path of each.
pub(super) fn named<'d>(
    fields: &mut Fields<'d>,
    name: &'static str,
    builder: &mut Builder,
) -> Vec<(String, &'d Value, String)> {
    let Some(entries) = fields.object(name, builder) else { return Vec::new() };
    entries.entries().map(|(key, value)| (key.to_owned(), value, entries.at(key))).collect()
}
