//! Why a command did not run to its end, and what its task's fault says of it.

use std::{io, path::PathBuf};

use baton_execution::{Fault, fault_type};

/// Why a command did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error(
        "this installation runs no commands: its setting 'run.commands' is 'off', 'sandboxed' and 'unconfined' are the others"
    )]
    Off,
    #[error(
        "this machine has no sandbox to run commands in ({why}); install bubblewrap, or set 'run.commands' to 'unconfined' to run them without one"
    )]
    NoSandbox { why: String },
    #[error(
        "commands of agents run in a sandbox only, and this installation has none: its setting 'run.commands' is 'unconfined', 'sandboxed' is needed"
    )]
    Bare,
    #[error("no program '{program}' in {path}")]
    NotFound { program: String, path: String },
    #[error(
        "the program '{program}' lies at '{}', where commands cannot read; add its directory to the setting 'run.readable'",
        found.display()
    )]
    Unreadable { program: String, found: PathBuf },
    #[error("{0}")]
    Unusable(String),
    #[error("the command wrote more than {bytes_max} bytes to {stream}")]
    Output { stream: &'static str, bytes_max: usize },
    #[error("the command used more than {bytes_max} bytes of memory, which the setting 'run.memory' allows")]
    Memory { bytes_max: u64 },
    #[error("run the command: {what}")]
    Io {
        what: &'static str,
        #[source]
        source: io::Error,
    },
}

impl SandboxError {
    /// The fault of the task.
    pub(crate) fn fault(&self) -> Fault {
        let detail = match self {
            Self::Io { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        };
        match self {
            Self::Io { .. } | Self::Memory { .. } => Fault::new(fault_type::RUNTIME, 500, detail),
            Self::Output { .. } => Fault::new(fault_type::TOO_LARGE, 413, detail).non_retryable(),
            _ => Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable(),
        }
    }
}
