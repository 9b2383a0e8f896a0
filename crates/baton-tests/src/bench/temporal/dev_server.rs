//! Temporal's dev server for measuring: in memory, so that no disk of Temporal's is measured, and as quick to hand out work
//! as it can be told to be.

use std::{
    fs::File,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use baton_engine_temporal::{
    KIND_ATTRIBUTE, NAME_ATTRIBUTE, NAMESPACE_ATTRIBUTE, PHASE_ATTRIBUTE, TemporalOptions, connect,
};
use temporalio_client::Client;

/// The dev server looks for work 20 times a second otherwise: every step would wait for the next look. As in
/// `baton-temporal-testing`.
const SETTINGS: [&str; 4] = [
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    "history.transferProcessorUpdateAckInterval=\"500ms\"",
    "history.visibilityProcessorUpdateAckInterval=\"500ms\"",
];
/// Starts that may fail because somebody else took a port in between.
const STARTS_MAX: usize = 8;
/// Longest time until a started server answers.
const ANSWERS_WITHIN: Duration = Duration::from_mins(1);
/// Pause between two tries to reach it.
const PAUSE: Duration = Duration::from_millis(50);
/// Ends the server ($0) once the benchmark is gone, however it went: this holds the other end of a pipe.
const WATCHDOG: &str = r#"read -r line || kill -9 "$0" 2>/dev/null"#;

/// A dev server with the namespace `default`; it goes when this goes.
pub(crate) struct DevServer {
    server: Child,
    watchdog: Child,
    address: String,
    flags: Vec<String>,
}

impl DevServer {
    /// Starts one, and waits until it answers. `folder` gets its log.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        for _ in 0..STARTS_MAX {
            let mut started = Self::spawn(folder)?;
            if started.answers().await? {
                return Ok(started);
            }
        }
        let said = std::fs::read_to_string(log(folder)).unwrap_or_default();
        bail!("Temporal's dev server does not start: {said}")
    }

    fn spawn(folder: &Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let log = File::options().create(true).append(true).open(log(folder))?;
        let flags = flags();
        let server = command(folder)
            .args(["server", "start-dev", "--ip", "127.0.0.1", "--port", &port.to_string()])
            .args(&flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start Temporal's dev server")?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, &server.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("start the watchdog of Temporal's dev server")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
        Ok(Self { server, watchdog, address, flags })
    }

    /// Whether it started rather than ended.
    async fn answers(&mut self) -> anyhow::Result<bool> {
        let began = Instant::now();
        loop {
            if self.server.try_wait()?.is_some() {
                return Ok(false);
            }
            match self.client().await {
                Ok(_) => return Ok(true),
                Err(error) if began.elapsed() > ANSWERS_WITHIN => return Err(error),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// A connection of its own.
    pub(crate) async fn client(&self) -> anyhow::Result<Client> {
        Ok(connect(&self.options()).await?)
    }

    /// How it is reached.
    pub(crate) fn options(&self) -> TemporalOptions {
        TemporalOptions { address: self.address.clone(), ..TemporalOptions::default() }
    }

    /// What it was told besides its port.
    pub(crate) fn flags(&self) -> String {
        self.flags.join(" ")
    }
}

impl Drop for DevServer {
    fn drop(&mut self) {
        let _ended = self.server.kill();
        let _ended = self.watchdog.kill();
        let _ended = self.watchdog.wait();
        // Last: once it was waited for, the id that the watchdog knows may be that of another process.
        let _ended = self.server.wait();
    }
}

/// What the program says of its version, such as `temporal version 1.9.1 (Server 1.32.0, UI 2.54.1)`.
pub(crate) fn version(folder: &Path) -> anyhow::Result<String> {
    let output = command(folder).arg("--version").output().context("ask Temporal's dev server for its version")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// No file is named for its database, so it is in memory. The attributes of Baton's executions are there from the beginning:
/// after they were made in a server that runs, it takes a while until they can be used.
fn flags() -> Vec<String> {
    let mut flags: Vec<String> = ["--headless", "--log-level", "error"].map(str::to_owned).into();
    for attribute in [KIND_ATTRIBUTE, NAMESPACE_ATTRIBUTE, NAME_ATTRIBUTE, PHASE_ATTRIBUTE] {
        flags.extend(["--search-attribute".to_owned(), format!("{attribute}=Keyword")]);
    }
    for setting in SETTINGS {
        flags.extend(["--dynamic-config-value".to_owned(), setting.to_owned()]);
    }
    flags
}

/// The program, without anything of the desk's environment that it would read.
fn command(folder: &Path) -> Command {
    let mut command = Command::new(baton_temporal_testing::temporal());
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", folder);
    command
}

fn log(folder: &Path) -> PathBuf {
    folder.join("temporal.log")
}
