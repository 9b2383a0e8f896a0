//! `[run]`: commands, scripts and containers that workflows run on this machine.

use std::{path::PathBuf, time::Duration};

use baton_activities::{Commands, RunOptions, is_container_name};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Bytes, ConfigError, Names, Span, temporal::or_text};

/// Least memory of a command: less than this, interpreters do not start.
const MEMORY_MIN: u64 = 16 << 20;

/// Whether commands are run, and how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CommandsSetting {
    /// Not at all.
    Off,
    /// In a sandbox; refused where there is none.
    #[default]
    Sandboxed,
    /// As the server's own user.
    Unconfined,
}

impl<'de> Deserialize<'de> for CommandsSetting {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let found = toml::Value::deserialize(deserializer)?;
        match found.as_str() {
            Some("off") => Ok(Self::Off),
            Some("sandboxed") => Ok(Self::Sandboxed),
            Some("unconfined") => Ok(Self::Unconfined),
            _ => Err(D::Error::custom(format!(
                "{found} is not a choice; allowed are 'off', 'sandboxed' and 'unconfined'"
            ))),
        }
    }
}

/// `[run]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RunConfig {
    /// Whether commands are run, and how.
    pub commands: CommandsSetting,
    /// Whether they reach the network.
    #[serde(deserialize_with = "or_text")]
    pub network: bool,
    /// Files and directories that they may read beside the system's own.
    pub readable: Names,
    /// Memory of one command.
    pub memory: Bytes,
    /// Processor time of one process.
    pub cpu_time: Span,
    /// Processes and threads of one command.
    #[serde(deserialize_with = "or_text")]
    pub processes: u32,
    /// Largest file that a command may write.
    pub file_size: Bytes,
    /// What is read of a command's output.
    pub output: Bytes,
    /// Scripts in JavaScript that run at a time.
    #[serde(deserialize_with = "or_text")]
    pub scripts: usize,
    /// Program that runs containers. Empty: `docker` or `podman`, whichever is there.
    pub container_engine: PathBuf,
    /// Directories of the host that containers may see, and volumes that all namespaces share.
    pub container_volumes: Names,
}

impl Default for RunConfig {
    fn default() -> Self {
        let options = RunOptions::default();
        Self {
            commands: CommandsSetting::default(),
            network: options.network,
            readable: Names::default(),
            memory: Bytes(options.memory_bytes_max),
            cpu_time: Span(Duration::from_secs(options.cpu_seconds_max)),
            processes: options.processes_max,
            file_size: Bytes(options.file_bytes_max),
            output: Bytes(options.output_bytes_max as u64),
            scripts: options.scripts_max,
            container_engine: PathBuf::new(),
            container_volumes: Names::default(),
        }
    }
}

impl RunConfig {
    /// What no command could run with.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let memory = self.memory.0;
        if memory < MEMORY_MIN {
            return Err(ConfigError(format!(
                "run.memory is {}, it must be {} or more",
                self.memory,
                Bytes(MEMORY_MIN)
            )));
        }
        if !(1..=65_536).contains(&self.processes) {
            return Err(ConfigError(format!("run.processes is {}, allowed are 1 to 65536", self.processes)));
        }
        if !(1..=256).contains(&self.scripts) {
            return Err(ConfigError(format!("run.scripts is {}, allowed are 1 to 256", self.scripts)));
        }
        // An output is recorded, and what is recorded has this limit.
        if !(1..=4 << 20).contains(&self.output.0) {
            return Err(ConfigError(format!("run.output is {}, allowed are 1B to 4MiB", self.output)));
        }
        if let Some(path) = self.readable.0.iter().find(|path| !path.starts_with('/')) {
            return Err(ConfigError(format!("run.readable has '{path}', it must be an absolute path")));
        }
        let is_volume = |it: &&String| it.starts_with('/') || is_container_name(it);
        match self.container_volumes.0.iter().find(|it| !is_volume(it)) {
            Some(it) => Err(ConfigError(format!(
                "run.container-volumes has '{it}', it must be an absolute path or the name of a volume"
            ))),
            None => Ok(()),
        }
    }
}

impl From<RunConfig> for RunOptions {
    fn from(config: RunConfig) -> Self {
        let paths = |names: Names| names.0.into_iter().map(PathBuf::from).collect();
        Self {
            commands: match config.commands {
                CommandsSetting::Off => Commands::Off,
                CommandsSetting::Sandboxed => Commands::Sandboxed,
                CommandsSetting::Unconfined => Commands::Unconfined,
            },
            network: config.network,
            memory_bytes_max: config.memory.0,
            cpu_seconds_max: config.cpu_time.0.as_secs().max(1),
            processes_max: config.processes,
            file_bytes_max: config.file_size.0,
            output_bytes_max: usize::try_from(config.output.0).unwrap_or(usize::MAX),
            scripts_max: config.scripts,
            readable: paths(config.readable),
            container_engine: (!config.container_engine.as_os_str().is_empty()).then_some(config.container_engine),
            container_volumes: paths(config.container_volumes),
        }
    }
}
