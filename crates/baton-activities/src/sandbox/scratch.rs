//! Where commands have their working directories: in one directory for each process of the server, gone with it.
//!
//! # Invariants
//! - The directory is locked as long as its server lives. One that nobody holds is what a server left that was killed together
//!   with all it had started; [`sweep`] removes it.
//! - What a command wrote is removed by another process: it may be as deep or as large as it likes.

use std::{
    fs::{self, File, Permissions, TryLockError},
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::{Child, Command};

/// How these directories' names begin.
const PREFIX: &str = "baton-run-";
/// Waits for the end of its input, which is that of the server, and removes the directory; once more if something was written meanwhile.
const REMOVE_AT_END: &str = r#"while read -r _; do :; done; rm -rf -- "$0" || { sleep 1; rm -rf -- "$0"; }"#;
/// How often it is tried to make a directory that nobody takes for one that was left.
const ATTEMPTS_MAX: u32 = 8;

/// The directory of this server.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: File,
    /// Removes the directory when its standard input ends.
    _remover: Child,
}

impl Scratch {
    pub(super) fn make() -> io::Result<Self> {
        for _ in 0..ATTEMPTS_MAX {
            let path = tempfile::Builder::new().prefix(PREFIX).tempdir()?.keep();
            // Commands may have another user than the server. They can go through, and see nothing of each other.
            fs::set_permissions(&path, Permissions::from_mode(0o711))?;
            let lock = File::open(&path)?;
            lock.lock()?;
            // Before it was locked, somebody may have swept it away.
            if path.exists() {
                let remover = Command::new("/bin/sh")
                    .args(["-c", REMOVE_AT_END])
                    .arg(&path)
                    .current_dir("/")
                    .process_group(0)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .spawn()?;
                return Ok(Self { path, _lock: lock, _remover: remover });
            }
        }
        Err(io::Error::other("directories for commands vanish as soon as they are made"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Removes what servers left that were killed.
pub(super) async fn sweep() {
    for path in tokio::task::spawn_blocking(left).await.unwrap_or_default() {
        match remove(&path).await {
            Ok(()) => tracing::info!(path = %path.display(), "removed what commands of a killed server had left"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "remove what commands had left"),
        }
    }
}

fn left() -> Vec<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return Vec::new() };
    let named = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    let own = named
        .map(|entry| entry.path())
        .filter(|path| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == user));
    own.filter(|path| !is_held(path)).collect()
}

fn is_held(path: &Path) -> bool {
    let Ok(directory) = File::open(path) else { return true };
    matches!(directory.try_lock(), Err(TryLockError::WouldBlock | TryLockError::Error(_)))
}

/// Removes a directory of a command and whatever is in it.
pub(super) async fn remove(path: &Path) -> io::Result<()> {
    // Most leave nothing.
    if fs::remove_dir(path).is_ok() {
        return Ok(());
    }
    let mut remover = Command::new("/bin/sh");
    remover.args(["-c", r#"exec rm -rf -- "$0""#]).arg(path).current_dir("/");
    let said = remover.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output().await?;
    if said.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&said.stderr).lines().next().unwrap_or("it fails").to_owned()))
}
