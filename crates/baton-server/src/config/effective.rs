//! What counts of Temporal's settings in the end: Baton's own before Temporal's environment variables, those before a profile
//! of `temporal.toml`, that before the defaults. The order and the reading are [`baton_engine_temporal`]'s.

use std::{collections::BTreeMap, path::PathBuf};

use baton_engine_temporal::{
    Hidden, Origin, Pem, Resolved as Effective, TemporalOptions, TemporalOptionsOverrides, options::header_variables,
    resolve,
};

use toml::Value;

use super::{Config, ConfigError, EngineKind, Resolved, Setting, Source, TemporalConfig, Tls, egress::addresses};
use crate::{
    ServerOptions,
    worker::{TemporalSettings, WorkerKey, WorkerProcessOptions},
};

/// Settings that Temporal's own variables choose by themselves, and those variables.
const CHOICES: [(&str, &str); 2] =
    [("temporal.profile", "TEMPORAL_PROFILE"), ("temporal.config-file", "TEMPORAL_CONFIG_FILE")];

/// The variables of a process.
pub type Variables = BTreeMap<String, String>;

impl Resolved {
    /// How to run the server that is configured. Temporal's own settings are read if anything of it is used.
    ///
    /// # Errors
    /// What is wrong with Temporal's own settings.
    pub fn server_options(&self, environment: &Variables) -> Result<ServerOptions, ConfigError> {
        let temporal = uses_temporal(&self.config).then(|| temporal_settings(&self.config, environment)).transpose()?;
        Ok(ServerOptions { temporal, ..ServerOptions::from(self.config.clone()) })
    }

    /// How to run a worker for the servers at these URLs.
    ///
    /// # Errors
    /// What is wrong with Temporal's own settings.
    pub fn worker_options(
        &self,
        servers: Vec<String>,
        key: WorkerKey,
        environment: &Variables,
    ) -> Result<WorkerProcessOptions, ConfigError> {
        let temporal = temporal_settings(&self.config, environment)?;
        let ServerOptions { mut egress, allow_own_api, models, run, traces, .. } =
            ServerOptions::from(self.config.clone());
        if !allow_own_api {
            egress.own = addresses(&servers);
        }
        Ok(WorkerProcessOptions { servers, key, temporal, egress, models, run, traces })
    }

    /// Every setting, in order of its name, with what Temporal's own settings decide.
    ///
    /// # Errors
    /// What is wrong with Temporal's own settings, if anything of it is used.
    pub fn settings(&self, environment: &Variables) -> Result<Vec<Setting>, ConfigError> {
        let mut settings = self.own_settings();
        match effective(&self.config.temporal, environment) {
            Ok(effective) => {
                for setting in &mut settings {
                    explain(setting, &effective, environment);
                    if setting.name == "temporal.callback-namespaces" {
                        setting.value = Value::from(callback_namespaces(&self.config, &effective.options)).to_string();
                    }
                }
            }
            Err(wrong) if uses_temporal(&self.config) => return Err(wrong),
            Err(_) => {}
        }
        Ok(settings)
    }
}

fn uses_temporal(config: &Config) -> bool {
    config.engine.kind == EngineKind::Temporal || !config.temporal.callback_namespaces.0.is_empty()
}

fn temporal_settings(config: &Config, environment: &Variables) -> Result<TemporalSettings, ConfigError> {
    let connection = effective(&config.temporal, environment)?.options;
    let runs_executions = config.engine.kind == EngineKind::Temporal;
    Ok(TemporalSettings {
        callback_namespaces: callback_namespaces(config, &connection),
        runs_executions,
        task_queue: config.temporal.task_queue.clone(),
        worker: config.temporal.worker,
        continue_as_new_events: config.temporal.continue_as_new_events,
        connection,
    })
}

/// Namespaces whose tokens are answered: those that are named, else that of the executions if they are in Temporal.
fn callback_namespaces(config: &Config, options: &TemporalOptions) -> Vec<String> {
    match config.temporal.callback_namespaces.0.as_slice() {
        [] if config.engine.kind == EngineKind::Temporal => vec![options.namespace.clone()],
        named => named.to_vec(),
    }
}

