//! `baton mcp`: the tools of a server for clients of MCP that start a program and speak over its standard input and output.
//!
//! Every line in is a message, which goes to the server as a request of its own; every message of the answer is a line out.
//! Nothing is kept but the version that an `initialize` has settled, so the server may be started again in between.
//!
//! # Failure
//! A server that does not answer is an error of the protocol for the request in question; the next one is tried anew.

use std::sync::{Arc, Mutex, PoisonError};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use baton_types::{Violation, check_namespace};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    task::JoinSet,
};
use tonic::codegen::{Bytes, http};

use super::Context;
use crate::{client::Client, failure::Failure, printer::Printer};

/// Longest line that is read: what the server takes, and its end.
const LINE_BYTES_MAX: usize = (2 << 20) + 1;
/// Longest answer, or message of a stream.
const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Requests at the same time; further lines wait.
const REQUESTS_MAX: usize = 64;

/// Code of an error that is no error of the server's.
const NOT_REACHED: i64 = -32000;

pub(crate) async fn mcp(context: &Context) -> Result<(), Failure> {
    let namespace = context.namespace().to_owned();
    // It becomes a part of the path, where it must not mean anything else.
    check_namespace(&namespace).map_err(|says| Failure::violations(vec![Violation::new("namespace", says)]))?;
    let bridge = Arc::new(Bridge {
        client: context.client().await?,
        path: format!("/mcp/{namespace}"),
        version: Mutex::new(None),
        printer: context.printer,
    });
    let mut input = BufReader::new(tokio::io::stdin());
    let mut requests = JoinSet::new();
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        if (&mut input).take(limit).read_until(b'\n', &mut line).await? == 0 {
            // The client has gone: nobody reads what is still to come.
            return Ok(());
        }
        if line.len() >= LINE_BYTES_MAX && !line.ends_with(b"\n") {
            return Err(Failure::refused(format!("a message has more than {LINE_BYTES_MAX} bytes")));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        while requests.len() >= REQUESTS_MAX {
            requests.join_next().await;
        }
        while requests.try_join_next().is_some() {}
        let Some(message) = bridge.read(&line)? else { continue };
        let bridge = Arc::clone(&bridge);
        // What settles the version comes before what is said in it.
        if message["method"] == "initialize" {
            bridge.pass(message, line).await;
        } else {
            requests.spawn(async move { bridge.pass(message, line).await });
        }
    }
}

struct Bridge {
    client: Client,
    path: String,
    /// What an `initialize` has settled.
    version: Mutex<Option<String>>,
    printer: Printer,
}

impl Bridge {
    /// A message of the client; one that is none is answered here.
    fn read(&self, line: &[u8]) -> Result<Option<Value>, Failure> {
        match serde_json::from_slice::<Value>(line) {
            Ok(message) if message.is_object() => Ok(Some(message)),
            Ok(_) => self.say(&error(&Value::Null, -32600, "a message is one object")).map(|()| None),
            Err(wrong) => self.say(&error(&Value::Null, -32700, &format!("not JSON: {wrong}"))).map(|()| None),
        }
    }

    /// Sends a message and prints what comes back.
    async fn pass(&self, message: Value, line: Vec<u8>) {
        let id = message.get("id").cloned();
        if let Err(failure) = self.exchange(&message, line).await
            && let Some(id) = id
        {
            let shown = failure.shown(false);
            let said = shown.first().map_or("the server did not answer", String::as_str);
            // A reader that is gone ends the process with its next line.
            let _ = self.say(&error(&id, NOT_REACHED, said.trim_start_matches("error: ")));
        }
    }

