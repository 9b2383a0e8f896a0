//! What a server decides about the world outside.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use baton_agent::{Price, Provider};

use crate::{egress::EgressPolicy, traces::TracesOptions};

/// Largest response that is read where nothing else is said: 8 MiB.
const RESPONSE_BYTES_MAX_DEFAULT: usize = 8 * 1024 * 1024;

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the moment of its use.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Whether commands of this machine are run for workflows: by shell tasks, scripts in Python, MCP servers over stdio.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commands {
    /// Not at all.
    Off,
    /// In a sandbox; refused where there is none.
    #[default]
    Sandboxed,
    /// As the server's own user, with all that it may do.
    Unconfined,
}

/// What commands and scripts may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunOptions {
    /// Whether commands are run, and how.
    pub commands: Commands,
    /// Whether a sandboxed command reaches the network. The policy for outgoing calls does not hold for commands.
    pub network: bool,
    /// Memory of one command, with all of its processes, in bytes; and of one script in JavaScript, and of one container.
    pub memory_bytes_max: u64,
    /// Processor time of one process, and of one script in JavaScript, in seconds.
    pub cpu_seconds_max: u64,
    /// Processes and threads of one command.
    pub processes_max: u32,
    /// Largest file that a command may write, in bytes.
    pub file_bytes_max: u64,
    /// What is read of a command's standard output, and of its standard error, in bytes.
    pub output_bytes_max: usize,
    /// Scripts in JavaScript that run at a time, 1 or more; each takes a thread and memory of this process.
    pub scripts_max: usize,
    /// Files and directories that a sandboxed command may read beside the system's own.
    pub readable: Vec<PathBuf>,
    /// Program that runs containers: speaks as `docker` and `podman` do. `None`: whichever of them is there.
    pub container_engine: Option<PathBuf>,
    /// Directories of the host that containers may see, by absolute paths, and volumes that those of all namespaces share, by
    /// names. Other volumes by name are those of the execution's namespace.
    pub container_volumes: Vec<PathBuf>,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            commands: Commands::default(),
            network: false,
            memory_bytes_max: 512 << 20,
            cpu_seconds_max: 600,
            processes_max: 64,
            file_bytes_max: 256 << 20,
            output_bytes_max: 1 << 20,
            scripts_max: 4,
            readable: Vec::new(),
            container_engine: None,
            container_volumes: Vec::new(),
        }
    }
}

/// Where models are asked, and what they cost.
#[derive(Clone, Debug)]
pub struct ModelsOptions {
    /// Providers; one that is not here is asked at its usual place, without a key.
    pub providers: BTreeMap<Provider, ProviderOptions>,
    /// Prices by the name of the model, before those of the shipped table.
    pub prices: BTreeMap<String, Price>,
    /// What becomes of models whose price is not known.
    pub unknown_price: UnknownPrice,
    /// Milliseconds before the first repetition of a call where the agent says nothing; doubled for each further one.
    pub retry_initial_ms: u64,
}

impl Default for ModelsOptions {
    fn default() -> Self {
        Self {
            providers: BTreeMap::new(),
            prices: BTreeMap::new(),
            unknown_price: UnknownPrice::default(),
            retry_initial_ms: 500,
        }
    }
}

impl ModelsOptions {
    /// Whether there is a place for agents that name neither a provider nor a URL.
    pub fn knows_openai(&self) -> bool {
        self.providers.get(&Provider::OpenAi).is_some_and(|own| own.base_url.is_some())
    }
}

/// One provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderOptions {
    /// Where it is asked unless an agent names another place, such as `https://api.openai.com/v1`.
    pub base_url: Option<String>,
    /// Key for that place, and for nothing else: an agent that names another origin does not get it.
    pub api_key: Option<Secret>,
}

/// What becomes of a call whose price is not known. It never counts as nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownPrice {
    /// It is made, and shown as one of unknown cost.
    #[default]
    Allow,
    /// It is made, and counted with this price.
    Assume(Price),
    /// It is not made.
    Refuse,
}

/// Whether a text is what container engines take for the name of a container or of a volume.
pub fn is_container_name(name: &str) -> bool {
    name.len() <= 255
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Options of [`crate::WorldActivities`].
#[derive(Clone, Debug)]
pub struct ActivitiesOptions {
    /// What may be called.
    pub egress: EgressPolicy,
    /// Models.
    pub models: ModelsOptions,
    /// Milliseconds for making a connection.
    pub connect_timeout_ms: u64,
    /// Largest response body that is read, in bytes.
    pub response_bytes_max: usize,
    /// What commands and scripts may do.
    pub run: RunOptions,
    /// Where traces go; `None` for nowhere.
    pub traces: Option<TracesOptions>,
}

impl Default for ActivitiesOptions {
    fn default() -> Self {
        Self {
            egress: EgressPolicy::default(),
            models: ModelsOptions::default(),
            connect_timeout_ms: 10_000,
            response_bytes_max: RESPONSE_BYTES_MAX_DEFAULT,
            run: RunOptions::default(),
            traces: None,
        }
    }
}

/// Why activities cannot be run at all.
#[derive(Debug, thiserror::Error)]
pub enum ActivitiesError {
    /// TLS cannot be used.
    #[error("set up TLS for outgoing calls")]
    Tls(#[source] rustls::Error),
    /// The HTTP client cannot be made.
    #[error("set up the client for outgoing calls")]
    Client(#[source] reqwest::Error),
    /// The base URL of a provider cannot be used.
    #[error("the model base URL '{url}' cannot be used: {why}")]
    ModelBaseUrl {
        /// As it was given.
        url: String,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// The key of a provider cannot be used.
    #[error("the model API key holds characters that cannot be sent in a header; allowed are visible ASCII characters")]
    ModelApiKey,
    /// Traces cannot be sent with these settings.
    #[error("the {what} of traces cannot be used: {why}")]
    Traces {
        /// Which setting.
        what: String,
        /// What is wrong and what is allowed.
        why: String,
    },
}
