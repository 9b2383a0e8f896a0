//! Clients that nobody here wrote: the Python SDKs of MCP and of A2A, from `cargo xtask tools`, driven line by line.

use std::{path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// Longest that a client may take for an answer: it has to start, too, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

/// A client process; it ends with the test.
pub(crate) struct Client {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// What it said when it was ready.
    pub(crate) hello: Value,
}

impl Client {
    /// The client of MCP; `mode` is how it negotiates the version.
    pub(crate) async fn mcp(url: &str, mode: &str, more: &[&str]) -> Self {
        Self::start("mcp_client.py", url, mode, more).await
    }

    /// The client of A2A, over a binding.
    pub(crate) async fn a2a(url: &str, binding: &str, more: &[&str]) -> Self {
        Self::start("a2a_client.py", url, binding, more).await
    }

    async fn start(script: &str, url: &str, how: &str, more: &[&str]) -> Self {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("BATON_TEST_PYTHON")
            .map_or_else(|| here.join("../../target/tools/venv/bin/python"), PathBuf::from);
        assert!(python.exists(), "{} is not there; `cargo xtask tools` makes it", python.display());
        let mut command = Command::new(python);
        command.arg(here.join("tests/api/clients").join(script)).args([url, how]).args(more);
        command.env("NO_PROXY", "127.0.0.1").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut client = Self { _child: child, input, output: BufReader::new(output).lines(), hello: Value::Null };
        client.hello = client.answer().await["ok"].clone();
        client
    }

    async fn answer(&mut self) -> Value {
        let line = timeout(PATIENCE, self.output.next_line()).await.expect("the client answers").unwrap();
        serde_json::from_str(&line.expect("the client goes on; why it ended is in the output of the test")).unwrap()
    }

    /// Has it do something; its answer, with `ok` or `error`.
    pub(crate) async fn ask(&mut self, line: &Value) -> Value {
        self.tell(line).await;
        self.answer().await
    }

    /// As [`Self::ask`], for what goes well.
    #[track_caller]
    pub(crate) fn good<'a>(&'a mut self, line: &'a Value) -> impl Future<Output = Value> + 'a {
        let caller = std::panic::Location::caller();
        async move {
            let answer = self.ask(line).await;
            assert!(answer.get("ok").is_some(), "{caller}: {line} was answered with {answer}");
            answer["ok"].clone()
        }
    }

    /// Begins something; [`Self::told`] gives the answer.
    pub(crate) async fn tell(&mut self, line: &Value) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
    }

    /// The answer to what was begun before.
    pub(crate) async fn told(&mut self) -> Value {
        self.answer().await
    }

    /// Calls a tool of MCP.
    pub(crate) async fn call(&mut self, tool: &str, arguments: Value, meta: Value) -> Value {
        let line = json!({"op": "call", "tool": tool, "arguments": arguments, "meta": meta});
        self.good(&line).await
    }
}
