//! The `baton` binary as a process: a server over a data directory, and commands that talk to one.

use std::{
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{PATIENCE, eventually, http::Api};

/// Without a reserve on the disk: it would be written anew in every test.
const CONFIG: &str = "[store]\nfree-min = \"0B\"\n";

/// What a process left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder with a configuration and a data directory; it goes when this goes.
pub(crate) struct Home {
    folder: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.configure(CONFIG);
        home
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes the configuration file.
    pub(crate) fn configure(&self, text: &str) {
        std::fs::write(self.folder.path().join("baton.toml"), text).unwrap();
    }

    /// The binary in this environment and no other.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrapped(Command::new(env!("CARGO_BIN_EXE_baton")), args)
    }

    /// `command` with these arguments in the same environment.
    pub(crate) fn wrapped(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", self.folder())
            .env("TMPDIR", self.folder())
            .env("BATON_CONFIG", self.folder().join("baton.toml"))
            .current_dir(self.folder());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// The binary as a server of the data directory, on any port.
    pub(crate) fn server_command(&self) -> Command {
        self.server_command_at("127.0.0.1:0")
    }

    /// The same, at this address.
    pub(crate) fn server_command_at(&self, address: &str) -> Command {
        let mut command = self.command(&["server", "--listen", address, "--data-dir"]);
        command.arg(self.data_dir());
        command
    }

    /// A server that must start.
    pub(crate) fn serve(&self) -> Server {
        Server::start(self.server_command())
    }

    /// A server that must not start: what it said and how it ended.
    pub(crate) fn refused(&self) -> Output {
        Process::start(self.server_command()).end()
    }

    /// Runs a command against a server.
    pub(crate) fn run(&self, server: &Server, args: &[&str]) -> Output {
        self.start(server, args).end()
    }

    /// Starts a command against a server and goes on.
    pub(crate) fn start(&self, server: &Server, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.env("BATON_SERVER", format!("http://{}", server.api.0));
        Process::start(command)
    }
}

/// What a process has said so far, and whether it can say more.
#[derive(Default)]
struct Said {
    text: Mutex<(String, bool)>,
    changed: Condvar,
}

impl Said {
    fn collect(mut from: impl Read + Send + 'static) -> Arc<Self> {
        let said = Arc::new(Self::default());
        let writer = Arc::clone(&said);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let length = from.read(&mut buffer).unwrap_or(0);
                let mut text = writer.text.lock().unwrap();
                text.0.push_str(&String::from_utf8_lossy(&buffer[..length]));
                text.1 = length == 0;
                writer.changed.notify_all();
                if length == 0 {
                    return;
                }
            }
        });
        said
    }

    /// The line with `mark`, once it is whole; nothing if the process will not say it any more.
    fn line(&self, mark: &str) -> Option<String> {
        let whole =
            |text: &str| text.find(mark).and_then(|at| text[at..].find('\n').map(|end| text[at..at + end].to_owned()));
        let waiting = self.text.lock().unwrap();
        let (text, timeout) =
            self.changed.wait_timeout_while(waiting, PATIENCE, |text| whole(&text.0).is_none() && !text.1).unwrap();
        assert!(!timeout.timed_out(), "'{mark}' was not said: {}", text.0);
        whole(&text.0)
    }

    /// Everything, once there will be no more.
    fn all(&self) -> String {
        let waiting = self.text.lock().unwrap();
        let (text, timeout) = self.changed.wait_timeout_while(waiting, PATIENCE, |text| !text.1).unwrap();
        assert!(!timeout.timed_out(), "the process does not close its output: {}", text.0);
        text.0.clone()
    }
}

/// A process of which everything it says is kept.
pub(crate) struct Process {
    child: Child,
    stdout: Arc<Said>,
    stderr: Arc<Said>,
}

impl Process {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let stdout = Said::collect(child.stdout.take().unwrap());
        let stderr = Said::collect(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for a line with `mark` on stdout and gives the line from there on.
    pub(crate) fn prints(&self, mark: &str) -> Option<String> {
        self.stdout.line(mark)
    }

    /// Waits for a line with `mark` on stderr and gives the line from there on.
    pub(crate) fn says(&self, mark: &str) -> Option<String> {
        self.stderr.line(mark)
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Output {
        let status = eventually("the process ends by itself", || self.child.try_wait().unwrap());
        Output { code: status.code().unwrap_or(-1), stdout: self.stdout.all(), stderr: self.stderr.all() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that listens.
pub(crate) struct Server {
    pub(crate) api: Api,
    process: Process,
}

impl Server {
    pub(crate) fn start(command: Command) -> Self {
        let process = Process::start(command);
        let Some(line) = process.says("listening on http://") else {
            panic!("the server did not start: {:?}", process.end())
        };
        Self { api: Api(line.trim_start_matches("listening on http://").trim().parse().unwrap()), process }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    pub(crate) fn says(&self, mark: &str) -> Option<String> {
        self.process.says(mark)
    }

    /// The most memory that it has had so far.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Output {
        self.process.end()
    }

    /// Ends it as its operator does.
    pub(crate) fn stop(self) -> Output {
        self.signal(Signal::TERM);
        self.end()
    }

    /// Ends it as a power failure does, but for the disk's own cache; gives what it had said.
    pub(crate) fn kill(self) -> String {
        self.signal(Signal::KILL);
        self.end().stderr
    }
}
