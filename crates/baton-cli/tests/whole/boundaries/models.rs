//! Providers of models, played by a program that others wrote, which keeps a journal of what it was asked.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::http::Api;

/// It runs until this is dropped.
pub(crate) struct Models {
    child: Child,
    api: Api,
    _answers: NamedTempFile,
}

impl Models {
    /// With these answers, in the program's own form.
    pub(crate) fn start(answers: &Value) -> Self {
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        std::fs::write(file.path(), answers.to_string()).unwrap();
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
        let library = std::env::var_os("BATON_TEST_AIMOCK").map_or_else(
            || root.join("target/tools/node/node_modules/@copilotkit/aimock/dist/index.js"),
            PathBuf::from,
        );
        assert!(library.exists(), "{} is not there; `cargo xtask tools` makes it", library.display());
        let mut command = Command::new("node");
        command.arg(root.join("crates/baton-activities/tests/it/servers/models.mjs")).arg(library).arg(file.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("it prints its port first, not '{line}'"));
        Self { child, api: Api(SocketAddr::from((Ipv4Addr::LOCALHOST, port))), _answers: file }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.api.0)
    }

    /// The questions so far.
    pub(crate) fn journal(&self) -> Vec<Value> {
        let entries = self.api.get("/__aimock/journal").expect(200);
        entries.as_array().unwrap().iter().filter(|entry| entry["method"] == "POST").cloned().collect()
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
