//! A client of the API over plain sockets: what was answered whole is an [`Answer`], everything else is lost.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use serde_json::Value;

use crate::PATIENCE;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The head as it came.
    pub(crate) head: String,
    pub(crate) text: String,
}

impl Answer {
    /// The body as JSON, of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.json()
    }

    /// The body as JSON; `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The lines of the body, each of which is JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// The stable reason of a refusal, which is a whole Status object.
    #[track_caller]
    pub(crate) fn reason(&self) -> String {
        let status = self.json();
        assert_eq!(
            (status["kind"].as_str(), status["code"].as_u64()),
            (Some("Status"), Some(u64::from(self.status))),
            "{}",
            self.text
        );
        status["batonReason"].as_str().unwrap_or_default().to_owned()
    }
}

/// A server's API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Api(pub(crate) SocketAddr);

impl Api {
    /// One request. An answer that did not come, or not whole, is an error.
    pub(crate) fn send(self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<Answer> {
        let mut open = self.open(method, path, headers, body.len())?;
        // A server may refuse before it has read everything: its answer is what counts.
        let written = open.stream.write_all(body);
        open.finish().map_err(|error| written.err().unwrap_or(error))
    }

    /// A request whose body is still to come.
    pub(crate) fn open(self, method: &str, path: &str, headers: &[(&str, &str)], length: usize) -> io::Result<Open> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let root = if path.starts_with('/') { "" } else { "/apis/baton.dev/v1/" };
        let mut head = format!(
            "{method} {root}{path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {length}\r\n",
            self.0
        );
        for (name, value) in headers {
            head = format!("{head}{name}: {value}\r\n");
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        Ok(Open { stream, bytes: Vec::new() })
    }

    /// A stream of which the first line of the body has come.
    pub(crate) fn follow(self, path: &str) -> io::Result<Open> {
        let mut open = self.open("GET", path, &[], 0)?;
        open.until(b"}\n")?;
        Ok(open)
    }

    /// A POST of JSON that the server has begun to work on: it has asked for the body.
    pub(crate) fn begin_post(self, path: &str, length: usize) -> io::Result<Open> {
        let mut open =
            self.open("POST", path, &[("content-type", "application/json"), ("expect", "100-continue")], length)?;
        open.until(b"\r\n\r\n")?;
        open.bytes.clear();
        Ok(open)
    }

    pub(crate) fn try_post(self, path: &str, body: &Value) -> io::Result<Answer> {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    #[track_caller]
    pub(crate) fn post(self, path: &str, body: &Value) -> Answer {
        self.try_post(path, body).unwrap_or_else(|error| panic!("POST {path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn get(self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn delete(self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"").unwrap_or_else(|error| panic!("DELETE {path}: {error}"))
    }
}

/// A request whose answer has not come whole.
pub(crate) struct Open {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Open {
    /// Reads until `mark` has come.
    pub(crate) fn until(&mut self, mark: &[u8]) -> io::Result<()> {
        while find(&self.bytes, mark).is_none() {
            self.more()?;
        }
        Ok(())
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.bytes.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }

    /// The lines of JSON that have come, up to the first with `mark`; an error if the answer ends before.
    pub(crate) fn lines_until(&mut self, mark: &str) -> io::Result<Vec<Value>> {
        self.until(mark.as_bytes())?;
        let at = find(&self.bytes, mark.as_bytes()).unwrap_or_default();
        while find(&self.bytes[at..], b"\n").is_none() {
            self.more()?;
        }
        let end = at + find(&self.bytes[at..], b"\n").unwrap_or_default();
        // Between the lines there are lengths of chunks.
        let text = String::from_utf8_lossy(&self.bytes[..end]);
        Ok(text.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// What has come so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Sends the body.
    pub(crate) fn write(&mut self, body: &[u8]) -> io::Result<()> {
        self.stream.write_all(body)
    }

    /// Reads the rest.
    pub(crate) fn finish(mut self) -> io::Result<Answer> {
        let read = self.stream.read_to_end(&mut self.bytes);
        match parse(&self.bytes) {
            Some(answer) => Ok(answer),
            None => Err(read.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// An answer out of all that came; nothing if it is not whole.
fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let field = |name: &str| {
        let of = |line: &str| {
            line.split_once(':')
                .filter(|(found, _)| found.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim().to_owned())
        };
        head.lines().find_map(of)
    };
    let rest = &bytes[end + 4..];
    let body = if field("transfer-encoding").is_some() {
        joined(rest)?
    } else {
        let length: usize = field("content-length").map_or(Some(0), |length| length.parse().ok())?;
        rest.get(..length)?.to_vec()
    };
    Some(Answer { status, text: String::from_utf8_lossy(&body).into_owned(), head })
}

/// Chunks joined; nothing if the last one is missing.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?.trim(), 16).ok()?;
        rest = &rest[line + 2..];
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}

/// Where `part` begins.
pub(crate) fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}
