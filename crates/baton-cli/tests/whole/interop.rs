//! A client of MCP through `baton mcp`, while the server is killed and started again.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    flows::WORKFLOWS,
    process::{Home, Server},
};

/// The Python SDK of MCP, driven line by line. A client that hangs is ended by whoever runs the tests.
struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    fn start(home: &Home, server: &Server) -> Self {
        let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let python = std::env::var_os("BATON_TEST_PYTHON")
            .map_or_else(|| here.join("../../target/tools/venv/bin/python"), PathBuf::from);
        assert!(python.exists(), "{} is not there; `cargo xtask tools` makes it", python.display());
        let url = format!("http://{}", server.api.0);
        let bridge = json!([env!("CARGO_BIN_EXE_baton"), "mcp", "--server", url]).to_string();
        let script = here.join("../baton-server/tests/api/clients/mcp_client.py");
        let mut command = home.wrapped(Command::new(python), &[&script.display().to_string(), &bridge, "auto"]);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, input, output };
        assert_eq!(client.answer(), json!({"ok": "ready"}));
        client
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the client said '{line}'"))
    }

    fn call(&mut self, tool: &str, arguments: &Value, meta: &Value) -> Value {
        let line = json!({"op": "call", "tool": tool, "arguments": arguments, "meta": meta});
        self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
        self.answer()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_run_is_collected_after_the_server_was_killed() {
    let home = Home::new();
    let server = home.serve();
    let definition = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "nap", "version": "0.1.0"},
        "do": [{"nap": {"wait": {"milliseconds": 300}}}, {"wake": {"set": {"said": "${ \"awake, \" + .who }"}}}],
    });
    let metadata = json!({"name": "nap", "annotations": {"baton.dev/publish": "mcp"}});
    let nap = json!({"metadata": metadata, "spec": {"definition": definition}});
    server.api.post(WORKFLOWS, &nap).expect(201);
    let mut client = Client::start(&home, &server);
    let meta = json!({"baton.dev/wait": "0s", "baton.dev/idempotencyKey": "one"});
    let begun = client.call("workflow_nap", &json!({"who": "you"}), &meta);
    let receipt = &begun["ok"]["result"]["structuredContent"];
    assert_eq!(receipt["state"], "running", "{begun}");

    let address = server.api.0.to_string();
    server.signal(Signal::KILL);
    drop(server);
    let away = client.call("baton_result", &json!({"id": receipt["id"]}), &json!({}));
    assert_eq!(away["error"]["code"], -32000, "the server is away: {away}");
    let _server = Server::start(home.server_command_at(&address));
    // The client, and what is between, are still the same.
    let collected = client.call("baton_result", &json!({"id": receipt["id"]}), &json!({}));
    assert_eq!(collected["ok"]["result"]["structuredContent"], json!({"said": "awake, you"}), "{collected}");
    let again = client.call("workflow_nap", &json!({"who": "you"}), &meta);
    assert_eq!(
        again["ok"]["result"]["structuredContent"],
        json!({"said": "awake, you"}),
        "the same key, the same run: {again}"
    );
}
