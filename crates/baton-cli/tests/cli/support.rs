//! Running the binary in an environment of its own.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longest that anything here may take; reaching it is a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The data, of a run that must have gone well.
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// The data as JSON, of a run that must have gone well.
    pub(crate) fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// What was said, of a run that must have ended with `code` and no data.
    pub(crate) fn refused(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{self:?}");
        self.stderr
    }
}

/// The binary with a home folder and variables of its own.
pub(crate) struct Baton {
    home: TempDir,
    variables: Vec<(String, String)>,
}

impl Baton {
    pub(crate) fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A variable that was set.
    pub(crate) fn variable(&self, name: &str) -> String {
        self.variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone()).unwrap()
    }

    /// A folder that goes with this.
    pub(crate) fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Writes a file there and gives its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_baton"));
        command
            .args(args)
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("TMPDIR", self.home.path()).current_dir(root());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.run_with(args, "")
    }

    /// Runs it with something on stdin.
    pub(crate) fn run_with(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap_or(());
        let output = child.wait_with_output().unwrap();
        Output {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Starts it and goes on.
    pub(crate) fn start(&self, args: &[&str]) -> Started {
        let mut child = self.command(args).spawn().unwrap();
        drop(child.stdin.take());
        let lines = lines(child.stderr.take().unwrap());
        Started { child, lines, said: Vec::new() }
    }
}

/// A run that goes on.
pub(crate) struct Started {
    child: Child,
    lines: mpsc::Receiver<String>,
    said: Vec<String>,
}

impl Started {
    /// Waits for a line on stderr that contains `text`.
    pub(crate) fn says(&mut self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => panic!("'{text}' was not said ({error}); this was: {:#?}", self.said),
            }
        }
    }

    /// Reads the first line of stdout; what comes after it is not read.
    pub(crate) fn first_data(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Output {
        let mut stdout = String::new();
        if let Some(mut out) = self.child.stdout.take() {
            out.read_to_string(&mut stdout).unwrap();
        }
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        Output { code: status.code().unwrap_or(-1), stdout, stderr: self.said.join("\n") }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(stderr: ChildStderr) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// A server on a port of its own, and the binary that talks to it.
pub(crate) struct Served {
    pub(crate) baton: Baton,
    pub(crate) data_dir: PathBuf,
    started: Option<Started>,
}

impl Served {
    pub(crate) fn new() -> Self {
        let baton = Baton::new();
        let data_dir = baton.folder().join("data");
        let mut started = baton.start(&["server", "--listen", "127.0.0.1:0", "--data-dir", data_dir.to_str().unwrap()]);
        let line = started.says("listening on http://");
        let url = line.trim_start_matches("listening on ").to_owned();
        Self { baton: baton.with("BATON_SERVER", &url), data_dir, started: Some(started) }
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.baton.run(args)
    }

    /// Stops the server as its operator does.
    pub(crate) fn stop(&mut self) -> Output {
        let started = self.started.take().unwrap();
        started.signal(Signal::TERM);
        started.end()
    }
}

/// The root of the repository: where examples are named from.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
