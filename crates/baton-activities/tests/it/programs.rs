//! Servers that are programs, from `cargo xtask tools`: each prints its port first, and ends with its standard input.

use std::{path::PathBuf, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// Has a server of Node.js listen on the loopback interface alone, on a free port that it prints, and end with its input.
const LISTEN: &str = r#"
const { Server } = require("node:net");
const listen = Server.prototype.listen;
Server.prototype.listen = function (_, done) {
    this.once("listening", () => { process.stdout.write(this.address().port + "\n"); done(); });
    console.log = () => {};
    return listen.call(this, { port: 0, host: "127.0.0.1" });
};
console.log = () => {};
process.stdin.on("end", () => process.exit(0)).resume();
import(process.argv[1]);
"#;

/// A server that runs until it is dropped.
pub(crate) struct Program {
    _child: Child,
    port: u16,
}

impl Program {
    /// The agent in `servers/agent.py`.
    pub(crate) async fn agent() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/servers/agent.py");
        let mut command = Command::new(tool("venv/bin/python", "BATON_TEST_PYTHON"));
        command.arg(script);
        Self::start(command).await
    }

    /// The MCP server that has everything, by streamable HTTP.
    pub(crate) async fn everything() -> Self {
        let mut command = Command::new("node");
        command.args(["-e", LISTEN]).arg(everything("transports/streamableHttp.js"));
        Self::start(command).await
    }

    /// The MCP server in `servers/trips.py`.
    pub(crate) async fn trips() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/servers/trips.py");
        let mut command = Command::new(tool("venv/bin/python", "BATON_TEST_PYTHON"));
        command.arg(script);
        Self::start(command).await
    }

    /// The server that stands for the providers of models, with the answers in `servers/models.json`.
    pub(crate) async fn models() -> Self {
        let servers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/servers");
        let library = tool("node/node_modules/@copilotkit/aimock/dist/index.js", "BATON_TEST_AIMOCK");
        let mut command = Command::new("node");
        command.arg(servers.join("models.mjs")).arg(library).arg(servers.join("models.json"));
        Self::start(command).await
    }

    async fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let port =
            line.trim().parse().unwrap_or_else(|_| panic!("{command:?} prints its port first; it printed '{line}'"));
        Self { _child: child, port }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

/// A file of the MCP server that has everything.
pub(crate) fn everything(file: &str) -> PathBuf {
    let dist = "node/node_modules/@modelcontextprotocol/server-everything/dist";
    tool(&format!("{dist}/{file}"), "BATON_TEST_MCP_SERVER")
}

/// The MCP server of files.
pub(crate) fn filesystem() -> PathBuf {
    tool("node/node_modules/@modelcontextprotocol/server-filesystem/dist/index.js", "BATON_TEST_MCP_FILES")
        .canonicalize()
        .unwrap()
}

fn tool(path: &str, variable: &str) -> PathBuf {
    if let Some(named) = std::env::var_os(variable) {
        return named.into();
    }
    let made = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target/tools").join(path);
    assert!(made.exists(), "{} is not there; `cargo xtask tools` makes it", made.display());
    made
}
