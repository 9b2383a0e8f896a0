//! Configuration: from a TOML file, the environment and flags to [`ServerOptions`].
//!
//! Every source is a table of the same shape; [`resolve`] lays one over the other and reads the result once. So there is
//! one list of settings, [`Config`], and one place that knows their types and defaults.
//!
//! # Invariants
//! - Unknown keys are errors that name the key; durations and sizes have units; a secret is shown as `***`.
//! - The environment and the file come from the caller, so tests need neither. Temporal's own file alone is read here, where
//!   the environment says that it is.

mod effective;
mod egress;
mod models;
mod place;
mod run;
mod temporal;
mod traces;

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, time::Duration};

use axum::http::Uri;
use baton_engine::EngineOptions;
use baton_store::{Keep, StoreOptions};
use baton_types::{format_duration, parse_duration};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::{Table, Value};

pub use self::{
    effective::Variables,
    egress::EgressConfig,
    models::{ModelConfig, ModelsConfig, PriceConfig, ProviderConfig, UnknownPriceConfig},
    place::{Advertise, StoreUrl, StoreUrlSetting},
    run::{CommandsSetting, RunConfig},
    temporal::{EngineKind, Names, TemporalConfig, Tls},
    traces::TracesConfig,
};
use crate::{EventsOptions, Lifecycle, PORT_DEFAULT, ReportOptions, ServerOptions, UpkeepOptions};

/// Environment variables and the settings that they are. Of two for one setting, the first that is set counts.
pub const ENVIRONMENT: &[(&str, &str)] = &[
    ("BATON_LISTEN", "listen"),
    ("BATON_ADVERTISE", "advertise"),
    ("BATON_DATA_DIR", "data-dir"),
    ("BATON_KEY_FILE", "key-file"),
    ("BATON_STORE_URL", "store.url"),
    ("BATON_MODEL_BASE_URL", "model.base-url"),
    ("OPENAI_BASE_URL", "model.base-url"),
    ("BATON_MODEL_API_KEY", "model.api-key"),
    ("OPENAI_API_KEY", "model.api-key"),
    ("ANTHROPIC_BASE_URL", "models.anthropic.base-url"),
    ("ANTHROPIC_API_KEY", "models.anthropic.api-key"),
    ("GEMINI_API_KEY", "models.gemini.api-key"),
    ("BATON_DEFAULT_CATALOG", "workflows.default-catalog"),
    ("BATON_EGRESS_ALLOW_PRIVATE", "egress.allow-private"),
    ("BATON_EGRESS_ALLOWED", "egress.allowed"),
    ("BATON_EGRESS_ALLOW_OWN_API", "egress.allow-own-api"),
    ("BATON_RUN_COMMANDS", "run.commands"),
    ("BATON_RUN_NETWORK", "run.network"),
    ("BATON_RUN_READABLE", "run.readable"),
    ("BATON_RUN_CONTAINER_ENGINE", "run.container-engine"),
    ("BATON_RUN_CONTAINER_VOLUMES", "run.container-volumes"),
    ("BATON_EVENTS_SINK", "events.sink"),
    ("BATON_LIFECYCLE_SINK", "events.lifecycle-sink"),
    ("BATON_LIFECYCLE", "events.lifecycle"),
    ("BATON_TRACES_ENDPOINT", "traces.endpoint"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "traces.endpoint"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "traces.headers"),
    ("BATON_TRACES_CONTENT", "traces.content"),
    ("OTEL_SERVICE_NAME", "traces.service-name"),
    ("BATON_ENGINE", "engine.kind"),
    ("BATON_TEMPORAL_COMPATIBLE", "temporal-compatible"),
    ("BATON_TEMPORAL_ADDRESS", "temporal.address"),
    ("BATON_TEMPORAL_NAMESPACE", "temporal.namespace"),
    ("BATON_TEMPORAL_TASK_QUEUE", "temporal.task-queue"),
    ("BATON_TEMPORAL_API_KEY", "temporal.api-key"),
    ("BATON_TEMPORAL_TLS", "temporal.tls"),
    ("BATON_TEMPORAL_TLS_CA", "temporal.tls-ca"),
    ("BATON_TEMPORAL_TLS_CERT", "temporal.tls-cert"),
    ("BATON_TEMPORAL_TLS_KEY", "temporal.tls-key"),
    ("BATON_TEMPORAL_TLS_SERVER_NAME", "temporal.tls-server-name"),
    ("BATON_TEMPORAL_PROFILE", "temporal.profile"),
    ("BATON_TEMPORAL_CONFIG_FILE", "temporal.config-file"),
    ("BATON_TEMPORAL_CALLBACK_NAMESPACES", "temporal.callback-namespaces"),
    ("BATON_TEMPORAL_WORKER", "temporal.worker"),
    ("BATON_TEMPORAL_CONTINUE_AS_NEW_EVENTS", "temporal.continue-as-new-events"),
];

