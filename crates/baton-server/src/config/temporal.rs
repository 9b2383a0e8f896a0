//! `[temporal]`: where Temporal is, and what is done there.
//!
//! What is left open here (empty, or `auto`) is decided by Temporal's own environment variables and by profiles in
//! `temporal.toml`; see [`TemporalConfig`].

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use toml::Value;

use super::HiddenText;

/// Task queue that workers poll if nothing else is said.
const TASK_QUEUE_DEFAULT: &str = "baton";
/// Events in the history of a workflow's run after which it goes on in a new one. Temporal warns at 10,240 and ends a run
/// at 51,200.
const CONTINUE_AS_NEW_EVENTS_DEFAULT: u32 = 10_000;

/// Where Programs run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EngineKind {
    /// In the server itself.
    #[default]
    Embedded,
    /// In workflows of Temporal's.
    Temporal,
}

/// `[temporal]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TemporalConfig {
    /// `HOST:PORT` or a URL of the frontend. Empty: as Temporal's own settings say, else `127.0.0.1:7233`.
    pub address: String,
    /// Namespace that executions run in. Empty: as Temporal's own settings say, else `default`.
    pub namespace: String,
    /// Task queue that workers poll.
    pub task_queue: String,
    /// Key that the frontend wants. Empty: as Temporal's own settings say, else none.
    pub api_key: HiddenText,
    /// Whether the connection is encrypted.
    pub tls: Tls,
    /// File of the certificate authority, PEM. Empty: as Temporal's own settings say, else the system's.
    pub tls_ca: String,
    /// File of the client's certificate, PEM.
    pub tls_cert: String,
    /// File of the client's key, PEM.
    pub tls_key: String,
    /// Name that the frontend's certificate must have, if it is not that of the address.
    pub tls_server_name: String,
    /// Profile of `temporal.toml`. Empty: as `TEMPORAL_PROFILE` says, else `default`.
    pub profile: String,
    /// Path of `temporal.toml`. Empty: as `TEMPORAL_CONFIG_FILE` says, else Temporal's own place for it.
    pub config_file: String,
    /// Namespaces whose task tokens are taken as return addresses. With `engine.kind = "temporal"` and nothing here: the one
    /// that executions run in.
    pub callback_namespaces: Names,
    /// Whether `baton server` also runs a worker.
    #[serde(deserialize_with = "or_text")]
    pub worker: bool,
    /// Events in the history of a run after which an execution goes on in a new run.
    #[serde(deserialize_with = "or_text")]
    pub continue_as_new_events: u32,
}

impl Default for TemporalConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            namespace: String::new(),
            task_queue: TASK_QUEUE_DEFAULT.to_owned(),
            api_key: HiddenText::default(),
            tls: Tls::Auto,
            tls_ca: String::new(),
            tls_cert: String::new(),
            tls_key: String::new(),
            tls_server_name: String::new(),
            profile: String::new(),
            config_file: String::new(),
            callback_namespaces: Names::default(),
            worker: true,
            continue_as_new_events: CONTINUE_AS_NEW_EVENTS_DEFAULT,
        }
    }
}

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// As Temporal's own settings say; else if there is an API key or a certificate.
    #[default]
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl Serialize for Tls {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::On => serializer.serialize_bool(true),
            Self::Off => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for Tls {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = Value::deserialize(deserializer)?;
        match (found.as_bool(), found.as_str()) {
            (_, Some("auto")) => Ok(Self::Auto),
            (Some(true), _) | (_, Some("true")) => Ok(Self::On),
            (Some(false), _) | (_, Some("false")) => Ok(Self::Off),
            _ => Err(D::Error::custom(format!("{found} is not a choice; allowed are true, false and 'auto'"))),
        }
    }
}

/// A list of names; as a text, with commas between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names(pub Vec<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = match Value::deserialize(deserializer)? {
            Value::String(text) => {
                text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect()
            }
            list => Vec::<String>::deserialize(list).map_err(|error| D::Error::custom(error.message()))?,
        };
        match names.iter().find(|name| name.trim().is_empty()) {
            Some(name) => Err(D::Error::custom(format!("'{name}' is not a name"))),
            None => Ok(Self(names)),
        }
    }
}

/// A value as it is, or as a text: flags and the environment have nothing else.
pub(super) fn or_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display> + Deserialize<'de>,
{
    match Value::deserialize(deserializer)? {
        Value::String(text) => text.trim().parse().map_err(|error| D::Error::custom(format!("'{text}': {error}"))),
        other => T::deserialize(other).map_err(|error| D::Error::custom(error.message())),
    }
}
