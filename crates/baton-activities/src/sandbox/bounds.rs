//! What one job may do, where that is less than what the installation allows.

use std::sync::Arc;

use super::SandboxError;
use crate::options::RunOptions;

/// Bounds of one job; the default is what the installation allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// It runs in a sandbox or not at all, whatever the configuration says.
    pub(crate) sandboxed: bool,
    /// Whether it gets the network; `None`: if the installation allows it.
    pub(crate) network: Option<bool>,
    /// Memory of all its processes together, in bytes.
    pub(crate) memory_bytes_max: Option<u64>,
    /// Processor time of one process, in seconds.
    pub(crate) cpu_seconds_max: Option<u64>,
}

impl Bounds {
    /// What the job may do: the smaller of both.
    ///
    /// # Errors
    /// It needs the network, and the installation gives it to no command.
    pub(super) fn within(&self, all: &Arc<RunOptions>) -> Result<Arc<RunOptions>, SandboxError> {
        if self.network == Some(true) && !all.network {
            let why = "the command needs the network, which the setting 'run.network' gives to none";
            return Err(SandboxError::Unusable(why.to_owned()));
        }
        let own = Self { sandboxed: false, ..self.clone() };
        if own == Self::default() {
            return Ok(Arc::clone(all));
        }
        let mut options = RunOptions::clone(all);
        options.network &= self.network.unwrap_or(true);
        options.memory_bytes_max = options.memory_bytes_max.min(self.memory_bytes_max.unwrap_or(u64::MAX));
        options.cpu_seconds_max = options.cpu_seconds_max.min(self.cpu_seconds_max.unwrap_or(u64::MAX));
        Ok(Arc::new(options))
    }
}