/// Settings of which one environment variable decides only together with the other of its family: a key of one provider
/// never goes to another one's URL.
const MODEL_FAMILIES: [(&str, &str); 2] =
    [("BATON_MODEL_BASE_URL", "BATON_MODEL_API_KEY"), ("OPENAI_BASE_URL", "OPENAI_API_KEY")];

/// All settings of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Config {
    /// Address to listen on; loopback only.
    pub listen: SocketAddr,
    /// Where other servers of the same store reach this one. Empty: where it listens.
    pub advertise: Advertise,
    /// Directory of the data.
    pub data_dir: PathBuf,
    /// File of the key of callback tokens. Empty: `baton.key` in the directory of the data.
    pub key_file: PathBuf,
    /// Answer Temporal's own calls for completing activities, for Baton's tokens.
    #[serde(deserialize_with = "temporal::or_text")]
    pub temporal_compatible: bool,
    /// The provider `openai` of models, by its older name.
    pub model: ModelConfig,
    /// Providers of models, and prices.
    pub models: ModelsConfig,
    /// Workflows.
    pub workflows: WorkflowsConfig,
    /// Whom executions may call.
    pub egress: EgressConfig,
    /// Commands, scripts and containers.
    pub run: RunConfig,
    /// The store.
    pub store: StoreConfig,
    /// The engine.
    pub engine: EngineConfig,
    /// Temporal.
    pub temporal: TemporalConfig,
    /// Upkeep and retention.
    pub upkeep: UpkeepConfig,
    /// Events.
    pub events: EventsConfig,
    /// Traces.
    pub traces: TracesConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], PORT_DEFAULT)),
            advertise: Advertise::default(),
            data_dir: PathBuf::from("baton-data"),
            key_file: PathBuf::new(),
            temporal_compatible: false,
            model: ModelConfig::default(),
            models: ModelsConfig::default(),
            workflows: WorkflowsConfig::default(),
            egress: EgressConfig::default(),
            run: RunConfig::default(),
            store: StoreConfig::default(),
            engine: EngineConfig::default(),
            temporal: TemporalConfig::default(),
            upkeep: UpkeepConfig::default(),
            events: EventsConfig::default(),
            traces: TracesConfig::default(),
        }
    }
}

/// `[workflows]`
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct WorkflowsConfig {
    /// Endpoint of the catalog that calls of `name:version@default` mean. Empty: there is none.
    pub default_catalog: String,
}

/// `[store]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct StoreConfig {
    /// URL of a PostgreSQL database. Empty: the embedded store in the directory of the data.
    pub url: StoreUrlSetting,
    /// Page cache.
    pub cache: Bytes,
    /// Reading connections.
    pub readers: usize,
    /// Below this much free disk new work is refused.
    pub free_min: Bytes,
    /// Upper bound of the database file; 0 for what the disk holds.
    pub database_max: Bytes,
    /// Use a network file system at the data's risk.
    pub allow_network_filesystem: bool,
}

