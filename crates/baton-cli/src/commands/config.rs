//! `baton config show`.

use serde_json::json;

use super::Context;
use crate::{
    args::{ConfigCommand, Format},
    failure::Failure,
    output,
    settings::{ProcessEnvironment, Setting, Source},
};

pub(crate) fn config(context: &Context, command: &ConfigCommand) -> Result<(), Failure> {
    let ConfigCommand::Show = command;
    let settings = &context.settings;
    let mut rows: Vec<(String, String, String)> = Vec::new();
    let mut add = |name: &str, setting: &Setting<String>| {
        rows.push((name.to_owned(), setting.value.clone(), setting.source.to_string()));
    };
    add("client.server", &settings.server);
    add("client.namespace", &settings.namespace);
    let format = clap::ValueEnum::to_possible_value(&settings.output.value)
        .map(|it| it.get_name().to_owned())
        .unwrap_or_default();
    add("client.output", &Setting { value: format, source: settings.output.source.clone() });
    add("log-level", &settings.log_level);
    let file = settings.file.as_ref().map_or_else(|| "(none)".to_owned(), |file| file.display().to_string());
    add("config", &Setting { value: file, source: Source::Default });
    let server = crate::local::server_config(settings, &[])?;
    let server = server
        .settings(&ProcessEnvironment::variables())
        .map_err(|error| crate::local::not_configured(settings, &error))?;
    rows.extend(server.into_iter().map(|it| (it.name, it.value, it.source.to_string())));
    let list: Vec<_> =
        rows.iter().map(|(name, value, source)| json!({"name": name, "value": value, "source": source})).collect();
    let text = output::value(context.settings.output.value, &json!(list), || {
        let mut table = vec![vec!["SETTING".to_owned(), "VALUE".to_owned(), "FROM".to_owned()]];
        table.extend(rows.iter().map(|(name, value, source)| vec![name.clone(), value.clone(), source.clone()]));
        output::aligned(&table)
    });
    if context.settings.output.value == Format::Name {
        let names: Vec<_> = rows.iter().map(|(name, _, _)| name.as_str()).collect();
        return context.printer.data(&names.join("\n"));
    }
    context.printer.data(&text)
}
