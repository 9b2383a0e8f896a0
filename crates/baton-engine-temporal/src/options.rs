//! How to reach Temporal: plain data, and where it comes from.
//!
//! Baton's own settings ([`TemporalOptionsOverrides`]) go before Temporal's own environment variables (`TEMPORAL_ADDRESS` and
//! the others that every Temporal tool reads), those before the profile of a `temporal.toml`, that before the defaults. The
//! reading of Temporal's forms is the client crate's; what is here is the order, the words, and where each value came from.
//!
//! # Invariants
//! - No secret is in any `Debug` output or error: API key, headers, and certificates or keys given as text are [`Hidden`], and a
//!   file that cannot be read as TOML is named by place only.
//! - A file or a profile that somebody named must exist; the file in the usual place may be missing.
//! - An empty variable is as good as none.
//!
//! # Deliberately absent
//! No process environment: the caller passes what it reads from. No codec servers: payloads here are plain JSON, which every
//! codec leaves alone. Switching off the check of the server's name is refused.

mod environment;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::Duration,
};

pub use self::environment::{from_environment, header_variables, resolve};

/// Where Temporal listens unless told otherwise.
pub const ADDRESS_DEFAULT: &str = "127.0.0.1:7233";
/// Its namespace unless told otherwise.
pub const NAMESPACE_DEFAULT: &str = "default";
/// Longest wait for one try to connect.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// Longest wait for the answer to one call.
pub const RPC_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Variables of Temporal's that are read, without `TEMPORAL_GRPC_META_…` ([`header_variables`]) and those of codec servers.
pub const VARIABLES: [&str; 14] = [
    "TEMPORAL_ADDRESS",
    "TEMPORAL_NAMESPACE",
    "TEMPORAL_API_KEY",
    "TEMPORAL_TLS",
    "TEMPORAL_TLS_CLIENT_CERT_PATH",
    "TEMPORAL_TLS_CLIENT_CERT_DATA",
    "TEMPORAL_TLS_CLIENT_KEY_PATH",
    "TEMPORAL_TLS_CLIENT_KEY_DATA",
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH",
    "TEMPORAL_TLS_SERVER_CA_CERT_DATA",
    "TEMPORAL_TLS_SERVER_NAME",
    "TEMPORAL_TLS_DISABLE_HOST_VERIFICATION",
    "TEMPORAL_PROFILE",
    "TEMPORAL_CONFIG_FILE",
];

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Hidden(String);

impl Hidden {
    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Hidden {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A certificate or a key in PEM form.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In this file, read when the connection is made.
    File(PathBuf),
    /// This text.
    Text(Vec<u8>),
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Text(_) => f.write_str("Text(***)"),
        }
    }
}

/// TLS of a connection to Temporal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Whether TLS is used. `None`: if anything else here is set, if there is an API key, or if the address says `https://`.
    pub enabled: Option<bool>,
    /// Who vouches for the server; the system's roots if nobody is named.
    pub ca: Option<Pem>,
    /// Our certificate, for mutual TLS.
    pub cert: Option<Pem>,
    /// The key of our certificate.
    pub key: Option<Pem>,
    /// The name that the server's certificate must have, if not that of the address.
    pub server_name: Option<String>,
}

/// How to reach Temporal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporalOptions {
    /// `host:port`, `http://host:port` or `https://host:port`; port 7233 unless told otherwise.
    pub address: String,
    /// The namespace that Baton's own workflows run in.
    pub namespace: String,
    /// API key, sent with every call.
    pub api_key: Option<Hidden>,
    /// TLS.
    pub tls: TlsOptions,
    /// Further headers of every call, by lower-case name.
    pub headers: BTreeMap<String, Hidden>,
    /// Who Temporal says did something, in its history and its UI.
    pub identity: String,
    /// Longest wait for one try to connect.
    pub connect_timeout: Duration,
    /// Longest wait for the answer to one call.
    pub rpc_timeout: Duration,
}

impl Default for TemporalOptions {
    fn default() -> Self {
        Self {
            address: ADDRESS_DEFAULT.to_owned(),
            namespace: NAMESPACE_DEFAULT.to_owned(),
            api_key: None,
            tls: TlsOptions::default(),
            headers: BTreeMap::new(),
            identity: identity(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            rpc_timeout: RPC_TIMEOUT_DEFAULT,
        }
    }
}

/// Baton's own settings for Temporal: flags, `BATON_TEMPORAL_…`, `[temporal]`. What is `None` is looked for elsewhere.
#[derive(Clone, Debug, Default)]
pub struct TemporalOptionsOverrides {
    /// See [`TemporalOptions::address`].
    pub address: Option<String>,
    /// See [`TemporalOptions::namespace`].
    pub namespace: Option<String>,
    /// See [`TemporalOptions::api_key`].
    pub api_key: Option<Hidden>,
    /// See [`TlsOptions::enabled`].
    pub tls: Option<bool>,
    /// See [`TlsOptions::ca`].
    pub tls_ca: Option<Pem>,
    /// See [`TlsOptions::cert`].
    pub tls_cert: Option<Pem>,
    /// See [`TlsOptions::key`].
    pub tls_key: Option<Pem>,
    /// See [`TlsOptions::server_name`].
    pub tls_server_name: Option<String>,
    /// Which profile of the file, instead of `TEMPORAL_PROFILE`.
    pub profile: Option<String>,
    /// Which file, instead of `TEMPORAL_CONFIG_FILE`.
    pub config_file: Option<PathBuf>,
    /// Headers, added to those of the profile; an empty value removes one. See [`header_variables`].
    pub headers: BTreeMap<String, Hidden>,
    /// See [`TemporalOptions::identity`].
    pub identity: Option<String>,
    /// See [`TemporalOptions::connect_timeout`].
    pub connect_timeout: Option<Duration>,
    /// See [`TemporalOptions::rpc_timeout`].
    pub rpc_timeout: Option<Duration>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Baton's own settings.
    Setting,
    /// This variable of Temporal's.
    Environment(&'static str),
    /// This profile of this file.
    Profile {
        /// The file.
        file: PathBuf,
        /// The profile in it.
        profile: String,
    },
    /// Nobody said anything.
    Default,
}

/// Options, and where each came from.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What holds.
    pub options: TemporalOptions,
    /// By the name of Baton's setting: `address`, `namespace`, `api-key`, `tls`, `tls-ca`, `tls-cert`, `tls-key`,
    /// `tls-server-name`.
    pub origins: BTreeMap<&'static str, Origin>,
}

/// Why there are no options.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    /// A file that was named cannot be read.
    #[error("read Temporal's configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("Temporal's configuration {}: {problem}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, without what stands there.
        problem: String,
    },
    /// A profile that was named is not there.
    #[error("no profile '{profile}' in Temporal's configuration, {looked_at}")]
    NoProfile {
        /// The profile.
        profile: String,
        /// Where it was looked for.
        looked_at: String,
    },
    /// A variable has a value that it cannot have.
    #[error("{variable} is '{found}', allowed are true, false, 1 and 0")]
    NoFlag {
        /// Its name.
        variable: &'static str,
        /// Its value.
        found: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
}

/// `baton@host`, as far as the machine tells its name.
fn identity() -> String {
    let name = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    match name.trim() {
        "" => format!("baton:{}", std::process::id()),
        host => format!("baton:{}@{host}", std::process::id()),
    }
}

#[cfg(test)]
mod tests;