impl Default for StoreConfig {
    fn default() -> Self {
        let options = StoreOptions::default();
        Self {
            url: StoreUrlSetting::default(),
            cache: Bytes(options.cache_bytes as u64),
            readers: options.readers,
            free_min: Bytes(options.free_bytes_min),
            database_max: Bytes(options.database_bytes_max.unwrap_or_default()),
            allow_network_filesystem: options.allow_network_filesystem,
        }
    }
}

/// `[engine]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EngineConfig {
    /// Where Programs run.
    pub kind: EngineKind,
    /// Worker threads; 0 for one per processor.
    pub workers: usize,
    /// Waiting executions kept in memory.
    pub resident_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self { kind: EngineKind::default(), workers: 0, resident_max: EngineOptions::default().resident_max }
    }
}

/// `[upkeep]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UpkeepConfig {
    /// Time between two rounds of the reconcilers.
    pub period: Span,
    /// Pause between two scans for objects whose owners are gone.
    pub scan_period: Span,
    /// Changes that watches can resume from: at least so many.
    pub keep_changes: u64,
    /// And at least so old.
    pub keep_changes_for: Span,
}

impl Default for UpkeepConfig {
    fn default() -> Self {
        let options = UpkeepOptions::default();
        let age = Duration::from_millis(u64::try_from(options.keep.age_ms).unwrap_or_default());
        Self {
            period: Span(options.period),
            scan_period: Span(options.scan_period),
            keep_changes: options.keep.revisions,
            keep_changes_for: Span(age),
        }
    }
}

/// `[events]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct EventsConfig {
    /// How long events are kept for those who listen.
    pub retention: Span,
    /// How many at most; of too many, the oldest of the namespace that has the most go.
    pub keep_max: usize,
    /// How many bytes of them at most.
    pub keep_bytes: Bytes,
    /// URL that gets what workflows emit. Empty: nobody.
    pub sink: String,
    /// URL that gets lifecycle events. Empty: nobody.
    pub lifecycle_sink: String,
    /// Which of them.
    pub lifecycle: Lifecycle,
}

impl Default for EventsConfig {
    fn default() -> Self {
        let options = EventsOptions::default();
        Self {
            retention: Span(options.retention),
            keep_max: options.keep_max,
            keep_bytes: Bytes(options.keep_bytes as u64),
            sink: String::new(),
            lifecycle_sink: String::new(),
            lifecycle: Lifecycle::default(),
        }
    }
}

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
pub struct HiddenText(String);

impl fmt::Debug for HiddenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for HiddenText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}

/// A length of time, written with units: `30s`, `10m`, `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let span = parse_duration(&text).map_err(D::Error::custom)?;
        if span.is_zero() {
            return Err(D::Error::custom(format!("'{text}' is no time at all; it must be more than 0")));
        }
        Ok(Self(span))
    }
}

/// A number of bytes, written with units: `64MiB`, `1GiB`, or plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

/// Units of sizes, the largest first.
const SIZE_UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = SIZE_UNITS.iter().find(|(_, size)| self.0 > 0 && self.0.is_multiple_of(*size));
        let (unit, size) = fits.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / size)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |found: &dyn fmt::Display| {
            D::Error::custom(format!(
                "'{found}' is not a size; allowed are forms such as '512MiB', '1GiB' and '1048576'"
            ))
        };
        match Value::deserialize(deserializer)? {
            Value::Integer(number) => u64::try_from(number).map(Self).map_err(|_| refused(&number)),
            Value::String(text) => parse_size(&text).map(Self).ok_or_else(|| refused(&text)),
            other => Err(refused(&other)),
        }
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, size) = SIZE_UNITS
        .iter()
        .find_map(|(unit, size)| text.strip_suffix(unit).map(|digits| (digits, *size)))
        .unwrap_or((text, 1));
    digits.trim_end().parse::<u64>().ok()?.checked_mul(size)
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A flag of the command line.
    Flag,
    /// The environment variable of that name.
    Environment(&'static str),
    /// The configuration file.
    File,
    /// A profile of Temporal's own configuration.
    Profile {
        /// Its file.
        file: PathBuf,
        /// Its name.
        profile: String,
    },
    /// Nowhere: it is the default.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment, {name}"),
            Self::File => f.write_str("file"),
            Self::Profile { file, profile } => write!(f, "profile {profile} of {}", file.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(String);

/// One setting as it counts, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Path, such as `store.cache`.
    pub name: String,
    /// As it would be written; `***` for a secret.
    pub value: String,
    /// Where it comes from.
    pub source: Source,
}

/// A configuration and where each setting comes from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// As it counts.
    pub config: Config,
    sources: BTreeMap<String, Source>,
}

