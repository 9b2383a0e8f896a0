//! The command line of a container engine: `docker`, `podman`, or a program that speaks as they do.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use baton_execution::{Fault, fault_type};
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _},
    process::{Child, Command},
};

use super::plan::Create;
use crate::{
    options::RunOptions,
    sandbox::{Finished, find_program, read_all},
};

/// Programs that are looked for, in this order.
const ENGINES: [&str; 2] = ["docker", "podman"];
/// What is read of what the engine says for itself.
const SAID_BYTES_MAX: usize = 64 << 10;

/// An engine that is there. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    program: Arc<PathBuf>,
}

impl Engine {
    /// The engine that is configured, or one that is there.
    pub(super) fn find(options: &RunOptions) -> Result<Self, Fault> {
        let missing = |detail: String| Fault::new(fault_type::CONFIGURATION, 400, detail).non_retryable();
        let program = match &options.container_engine {
            Some(program) if program.is_file() => program.clone(),
            Some(program) => {
                return Err(missing(format!("the setting 'run.container-engine' is '{}', which is no program", program.display())));
            }
            None => ENGINES.into_iter().find_map(find_program).ok_or_else(|| {
                missing("this machine has no container engine: neither 'docker' nor 'podman' is there; install one, or name one by the setting 'run.container-engine'".to_owned())
            })?,
        };
        Ok(Self { program: Arc::new(program) })
    }

    /// Makes a container; its id.
    pub(super) async fn create(&self, create: Create) -> Result<String, Fault> {
        let mut command = self.command(["create"]);
        command.args(create.arguments);
        let said = self.converse("create", command, create.environment.into_bytes()).await?;
        // What comes before tells of the image that was pulled.
        let id = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned();
        if id.is_empty() { Err(self.failed("create", "it gave no id")) } else { Ok(id) }
    }

    /// Starts a container without staying with it.
    pub(super) async fn start(&self, id: &str) -> Result<(), Fault> {
        self.ask(["start", id]).await.map(drop)
    }

    /// Starts a container, feeds it and reads what it writes, to its end.
    pub(super) async fn attach(
        &self,
        id: &str,
        interactive: bool,
        stdin: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Finished, Fault> {
        let flags: &[&str] = if interactive { &["--attach", "--interactive"] } else { &["--attach"] };
        let mut command = self.command(["start"]);
        command.args(flags).arg(id);
        self.collect("start", command, stdin, bytes_max).await
    }

    /// What an ended container wrote.
    pub(super) async fn logs(&self, id: &str, bytes_max: usize) -> Result<Finished, Fault> {
        self.collect("logs", self.command(["logs", id]), Vec::new(), bytes_max).await
    }

    /// Waits for the end of a container; its exit code.
    pub(super) async fn wait(&self, id: &str) -> Result<i32, Fault> {
        let said = self.ask(["wait", id]).await?;
        said.trim().parse().map_err(|_| self.failed("wait", &format!("it gave '{}' as an exit code", said.trim())))
    }

    /// Ids of containers, whatever their state.
    pub(super) async fn list(&self, filter: &str) -> Result<Vec<String>, Fault> {
        self.ids(["ps", "--all", "--no-trunc", "--quiet", "--filter", filter]).await
    }

    /// Ids of containers that run.
    pub(super) async fn list_running(&self, filter: &str) -> Result<Vec<String>, Fault> {
        self.ids(["ps", "--no-trunc", "--quiet", "--filter", filter]).await
    }

    async fn ids<const N: usize>(&self, arguments: [&str; N]) -> Result<Vec<String>, Fault> {
        let said = self.ask(arguments).await?;
        Ok(said.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect())
    }

    /// One property of a container, by a template of the engine's.
    pub(super) async fn inspect(&self, id: &str, template: &str) -> Result<String, Fault> {
        Ok(self.ask(["inspect", "--format", template, id]).await?.trim().to_owned())
    }

    /// Removes a container, running or not; that it is gone already is as good.
    pub(super) async fn remove(&self, id: &str) {
        warn(self.ask(["rm", "--force", id]).await);
    }

    /// Kills a container; that it ended already is as good.
    pub(super) async fn kill(&self, id: &str) {
        warn(self.ask(["kill", id]).await);
    }

    async fn ask<const N: usize>(&self, arguments: [&str; N]) -> Result<String, Fault> {
        self.converse(arguments[0], self.command(arguments), Vec::new()).await
    }

    fn command<const N: usize>(&self, arguments: [&str; N]) -> Command {
        let mut command = Command::new(self.program.as_path());
        // The environment is the server's own: it says where the engine's daemon and credentials are.
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    async fn converse(&self, what: &str, command: Command, stdin: Vec<u8>) -> Result<String, Fault> {
        let Finished { code, stdout, stderr } = self.collect(what, command, stdin, SAID_BYTES_MAX).await?;
        if code == 0 {
            return Ok(String::from_utf8_lossy(&stdout).into_owned());
        }
        Err(self.refusal(what, &stderr))
    }

    /// The fault of a call that failed, with what it said.
    pub(super) fn refusal(&self, what: &str, stderr: &[u8]) -> Fault {
        let complaint = String::from_utf8_lossy(stderr);
        let complaint = complaint.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        self.failed(what, complaint.trim())
    }

    async fn collect(
        &self,
        what: &str,
        mut command: Command,
        stdin: Vec<u8>,
        bytes_max: usize,
    ) -> Result<Finished, Fault> {
        let failed = |error: std::io::Error| self.failed(what, &error.to_string());
        let mut child: Child = command.spawn().map_err(failed)?;
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let feeding = async {
            if let Some(mut input) = input {
                // A process may end without having read its input.
                _ = input.write_all(&stdin).await;
                _ = input.shutdown().await;
            }
            Ok(())
        };
        let ending = async { child.wait().await.map_err(failed) };
        let (stdout, stderr, status, ()) = tokio::try_join!(
            read(stdout, "standard output", bytes_max),
            read(stderr, "standard error", bytes_max),
            ending,
            feeding
        )?;
        Ok(Finished { code: status.code().unwrap_or(-1), stdout, stderr })
    }

    fn failed(&self, what: &str, why: &str) -> Fault {
        let name = self.program.file_name().map_or(self.program.as_path(), Path::new).display();
        Fault::new(fault_type::RUNTIME, 500, format!("the container engine '{name}' fails at '{what}': {why}"))
    }
}

async fn read(from: Option<impl AsyncRead + Unpin>, stream: &'static str, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    read_all(from, stream, bytes_max).await.map_err(|error| error.fault())
}

fn warn(done: Result<String, Fault>) {
    if let Err(fault) = done {
        tracing::warn!(%fault, "a container could not be ended or removed");
    }
}
