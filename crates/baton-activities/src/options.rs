//! What a server decides about the world outside.

use std::{fmt, path::PathBuf};

use crate::egress::EgressPolicy;

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
    /// Where models are asked unless an agent names another place, such as `https://api.openai.com/v1`
    /// (`BATON_MODEL_BASE_URL`, else `OPENAI_BASE_URL`).
    pub model_base_url: Option<String>,
    /// Key for `model_base_url`, and for nothing else: an agent that names another origin does not get it
    /// (`BATON_MODEL_API_KEY`, else `OPENAI_API_KEY`).
    pub model_api_key: Option<Secret>,
    /// Milliseconds for making a connection.
    pub connect_timeout_ms: u64,
    /// Largest response body that is read, in bytes.
    pub response_bytes_max: usize,
    /// Milliseconds before the first repetition of a model call; doubled for each further one.
    pub model_retry_initial_ms: u64,
    /// What commands and scripts may do.
    pub run: RunOptions,
}

impl Default for ActivitiesOptions {
    fn default() -> Self {
        Self {
            egress: EgressPolicy::default(),
            model_base_url: None,
            model_api_key: None,
            connect_timeout_ms: 10_000,
            response_bytes_max: RESPONSE_BYTES_MAX_DEFAULT,
            model_retry_initial_ms: 500,
            run: RunOptions::default(),
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
    /// `model_base_url` cannot be used.
    #[error("the model base URL '{url}' cannot be used: {why}")]
    ModelBaseUrl {
        /// As it was given.
        url: String,
        /// What is wrong and what is allowed.
        why: String,
    },
    /// `model_api_key` cannot be used.
    #[error("the model API key holds characters that cannot be sent in a header; allowed are visible ASCII characters")]
    ModelApiKey,
}