impl Resolved {
    /// Every setting as Baton's own sources have it, in order of its name.
    fn own_settings(&self) -> Vec<Setting> {
        let mut leaves = BTreeMap::new();
        if let Ok(table) = Table::try_from(&self.config) {
            flatten("", &Value::Table(table), &mut leaves);
        }
        let source = |name: &str| self.sources.get(name).cloned().unwrap_or(Source::Default);
        let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        leaves
            .iter()
            .map(|(name, value)| Setting { name: name.clone(), value: shown(value), source: source(name) })
            .collect()
    }
}

/// Lays flags over the environment over the file over the defaults.
///
/// `flags` has paths of settings and their values; `environment` reads a variable that is set and not empty; `file` is
/// the file's table without the parts that are not the server's.
///
/// # Errors
/// An unknown key, a value of the wrong type or out of range, with its path.
pub fn resolve(
    flags: &[(&str, String)],
    environment: impl Fn(&str) -> Option<String>,
    file: Table,
) -> Result<Resolved, ConfigError> {
    let mut sources = BTreeMap::new();
    let mut file_leaves = BTreeMap::new();
    flatten("", &Value::Table(file.clone()), &mut file_leaves);
    sources.extend(file_leaves.into_keys().map(|name| (name, Source::File)));
    let mut merged = file;
    let mut taken = Vec::new();
    for (variable, setting) in ENVIRONMENT {
        let foreign_key = MODEL_FAMILIES.iter().any(|(url, key)| {
            key == variable && taken.iter().any(|(name, path)| *path == "model.base-url" && name != url)
        });
        if taken.iter().any(|(_, path)| path == setting) || foreign_key {
            continue;
        }
        if let Some(value) = environment(variable) {
            set(&mut merged, setting, value)?;
            sources.insert((*setting).to_owned(), Source::Environment(variable));
            taken.push((*variable, *setting));
        }
    }
    for (setting, value) in flags {
        set(&mut merged, setting, value.clone())?;
        sources.insert((*setting).to_owned(), Source::Flag);
    }
    let config: Config = merged
        .try_into()
        .map_err(|error: toml::de::Error| ConfigError(error.to_string().trim_end().replace('\n', ": ")))?;
    check(&config)?;
    Ok(Resolved { config, sources })
}

fn check(config: &Config) -> Result<(), ConfigError> {
    for (name, value, allowed) in [
        ("store.readers", config.store.readers, 1..=16),
        ("engine.workers", config.engine.workers, 0..=256),
        ("events.keep-max", config.events.keep_max, 1..=10_000_000),
        ("engine.resident-max", config.engine.resident_max, 16..=10_000_000),
        ("temporal.continue-as-new-events", config.temporal.continue_as_new_events as usize, 16..=40_000),
    ] {
        if !allowed.contains(&value) {
            return Err(ConfigError(format!(
                "{name} is {value}, allowed are {} to {}",
                allowed.start(),
                allowed.end()
            )));
        }
    }
    config.egress.check()?;
    config.traces.check()?;
    for (name, url) in [("events.sink", &config.events.sink), ("events.lifecycle-sink", &config.events.lifecycle_sink)]
    {
        if !url.is_empty() && !is_receiver(url) {
            return Err(ConfigError(format!("{name} is not a URL of http or https without user and password")));
        }
    }
    config.run.check()?;
    config.models.check()?;
    if config.temporal.task_queue.trim().is_empty() {
        return Err(ConfigError("temporal.task-queue is empty, it must be a name".to_owned()));
    }
    Ok(())
}

