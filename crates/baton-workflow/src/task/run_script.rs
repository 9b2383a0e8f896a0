//! `run: script`: a script in JavaScript or Python, by the activity `script`.
//!
//! The activity's input is `{"language", "code" | "source", "arguments", "environment", "stdin", "return", "await"}`, where
//! `language` is `js` or `python` and `source` is
//! `{"endpoint", "authentication"}`; see [`process`](super::process).

use serde_json::Value;

use crate::{
    document::{Builder, Fields, quoted, shown},
    task::{
        Kind, Place,
        endpoint::Endpoint,
        process::{Field, Head, Part, Process},
    },
    template::Template,
};

/// Names of languages, and what the activity calls them. The specification's table says `js` and `python`, its examples say
/// `javascript` as well.
const LANGUAGES: [(&str, &str); 3] = [("js", "js"), ("javascript", "js"), ("python", "python")];

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut run = fields.need_object("run", builder)?;
    let head = Head::read(builder, fields, &mut run);
    let mut script = run.need_object("script", builder)?;
    let language = script.need_text("language", builder).and_then(|text| {
        let found = LANGUAGES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        if found.is_none() {
            let known = quoted(LANGUAGES.iter().map(|(name, _)| *name));
            builder.violate(&script.at("language"), format!("is '{}', allowed are {known}", shown(text)));
        }
        found.map(|(_, language)| *language)
    });
    run.close(builder);
    match (script.get("code").is_some(), script.get("source").is_some()) {
        (true, false) | (false, true) => {}
        (false, false) => builder.violate(&script.path, "must have one of 'code' and 'source'"),
        (true, true) => builder.violate(&script.at("source"), "stands beside 'code'; a script has one of the two"),
    }
    let source = if script.has("source") { Endpoint::read_resource(builder, &mut script, "source") } else { None };
    let mut part = Part::new(script, builder);
    part.put("language", Field::Template(Template::Literal(Value::from(language.unwrap_or_default()))));
    part.text("code");
    if let Some(source) = source {
        part.put("source", Field::Endpoint(source));
    }
    part.texts("arguments");
    part.map("environment");
    part.text("stdin");
    let parts = part.close();
    language.map(|language| Process::kind("run script", format!("a script in {language}"), head, parts))
}