fn effective(config: &TemporalConfig, environment: &Variables) -> Result<Effective, ConfigError> {
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let pem = |path: &String| text(path).map(|path| Pem::File(PathBuf::from(path)));
    let overrides = TemporalOptionsOverrides {
        address: text(&config.address),
        namespace: text(&config.namespace),
        api_key: text(&config.api_key.0).map(Hidden::from),
        tls: match config.tls {
            Tls::Auto => None,
            Tls::On => Some(true),
            Tls::Off => Some(false),
        },
        tls_ca: pem(&config.tls_ca),
        tls_cert: pem(&config.tls_cert),
        tls_key: pem(&config.tls_key),
        tls_server_name: text(&config.tls_server_name),
        profile: text(&config.profile),
        config_file: text(&config.config_file).map(PathBuf::from),
        headers: header_variables(environment.clone()),
        ..TemporalOptionsOverrides::default()
    };
    resolve(overrides, |name| environment.get(name).cloned()).map_err(|error| ConfigError(chain(&error)))
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |it| it.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Puts what counts in place of what Baton's own settings leave open.
fn explain(setting: &mut Setting, effective: &Effective, environment: &Variables) {
    let chosen = CHOICES.iter().find(|(name, _)| *name == setting.name);
    if let Some((variable, value)) = chosen.and_then(|(_, variable)| Some((*variable, environment.get(*variable)?))) {
        if setting.value.is_empty() && !value.is_empty() {
            (setting.value, setting.source) = (value.clone(), Source::Environment(variable));
        }
        return;
    }
    let Some(name) = setting.name.strip_prefix("temporal.") else { return };
    let Some(origin) = effective.origins.get(name) else { return };
    setting.source = match origin {
        Origin::Setting => return,
        Origin::Environment(variable) => Source::Environment(variable),
        Origin::Profile { file, profile } => Source::Profile { file: file.clone(), profile: profile.clone() },
        Origin::Default => Source::Default,
    };
    if let Some(value) = shown(name, &effective.options) {
        setting.value = value;
    }
}

fn shown(name: &str, options: &TemporalOptions) -> Option<String> {
    let pem = |pem: &Option<Pem>| match pem {
        Some(Pem::File(path)) => path.display().to_string(),
        Some(Pem::Text(_)) => "***".to_owned(),
        None => String::new(),
    };
    Some(match name {
        "address" => options.address.clone(),
        "namespace" => options.namespace.clone(),
        "api-key" => options.api_key.as_ref().map(|_| "***".to_owned()).unwrap_or_default(),
        "tls" => options.tls.enabled.map_or_else(|| "auto".to_owned(), |enabled| enabled.to_string()),
        "tls-ca" => pem(&options.tls.ca),
        "tls-cert" => pem(&options.tls.cert),
        "tls-key" => pem(&options.tls.key),
        "tls-server-name" => options.tls.server_name.clone().unwrap_or_default(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use toml::Table;

    use super::*;
    use crate::config::resolve;

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn resolved(file: &str, environment: &Variables) -> Resolved {
        resolve(&[], |name| environment.get(name).cloned(), file.parse::<Table>().unwrap()).unwrap()
    }

    fn setting(settings: &[Setting], name: &str) -> (String, String) {
        let found = settings.iter().find(|it| it.name == name).unwrap();
        (found.value.clone(), found.source.to_string())
    }

    #[test]
    fn own_settings_go_before_temporals_environment_before_its_profile_before_the_default() {
        let folder = tempfile::tempdir().unwrap();
        let profiles = folder.path().join("temporal.toml");
        let text = "[profile.prod]\naddress = 'profile:1'\nnamespace = 'of-profile'\napi_key = 'sk-profile'\n";
        std::fs::write(&profiles, text).unwrap();
        let environment = variables(&[
            ("BATON_ENGINE", "temporal"),
            ("BATON_TEMPORAL_TLS_SERVER_NAME", "baton.example"),
            ("TEMPORAL_ADDRESS", "env:2"),
            ("TEMPORAL_NAMESPACE", "of-env"),
            ("TEMPORAL_PROFILE", "prod"),
            ("TEMPORAL_CONFIG_FILE", profiles.to_str().unwrap()),
            ("TEMPORAL_GRPC_META_TEAM", "ops"),
        ]);
        let resolved = resolved("[temporal]\naddress = 'file:3'\ntask-queue = 'q'\n", &environment);
        let options = resolved.server_options(&environment).unwrap().temporal.unwrap();
        assert_eq!((options.connection.address.as_str(), options.connection.namespace.as_str()), ("file:3", "of-env"));
        assert_eq!(options.connection.api_key.as_ref().unwrap().expose(), "sk-profile");
        assert_eq!(options.connection.headers["team"].expose(), "ops");
        assert_eq!(
            (options.task_queue.as_str(), options.callback_namespaces.as_slice()),
            ("q", &["of-env".to_owned()][..])
        );
        assert!(options.runs_executions && options.worker && !format!("{options:?}").contains("sk-"), "{options:?}");
        let settings = resolved.settings(&environment).unwrap();
        let of_profile = format!("profile prod of {}", profiles.display());
        for (name, value, source) in [
            ("engine.kind", "temporal", "environment, BATON_ENGINE"),
            ("temporal.address", "file:3", "file"),
            ("temporal.namespace", "of-env", "environment, TEMPORAL_NAMESPACE"),
            ("temporal.api-key", "***", &of_profile),
            ("temporal.tls-server-name", "baton.example", "environment, BATON_TEMPORAL_TLS_SERVER_NAME"),
            ("temporal.tls", "auto", "default"),
            ("temporal.profile", "prod", "environment, TEMPORAL_PROFILE"),
            ("temporal.task-queue", "q", "file"),
            ("temporal.callback-namespaces", "[\"of-env\"]", "default"),
            ("temporal.continue-as-new-events", "10000", "default"),
        ] {
            assert_eq!(setting(&settings, name), (value.to_owned(), source.to_owned()), "{name}");
        }
    }

    #[test]
    fn without_anything_of_temporal_none_of_its_settings_can_be_wrong() {
        let environment = variables(&[("TEMPORAL_PROFILE", "gone"), ("HOME", "/nowhere")]);
        let embedded = resolved("", &environment);
        assert!(embedded.server_options(&environment).unwrap().temporal.is_none());
        assert_eq!(setting(&embedded.settings(&environment).unwrap(), "temporal.address").0, "");
        let answers = resolved("[temporal]\ncallback-namespaces = ['a']\n", &environment);
        let wrong = answers.server_options(&environment).unwrap_err().to_string();
        assert!(wrong.starts_with("configuration: ") && wrong.contains("'gone'"), "{wrong}");
        assert_eq!(answers.settings(&environment).unwrap_err().to_string(), wrong);
        let none = Variables::default();
        let answers = resolved("[temporal]\ncallback-namespaces = 'a, b,'\n", &none).server_options(&none).unwrap();
        let settings = answers.temporal.unwrap();
        assert_eq!(settings.callback_namespaces, ["a", "b"]);
        assert!(!settings.runs_executions);
        assert_eq!(settings.connection, TemporalOptions::default());
    }

    #[test]
    fn flags_and_variables_are_texts_whatever_the_type() {
        let flags = [
            ("temporal.worker", "false".to_owned()),
            ("temporal.continue-as-new-events", "500".to_owned()),
            ("temporal.tls", "true".to_owned()),
            ("engine.kind", "temporal".to_owned()),
        ];
        let resolved = resolve(&flags, |_| None, Table::new()).unwrap();
        let options = resolved.server_options(&Variables::default()).unwrap().temporal.unwrap();
        assert_eq!((options.worker, options.continue_as_new_events), (false, 500));
        assert_eq!(options.connection.tls.enabled, Some(true));
        for (setting, value, says) in [
            ("temporal.worker", "perhaps", "'perhaps'"),
            ("temporal.continue-as-new-events", "many", "'many'"),
            ("temporal.continue-as-new-events", "5", "allowed are 16 to 40000"),
            ("temporal.tls", "maybe", "allowed are true, false and 'auto'"),
            ("temporal.task-queue", " ", "temporal.task-queue is empty"),
            ("engine.kind", "cadence", "expected `embedded` or `temporal`"),
        ] {
            let wrong = resolve(&[(setting, value.to_owned())], |_| None, Table::new()).unwrap_err().to_string();
            assert!(wrong.contains(says), "{wrong}");
        }
    }

    #[test]
    fn a_worker_needs_no_engine_to_be_named() {
        let none = Variables::default();
        let resolved = resolved("[temporal]\nnamespace = 'n'\n[model]\nbase-url = 'http://127.0.0.1:1/v1'\n", &none);
        let key = WorkerKey::parse(&"a".repeat(64)).unwrap();
        let options = resolved.worker_options(vec!["http://127.0.0.1:8377".to_owned()], key, &none).unwrap();
        assert_eq!(
            (options.temporal.task_queue.as_str(), options.temporal.connection.namespace.as_str()),
            ("baton", "n")
        );
        let openai = &options.models.providers[&baton_agent::Provider::OpenAi];
        assert_eq!(openai.base_url.as_deref(), Some("http://127.0.0.1:1/v1"));
        assert!(!format!("{options:?}").contains("aaaa"), "{options:?}");
    }
}