/// Whether events can be sent to a URL. It is not shown: it may hold a key.
fn is_receiver(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    })
}

fn set(table: &mut Table, path: &str, value: String) -> Result<(), ConfigError> {
    match path.split_once('.') {
        None => {
            table.insert(path.to_owned(), Value::String(value));
            Ok(())
        }
        Some((head, rest)) => match table.entry(head).or_insert_with(|| Value::Table(Table::new())) {
            Value::Table(inner) => set(inner, rest, value),
            other => Err(ConfigError(format!("{head} is {other}, it must be a table"))),
        },
    }
}

fn flatten(path: &str, value: &Value, leaves: &mut BTreeMap<String, Value>) {
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                flatten(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, inner, leaves);
            }
        }
        leaf => {
            leaves.insert(path.to_owned(), leaf.clone());
        }
    }
}

/// Without anything of Temporal's; [`Resolved::server_options`] has it.
impl From<Config> for ServerOptions {
    fn from(config: Config) -> Self {
        let Config {
            listen,
            advertise,
            data_dir,
            key_file,
            temporal_compatible,
            model,
            models,
            workflows,
            egress,
            run,
            store,
            engine,
            temporal: _,
            upkeep,
            events,
            traces,
        } = config;
        let engine_default = EngineOptions::default();
        let text = |text: String| (!text.is_empty()).then_some(text);
        Self {
            listen,
            advertise: text(advertise.0),
            key_file: (!key_file.as_os_str().is_empty()).then_some(key_file),
            store_url: store.url.0,
            temporal_compatible,
            models: models::options(model, models),
            default_catalog: text(workflows.default_catalog),
            egress: egress.policy(),
            allow_own_api: egress.allow_own_api,
            run: run.into(),
            traces: traces.options(),
            store: StoreOptions {
                cache_bytes: usize::try_from(store.cache.0).unwrap_or(usize::MAX),
                readers: store.readers,
                free_bytes_min: store.free_min.0,
                database_bytes_max: (store.database_max.0 > 0).then_some(store.database_max.0),
                allow_network_filesystem: store.allow_network_filesystem,
                ..StoreOptions::default()
            },
            engine: EngineOptions {
                workers: if engine.workers == 0 { engine_default.workers } else { engine.workers },
                resident_max: engine.resident_max,
            },
            upkeep: UpkeepOptions {
                period: upkeep.period.0,
                scan_period: upkeep.scan_period.0,
                keep: Keep {
                    revisions: upkeep.keep_changes,
                    age_ms: i64::try_from(upkeep.keep_changes_for.0.as_millis()).unwrap_or(i64::MAX),
                },
            },
            events: EventsOptions {
                retention: events.retention.0,
                keep_max: events.keep_max,
                keep_bytes: usize::try_from(events.keep_bytes.0).unwrap_or(usize::MAX),
            },
            reports: ReportOptions {
                sink: text(events.sink),
                lifecycle_sink: text(events.lifecycle_sink),
                lifecycle: events.lifecycle,
            },
            ..Self::new(data_dir)
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_activities::{Commands, RunOptions, Secret};
    use baton_agent::Provider;

    use super::*;

    fn environment<'a>(pairs: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| pairs.iter().find(|(variable, _)| *variable == name).map(|(_, value)| (*value).to_owned())
    }

    fn from_file(text: &str) -> Result<Resolved, ConfigError> {
        resolve(&[], |_| None, text.parse().unwrap())
    }

    fn setting(resolved: &Resolved, name: &str) -> (String, Source) {
        let found = resolved.own_settings().into_iter().find(|it| it.name == name).unwrap();
        (found.value, found.source)
    }

    #[test]
    fn flag_over_environment_over_file_over_default() {
        let file = "data-dir = '/file'\nlisten = '127.0.0.1:1'\n[store]\ncache = '64MiB'\n".parse().unwrap();
        let variables = [("BATON_DATA_DIR", "/env"), ("BATON_LISTEN", "127.0.0.1:2")];
        let resolved = resolve(&[("listen", "127.0.0.1:3".to_owned())], environment(&variables), file).unwrap();
        assert_eq!(setting(&resolved, "listen"), ("127.0.0.1:3".to_owned(), Source::Flag));
        assert_eq!(setting(&resolved, "data-dir"), ("/env".to_owned(), Source::Environment("BATON_DATA_DIR")));
        assert_eq!(setting(&resolved, "store.cache"), ("64MiB".to_owned(), Source::File));
        assert_eq!(setting(&resolved, "upkeep.period"), ("30s".to_owned(), Source::Default));
        let options = ServerOptions::from(resolved.config);
        assert_eq!((options.listen.port(), options.store.cache_bytes), (3, 64 << 20));
    }

    #[test]
    fn a_secret_is_not_shown_and_not_sent_to_another_provider() {
        let variables = [("OPENAI_API_KEY", "sk-1"), ("OPENAI_BASE_URL", "https://api.example.com/v1")];
        let resolved = resolve(&[], environment(&variables), Table::new()).unwrap();
        assert_eq!(setting(&resolved, "model.api-key"), ("***".to_owned(), Source::Environment("OPENAI_API_KEY")));
        assert!(!format!("{resolved:?}").contains("sk-1"));
        let models = ServerOptions::from(resolved.config).models;
        assert_eq!(models.providers[&Provider::OpenAi].api_key, Some(Secret::new("sk-1")));
        let variables = [("OPENAI_API_KEY", "sk-1"), ("BATON_MODEL_BASE_URL", "http://127.0.0.1:1/v1")];
        let resolved = resolve(&[], environment(&variables), Table::new()).unwrap();
        assert_eq!(setting(&resolved, "model.api-key"), (String::new(), Source::Default));
    }

    #[test]
    fn a_switch_is_a_flag_and_a_variable_too() {
        let variables = [("BATON_TEMPORAL_COMPATIBLE", "true")];
        let file = || "temporal-compatible = true".parse().unwrap();
        for (resolved, expected) in [
            (resolve(&[], |_| None, Table::new()), false),
            (resolve(&[], |_| None, file()), true),
            (resolve(&[], environment(&variables), Table::new()), true),
            (resolve(&[("temporal-compatible", "false".to_owned())], environment(&variables), file()), false),
        ] {
            assert_eq!(ServerOptions::from(resolved.unwrap().config).temporal_compatible, expected);
        }
        let variables = [("BATON_TEMPORAL_COMPATIBLE", "maybe")];
        let refused = resolve(&[], environment(&variables), Table::new()).unwrap_err().to_string();
        assert!(refused.contains("maybe") && refused.contains("temporal-compatible"), "{refused}");
    }

    #[test]
    fn the_store_of_several_servers_is_shown_without_its_password() {
        let variables = [
            ("BATON_STORE_URL", "postgresql://me:secret@db/baton"),
            ("BATON_ADVERTISE", "127.0.0.1:9000"),
            ("BATON_KEY_FILE", "/keys/baton.key"),
        ];
        let resolved = resolve(&[], environment(&variables), Table::new()).unwrap();
        let shown = ("postgresql://me:***@db/baton".to_owned(), Source::Environment("BATON_STORE_URL"));
        assert_eq!(setting(&resolved, "store.url"), shown);
        let options = ServerOptions::from(resolved.config.clone());
        assert!(!format!("{resolved:?} {options:?}").contains("secret"));
        assert_eq!(options.store_url, Some(StoreUrl::new("postgresql://me:secret@db/baton")));
        assert_eq!(options.advertise.as_deref(), Some("127.0.0.1:9000"));
        assert_eq!(options.key_path(), std::path::Path::new("/keys/baton.key"));
        let refused = from_file("[store]\nurl = 'mysql://me:secret@db/baton'").unwrap_err().to_string();
        assert!(refused.contains("it is not a URL of a store") && !refused.contains("secret"), "{refused}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("listne = 1", "listne"),
            ("[store]\ncash = 1", "cash"),
            ("[store]\ncache = 'much'", "'much' is not a size"),
            ("[store]\ncache = -1", "'-1' is not a size"),
            ("[store]\nreaders = 17", "store.readers is 17, allowed are 1 to 16"),
            ("[upkeep]\nperiod = 30", "period"),
            ("[upkeep]\nperiod = '0s'", "more than 0"),
            ("[upkeep]\nperiod = 'soon'", "'soon' is not a duration"),
            ("listen = 'here'", "listen"),
            ("[events]\nsink = 'kafka://x'", "events.sink is not a URL of http or https"),
            ("[events]\nlifecycle-sink = 'http://u:p@x/'", "events.lifecycle-sink is not a URL"),
            ("[events]\nlifecycle = 'all'", "lifecycle"),
            ("[run]\ncommands = 'on'", "\"on\" is not a choice; allowed are 'off', 'sandboxed' and 'unconfined'"),
            ("[run]\nmemory = '1MiB'", "run.memory is 1MiB, it must be 16MiB or more"),
            ("[run]\noutput = '5MiB'", "run.output is 5MiB, allowed are 1B to 4MiB"),
            ("[run]\nprocesses = 0", "run.processes is 0, allowed are 1 to 65536"),
            ("[run]\nscripts = 0", "run.scripts is 0, allowed are 1 to 256"),
            ("[run]\nreadable = ['tools']", "run.readable has 'tools', it must be an absolute path"),
            (
                "[run]\ncontainer-volumes = ['../x']",
                "run.container-volumes has '../x', it must be an absolute path or the name of a volume",
            ),
        ] {
            let refused = from_file(text).unwrap_err().to_string();
            assert!(refused.contains(says), "{text}: {refused}");
        }
    }

    #[test]
    fn commands_and_containers_are_settings() {
        let file = "[run]\nreadable = ['/opt/tools']\ncpu-time = '30s'\nmemory = '64MiB'\n".parse().unwrap();
        let variables = [
            ("BATON_RUN_NETWORK", "true"),
            ("BATON_RUN_COMMANDS", "off"),
            ("BATON_RUN_CONTAINER_ENGINE", "/usr/bin/podman"),
            ("BATON_RUN_CONTAINER_VOLUMES", "/srv/a, cache"),
        ];
        let flags = [("run.commands", "unconfined".to_owned())];
        let resolved = resolve(&flags, environment(&variables), file).unwrap();
        assert_eq!(setting(&resolved, "run.commands"), ("unconfined".to_owned(), Source::Flag));
        let expected = RunOptions {
            commands: Commands::Unconfined,
            network: true,
            memory_bytes_max: 64 << 20,
            cpu_seconds_max: 30,
            readable: vec!["/opt/tools".into()],
            container_engine: Some("/usr/bin/podman".into()),
            container_volumes: vec!["/srv/a".into(), "cache".into()],
            ..RunOptions::default()
        };
        assert_eq!(ServerOptions::from(resolved.config).run, expected);
    }

    #[test]
    fn the_default_configuration_is_the_default_options() {
        let options = ServerOptions::from(Config::default());
        let default = ServerOptions::new("baton-data");
        assert_eq!(format!("{options:?}"), format!("{default:?}"));
    }

    #[test]
    fn sizes_read_back() {
        for text in ["1GiB", "512MiB", "3KiB", "17B", "0B"] {
            assert_eq!(Bytes(parse_size(text).unwrap()).to_string(), text);
        }
        assert_eq!(parse_size("99999999999GiB"), None);
    }
}
