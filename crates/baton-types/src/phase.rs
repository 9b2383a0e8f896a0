//! The life of an execution.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where an execution is in its life. The last four are final: no later write changes phase, output or error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted, not yet started by an engine.
    Pending,
    /// Started; the condition `Waiting` tells whether it waits and for what.
    Running,
    /// Held by `spec.suspend`: nothing new starts, answers are kept.
    Suspended,
    /// Ended with an output.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended because somebody asked it to.
    Cancelled,
    /// Ended because `spec.timeout` passed.
    TimedOut,
}

impl Phase {
    /// All phases, in the order of a life.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Running, Self::Suspended, Self::Completed, Self::Failed, Self::Cancelled, Self::TimedOut];

    /// The CamelCase word of the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Suspended => "Suspended",
            Self::Completed => "Completed",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::TimedOut => "TimedOut",
        }
    }

    /// Whether the execution has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::TimedOut)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == text).ok_or_else(|| {
            let allowed: Vec<_> = Self::ALL.iter().map(|phase| phase.as_str()).collect();
            format!("'{text}' is not a phase; allowed are {}", allowed.join(", "))
        })
    }
}
