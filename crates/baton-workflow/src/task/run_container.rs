//! `run: container`: a process in a container, by the activity `container`.
//!
//! The activity's input is `{"image", "name", "command", "arguments", "environment", "ports", "volumes", "stdin",
//! "pullPolicy", "cleanup", "cleanupAfter", "return", "await"}`, `cleanupAfter` in milliseconds; see
//! [`process`](super::process).

use serde_json::Value;

use crate::{
    document::{Builder, Fields},
    task::{
        Kind, Place,
        process::{Field, Head, Part, Process},
    },
    template::Template,
};

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut run = fields.need_object("run", builder)?;
    let head = Head::read(builder, fields, &mut run);
    let mut container = run.need_object("container", builder)?;
    run.close(builder);
    container.need("image", builder);
    let pull = container.word("pullPolicy", &["ifNotPresent", "always", "never"], builder).unwrap_or("ifNotPresent");
    let lifetime = container.object("lifetime", builder).map(|lifetime| read_lifetime(builder, lifetime));
    let mut part = Part::new(container, builder);
    for name in ["image", "name", "command", "stdin"] {
        part.text(name);
    }
    part.texts("arguments");
    for name in ["environment", "ports", "volumes"] {
        part.map(name);
    }
    part.put("pullPolicy", word(pull));
    for (name, field) in lifetime.unwrap_or_else(|| vec![("cleanup", word("never"))]) {
        part.put(name, field);
    }
    Some(Process::kind("run container", "a container", head, part.close()))
}

fn read_lifetime(builder: &mut Builder, mut lifetime: Fields<'_>) -> Vec<(&'static str, Field)> {
    lifetime.need("cleanup", builder);
    let cleanup = lifetime.word("cleanup", &["always", "never", "eventually"], builder).unwrap_or("never");
    let mut read = vec![("cleanup", word(cleanup))];
    let after = lifetime.duration("after", builder);
    match (cleanup, lifetime.has("after")) {
        ("eventually", false) => builder.violate(&lifetime.at("after"), "is required with 'cleanup: eventually'"),
        ("always" | "never", true) => builder.violate(&lifetime.at("after"), "applies to 'cleanup: eventually' only"),
        _ => read.extend(after.map(|after| ("cleanupAfter", Field::Delay(after)))),
    }
    lifetime.close(builder);
    read
}

fn word(word: &str) -> Field {
    Field::Template(Template::Literal(Value::from(word)))
}