    async fn exchange(&self, message: &Value, line: Vec<u8>) -> Result<(), Failure> {
        let response = self.client.post(&self.path, self.headers(message), line).await?;
        let (parts, mut body) = response.into_parts();
        let kind = parts.headers.get(http::header::CONTENT_TYPE).and_then(|it| it.to_str().ok()).unwrap_or_default();
        let mut messages = Messages::of(kind.starts_with("text/event-stream"));
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|broken| Failure::environment("read the answer").because(&broken))?;
            let Ok(data) = frame.into_data() else { continue };
            messages.take(&data)?;
            while let Some(answer) = messages.next() {
                self.answer(&answer)?;
            }
        }
        match messages.rest() {
            Some(answer) => self.answer(&answer),
            None if parts.status.is_success() => Ok(()),
            None => Err(Failure::environment(format!("the server answered {}", parts.status))),
        }
    }

    /// Prints a message of the server.
    fn answer(&self, answer: &Value) -> Result<(), Failure> {
        if let Some(version) = answer["result"]["protocolVersion"].as_str() {
            *self.version.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.to_owned());
        }
        self.say(answer)
    }

    fn say(&self, message: &Value) -> Result<(), Failure> {
        self.printer.data(&message.to_string())
    }

    /// The headers that streamable HTTP wants beside a message: they repeat what it says.
    fn headers(&self, message: &Value) -> http::HeaderMap {
        let mut headers = http::HeaderMap::new();
        let mut put = |name: &'static str, value: &str| {
            if let Ok(value) = http::HeaderValue::from_str(&in_header(value)) {
                headers.insert(name, value);
            }
        };
        put("content-type", "application/json");
        put("accept", "application/json, text/event-stream");
        let params = &message["params"];
        let settled = self.version.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let said = params["_meta"]["io.modelcontextprotocol/protocolVersion"].as_str().map(str::to_owned);
        if let Some(version) = said.or(settled) {
            put("mcp-protocol-version", &version);
        }
        let Some(method) = message["method"].as_str() else { return headers };
        put("mcp-method", method);
        let name = match method {
            "tools/call" | "prompts/get" => &params["name"],
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => &params["uri"],
            "tasks/get" | "tasks/update" | "tasks/cancel" => &params["taskId"],
            _ => return headers,
        };
        if let Some(name) = name.as_str() {
            put("mcp-name", name);
        }
        headers
    }
}

/// A text as the protocol has it in a header: in Base64 where it would not survive as it is.
fn in_header(text: &str) -> String {
    let plain = text.chars().all(|c| (' '..='~').contains(&c)) && text.trim() == text && !text.starts_with("=?base64?");
    if plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

fn error(id: &Value, code: i64, message: &str) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}})
}

/// The messages in a body as it arrives: one, or those of a stream of events.
struct Messages {
    is_stream: bool,
    text: Vec<u8>,
    /// The data of the event that is being read.
    data: String,
}

impl Messages {
    fn of(is_stream: bool) -> Self {
        Self { is_stream, text: Vec::new(), data: String::new() }
    }

    fn take(&mut self, data: &Bytes) -> Result<(), Failure> {
        self.text.extend_from_slice(data);
        if self.text.len() + self.data.len() > MESSAGE_BYTES_MAX {
            return Err(Failure::environment(format!("the answer has more than {MESSAGE_BYTES_MAX} bytes")));
        }
        Ok(())
    }

    /// The next message of a stream, once it is whole.
    fn next(&mut self) -> Option<Value> {
        while self.is_stream {
            let end = self.text.iter().position(|byte| *byte == b'\n')?;
            let line: Vec<u8> = self.text.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            } else if line.is_empty()
                && let Ok(message) = serde_json::from_str(&std::mem::take(&mut self.data))
            {
                return Some(message);
            }
        }
        None
    }

    /// The one message of a body that is no stream.
    fn rest(self) -> Option<Value> {
        let message: Value = serde_json::from_slice(&self.text).ok()?;
        (!self.is_stream && message.get("jsonrpc").is_some()).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_however_they_arrive() {
        let text =
            ": alive\r\n\r\nid: 1\ndata: {\"a\":\r\ndata: 1}\n\nevent: message\ndata:{\"b\": \"κ\"}\n\nretry: 3\n\n";
        for size in 1..text.len() {
            let mut messages = Messages::of(true);
            let mut found = Vec::new();
            for chunk in text.as_bytes().chunks(size) {
                messages.take(&Bytes::copy_from_slice(chunk)).unwrap();
                found.extend(std::iter::from_fn(|| messages.next()));
            }
            assert_eq!(found, [json!({"a": 1}), json!({"b": "κ"})], "in pieces of {size}");
            assert_eq!(messages.rest(), None);
        }
        let mut whole = Messages::of(false);
        whole.take(&Bytes::from_static(br#"{"jsonrpc": "2.0", "id": 1}"#)).unwrap();
        assert!(whole.next().is_none() && whole.rest().is_some());
    }

    #[test]
    fn names_survive_in_headers() {
        for (name, header) in [
            ("tools/call", "tools/call"),
            ("κ", "=?base64?zro=?="),
            (" a", "=?base64?IGE=?="),
            ("a\nb", "=?base64?YQpi?="),
        ] {
            assert_eq!(in_header(name), header);
        }
    }
}
