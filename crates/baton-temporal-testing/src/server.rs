//! The dev server as a process.
//!
//! Its port is outside the range that the system gives to outgoing connections, so that none of those takes it while the
//! server is down. The database is not fsynced: a killed process leaves what it wrote to the system, and only that is tested.

use std::{
    collections::hash_map::RandomState,
    fs::{self, File},
    hash::BuildHasher as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{eventually, temporal};

/// Ports to choose from: below those of outgoing connections, above those of well-known services.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Starts that may fail because somebody else took a port in between.
const STARTS_MAX: u32 = 8;
/// The dev server looks for work 20 times a second otherwise, and removes a history only half a minute later.
const SETTINGS: [&str; 4] = [
    "history.transferProcessorMaxPollRPS=2000",
    "history.timerProcessorMaxPollRPS=2000",
    "history.transferProcessorUpdateAckInterval=\"500ms\"",
    "history.visibilityProcessorUpdateAckInterval=\"500ms\"",
];
/// Ends the server ($0) and removes its folder ($1), if there is one to be removed, once the test is gone.
const WATCHDOG: &str = r#"read -r line || { kill -9 "$0"; [ -z "$1" ] || rm -rf "$1"; } 2>/dev/null"#;

/// A dev server with the namespace `default`; it goes when this goes.
#[derive(Debug)]
pub struct TemporalServer {
    process: Option<Process>,
    port: u16,
    folder: PathBuf,
    /// The folder, if it is to be removed in the end.
    own: Option<TempDir>,
    settings: Vec<String>,
}

#[derive(Debug)]
struct Process {
    server: Child,
    watchdog: Child,
}

impl TemporalServer {
    /// The server of this process, for tests that leave it alone. It ends with the process.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<TemporalServer> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server over an empty database.
    ///
    /// # Panics
    /// If there is no program for it, or it does not start.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server over an empty database, with dynamic settings (`KEY=JSON`) beside the usual ones.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_with(settings: &[&str]) -> Self {
        let own = tempfile::Builder::new().prefix("baton-temporal-").tempdir().expect("a folder can be made");
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Self::launched(own.path().to_owned(), Some(own), settings)
    }

    /// Starts a server over the database in a folder, which is made there if it is missing.
    ///
    /// # Panics
    /// See [`Self::start`].
    pub fn start_in(folder: &Path) -> Self {
        Self::launched(folder.to_owned(), None, Vec::new())
    }

    fn launched(folder: PathBuf, own: Option<TempDir>, settings: Vec<String>) -> Self {
        let mut server = Self { process: None, port: 0, folder, own, settings };
        server.launch(free_port);
        server
    }

    /// Where its frontend is, such as `127.0.0.1:20123`; the same after a restart.
    pub fn address(&self) -> String {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port)).to_string()
    }

    /// The id of its process; nothing while it is killed.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.server.id())
    }

    /// Ends it as a power failure does, but for the disk's own cache. Nothing happens if that was done before.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Stops its process, so that it neither answers nor closes a connection; [`Self::go_on`] lets it run again.
    ///
    /// # Panics
    /// If it is killed.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process run again.
    ///
    /// # Panics
    /// If it is killed.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("the server runs");
        kill_process(Pid::from_child(&process.server), signal).expect("a child can be signalled");
    }

    /// Starts it again on the same port and database, after a kill or instead of the process that runs.
    ///
    /// # Panics
    /// If it does not start.
    pub fn restart(&mut self) {
        self.kill();
        let port = self.port;
        self.launch(|| port);
    }

    /// Makes a namespace, which can be used at once.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn create_namespace(&self, name: &str) {
        self.cli(&["operator", "namespace", "create", "--namespace", name]);
        eventually("the namespace can be used", || self.ready(name).then_some(()));
    }

    /// Ends a workflow of the namespace `default` as an operator does, without asking it.
    ///
    /// # Panics
    /// If there is no such workflow that runs.
    pub fn terminate_workflow(&self, id: &str, reason: &str) {
        self.cli(&["workflow", "terminate", "--workflow-id", id, "--reason", reason]);
    }

    /// Asks a workflow of the namespace `default` to end.
    ///
    /// # Panics
    /// If there is no such workflow that runs.
    pub fn cancel_workflow(&self, id: &str) {
        self.cli(&["workflow", "cancel", "--workflow-id", id]);
    }

    /// Removes the history of a workflow of the namespace `default`.
    ///
    /// # Panics
    /// If there is no such workflow.
    pub fn delete_workflow(&self, id: &str) {
        self.cli(&["workflow", "delete", "--workflow-id", id, "--yes"]);
    }

    /// What is known of a workflow of the namespace `default`, as JSON text; nothing if there is no such workflow.
    pub fn describe_workflow(&self, id: &str) -> Option<String> {
        self.try_cli(&["workflow", "describe", "--workflow-id", id, "--output", "json"]).ok()
    }

    /// Its history as JSON text, as a replay takes it.
    ///
    /// # Panics
    /// If there is no such workflow.
    pub fn workflow_history(&self, id: &str) -> String {
        self.cli(&["workflow", "show", "--workflow-id", id, "--output", "json"])
    }

    /// Runs the `temporal` command against this server; gives what it prints.
    ///
    /// # Panics
    /// If the command fails.
    #[track_caller]
    pub fn cli(&self, args: &[&str]) -> String {
        self.try_cli(args).unwrap_or_else(|said| panic!("temporal {}: {said}", args.join(" ")))
    }

    /// Runs the `temporal` command against this server.
    ///
    /// # Errors
    /// What a command that fails says.
    ///
    /// # Panics
    /// If there is no program for it.
    pub fn try_cli(&self, args: &[&str]) -> Result<String, String> {
        let output = self
            .command(args)
            .args(["--address", &self.address()])
            .stdin(Stdio::null())
            .output()
            .expect("the program that was found can be run");
        let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(temporal());
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &self.folder).current_dir(&self.folder);
        command
    }

    /// Starts the process on a port that `choose` gives, and waits until it answers.
    fn launch(&mut self, choose: impl Fn() -> u16) {
        fs::create_dir_all(&self.folder).expect("the folder can be made");
        for _ in 0..STARTS_MAX {
            self.port = choose();
            self.process = Some(self.spawn());
            if eventually("the dev server answers", || self.answers()) {
                return;
            }
            // Its port, or one of those that it chooses itself for its parts, was taken.
            self.process = None;
        }
        panic!("the dev server does not start: {}", fs::read_to_string(self.log()).unwrap_or_default());
    }

    fn log(&self) -> PathBuf {
        self.folder.join("temporal.log")
    }

    fn spawn(&self) -> Process {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log can be written");
        let mut command = self.command(&["server", "start-dev", "--headless", "--log-level", "error"]);
        command.args(["--ip", "127.0.0.1", "--port", &self.port.to_string()]);
        command.args(["--db-filename", "temporal.db", "--sqlite-pragma", "synchronous=off"]);
        for setting in SETTINGS.into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.args(["--dynamic-config-value", setting]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file can be shared")).stderr(log);
        let server = command.spawn().expect("the program that was found can be run");
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", WATCHDOG, &server.id().to_string()]);
        watchdog.arg(self.own.as_ref().map_or(Path::new(""), TempDir::path));
        // It must not hold open what a test runner reads from the test.
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Process { server, watchdog: watchdog.spawn().expect("there is a shell") }
    }

    /// Whether it started; nothing while that is not known.
    fn answers(&mut self) -> Option<bool> {
        let process = self.process.as_mut().expect("it was started just now");
        if process.server.try_wait().expect("a child can be waited for").is_some() {
            return Some(false);
        }
        // The port says earlier than a command does that it is too early.
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        self.ready("default").then_some(true)
    }

    /// Whether the shards of a namespace answer: one that does not know a workflow has looked.
    fn ready(&self, namespace: &str) -> bool {
        let asked = self.try_cli(&["workflow", "describe", "--workflow-id", "none", "--namespace", namespace]);
        asked.is_err_and(|said| said.contains("workflow not found"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        // Last: once it was waited for, the id that the watchdog knows may be that of another process.
        let _ = self.server.wait();
    }
}

/// A port that nobody listens on now.
fn free_port() -> u16 {
    let random = RandomState::new().hash_one(std::process::id());
    let length = u64::from(PORTS.end - PORTS.start);
    let first = u16::try_from(random % length).expect("it is less than a length of ports");
    (0..PORTS.end - PORTS.start)
        .map(|next| PORTS.start + (first + next) % (PORTS.end - PORTS.start))
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("one of thousands of ports is free")
}
