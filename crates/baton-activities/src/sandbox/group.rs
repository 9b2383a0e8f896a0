//! The process group of a command, and the watchdog that leads it.
//!
//! The watchdog is a shell that does nothing but wait for the end of its standard input, and then kills its group, itself included. The other
//! end of that pipe is held here: it is closed when the command is over, when its future is dropped, and by the kernel
//! when the server itself is killed. The watchdog stands outside of the sandbox, where commands cannot reach it.

use std::{io, path::Path, process::Stdio};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    runtime::Handle,
};

/// What the watchdog does.
const WATCH: &str = "while read -r _; do :; done; kill -9 0";

/// A process group with a working directory; ended when it is dropped.
#[derive(Debug)]
pub(super) struct Group {
    /// `None` once it is ended.
    parts: Option<Parts>,
    id: i32,
    directory: std::path::PathBuf,
}

#[derive(Debug)]
struct Parts {
    watchdog: Child,
    directory: TempDir,
}

impl Group {
    /// Starts the watchdog of a new group.
    pub(super) fn start(directory: TempDir) -> io::Result<Self> {
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
        let path = directory.path().to_owned();
        Ok(Self { parts: Some(Parts { watchdog, directory }), id, directory: path })
    }

    /// Its number.
    pub(super) const fn id(&self) -> i32 {
        self.id
    }

    /// The working directory.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
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
        // The watchdog is the last of the group to die: it signals all of it with one call.
        drop(self.watchdog.stdin.take());
        if let Err(error) = self.watchdog.wait().await {
            tracing::warn!(%error, "wait for the watchdog of a command");
        }
        let directory = self.directory;
        let path = directory.path().to_owned();
        let removed = tokio::task::spawn_blocking(move || directory.close()).await;
        if let Ok(Err(error)) = removed {
            tracing::warn!(path = %path.display(), %error, "remove the working directory of a command");
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let Some(parts) = self.parts.take() else { return };
        // Without a runtime the pipe is closed all the same, and the directory removed.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(parts.end());
        }
    }
}
