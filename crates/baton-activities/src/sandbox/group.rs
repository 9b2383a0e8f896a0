//! The process group of a command, and the watchdog that leads it.
//!
//! The watchdog is a shell that does nothing but wait for the end of its standard input, and then kills its group, itself included. The other
//! end of that pipe is held here: it is closed when the command is over, when its future is dropped, and by the kernel
//! when the server itself is killed. The watchdog stands outside of the sandbox, where commands cannot reach it.

use std::{
    io,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, atomic::AtomicBool},
};

use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

use super::{
    memory,
    scratch::{self, Scratch},
};

/// What the watchdog does.
const WATCH: &str = "while read -r _; do :; done; kill -9 0";

/// A process group with a working directory; ended when it is dropped.
#[derive(Debug)]
pub(super) struct Group {
    /// `None` once it is ended.
    parts: Option<Parts>,
    id: i32,
    directory: PathBuf,
    exceeded: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Parts {
    watchdog: Child,
    watched: memory::Watched,
    directory: PathBuf,
    /// What the directory is in stays as long.
    _scratch: Arc<Scratch>,
}

impl Group {
    /// Starts the watchdog of a new group, with its directory in `scratch`; it may use so much memory.
    pub(super) fn start(
        scratch: Arc<Scratch>,
        directory: PathBuf,
        memory: &memory::MemoryWatch,
        bytes_max: u64,
    ) -> io::Result<Self> {
        let watchdog = Command::new("/bin/sh")
            .args(["-c", WATCH])
            .env_clear()
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let id = watchdog.id().and_then(|id| i32::try_from(id).ok());
        let id = id.ok_or_else(|| io::Error::other("the watchdog of the command ended at once"))?;
        let watched = memory.watch(id, bytes_max)?;
        let exceeded = watched.exceeded();
        let parts = Parts { watchdog, watched, directory: directory.clone(), _scratch: scratch };
        Ok(Self { parts: Some(parts), id, directory, exceeded })
    }

    /// Its number.
    pub(super) const fn id(&self) -> i32 {
        self.id
    }

    /// The working directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether it was killed for its memory.
    pub(super) fn exceeded(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.exceeded)
    }

    /// Kills what is left of the group and removes its directory.
    pub(super) async fn end(mut self) {
        if let Some(parts) = self.parts.take() {
            parts.end().await;
        }
    }
}

impl Parts {
    async fn end(mut self) {
        // Its number is its own until the watchdog was waited for.
        drop(self.watched);
        // The watchdog is the last of the group to die: it signals all of it with one call.
        drop(self.watchdog.stdin.take());
        if let Err(error) = self.watchdog.wait().await {
            tracing::warn!(%error, "wait for the watchdog of a command");
        }
        if let Err(error) = scratch::remove(&self.directory).await {
            tracing::warn!(path = %self.directory.display(), %error, "remove the working directory of a command");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        // Without a runtime the pipe is closed all the same, and the directory goes with the server's.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(parts.end());
        }
    }
}
