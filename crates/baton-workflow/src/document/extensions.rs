//! `use.extensions`: what is done before and after tasks of a kind.
//!
//! An extension is read once, however many tasks it extends; at run time it applies to every task of its kind that does
//! not itself belong to an extension.

use serde_json::Value;

use crate::{
    data::kind_of,
    document::{Builder, Fields, shown},
    expression::Expression,
    task::BlockId,
};

/// What `extend` may be. `composite` are the tasks that are nothing but lists of tasks.
const TARGETS: [&str; 12] =
    ["all", "call", "composite", "emit", "for", "listen", "raise", "run", "set", "switch", "try", "wait"];

/// An extension, checked.
#[derive(Debug)]
pub(crate) struct Extension {
    extend: &'static str,
    pub(crate) when: Option<Expression>,
    pub(crate) before: Option<BlockId>,
    pub(crate) after: Option<BlockId>,
}

impl Extension {
    /// Whether it is meant for tasks that begin with this word.
    pub(crate) fn covers(&self, keyword: &str) -> bool {
        match self.extend {
            "all" => true,
            "composite" => matches!(keyword, "do" | "fork"),
            word => word == keyword,
        }
    }
}

/// Reads `use.extensions`.
pub(super) fn read(parent: &mut Fields<'_>, builder: &mut Builder) {
    let Some(value) = parent.get("extensions") else { return };
    let path = parent.at("extensions");
    let Value::Array(items) = value else {
        builder.violate(&path, format!("must be a list of extensions, found {}", kind_of(value)));
        return;
    };
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Some((name, extension)) = builder.single(item, &path, "extension") else { continue };
        let pointer = format!("/use/extensions/{index}/{}", crate::task::escape(name));
        if let Some(extension) = read_one(builder, extension, &format!("{path}.{}", shown(name)), &pointer) {
            builder.extensions.push(extension);
        }
    }
}

fn read_one(builder: &mut Builder, value: &Value, path: &str, pointer: &str) -> Option<Extension> {
    let mut fields = Fields::open(value, path, builder)?;
    fields.need("extend", builder);
    let extend = fields.word("extend", &TARGETS, builder);
    let when = fields.expression("when", builder);
    let mut block = |name| {
        let tasks = fields.get(name)?;
        Some(builder.block(tasks, &fields.at(name), &format!("{pointer}/{name}"), false))
    };
    let (before, after) = (block("before"), block("after"));
    fields.close(builder);
    Some(Extension { extend: extend?, when, before, after })
}
