//! The world outside: a server of the test, which answers as a closure says, and can misbehave.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use serde_json::Value;

/// Paths that begin so are reset before anything was read.
pub(crate) const RESET: &str = "/reset";

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Request {
    /// With the query.
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The value of a header; empty if it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }

    /// The body as JSON; `null` if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// What to answer.
#[derive(Debug)]
pub(crate) enum Reply {
    /// JSON with status 200.
    Json(Value),
    /// Status, lines of the head (each with its line end), and a body.
    Raw(u16, String, Vec<u8>),
    /// Nothing, while the client waits.
    Hang,
    /// Server-sent events that begin so and do not go on.
    Begin(String),
    /// A body of which half is missing.
    Half,
    /// A body that goes on for as long as it is read.
    Endless,
    /// The same, of which the length is said before: 10 GB.
    Huge,
}

/// A server of the test; it goes with the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stub {
    pub(crate) address: SocketAddr,
}

impl Stub {
    pub(crate) fn start(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let handler = Arc::new(handler);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let handler = Arc::clone(&handler);
                // A client that goes away in the middle is no concern of this side.
                thread::spawn(move || drop(serve(&stream, handler.as_ref())));
            }
        });
        Self { address }
    }

    /// Its URL.
    pub(crate) fn url(self) -> String {
        format!("http://{}", self.address)
    }
}

/// Answers the requests of one connection.
fn serve(stream: &TcpStream, handler: &(impl Fn(&Request) -> Reply + ?Sized)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    loop {
        // Closing while something is unread is a reset.
        let mut start = [0; 64];
        let length = stream.peek(&mut start)?;
        if String::from_utf8_lossy(&start[..length]).split(' ').nth(1).is_some_and(|path| path.starts_with(RESET)) {
            return Ok(());
        }
        let Some(request) = read(&mut reader)? else { return Ok(()) };
        let mut out = stream;
        match handler(&request) {
            Reply::Json(body) => write(out, 200, "content-type: application/json\r\n", body.to_string().as_bytes())?,
            Reply::Raw(status, head, body) => write(out, status, &head, &body)?,
            Reply::Hang => {
                // Until the client gives up.
                io::copy(&mut reader, &mut io::sink())?;
                return Ok(());
            }
            Reply::Begin(events) => {
                let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
                out.write_all(format!("{head}{:x}\r\n{events}\r\n", events.len()).as_bytes())?;
                io::copy(&mut reader, &mut io::sink())?;
                return Ok(());
            }
            Reply::Half => {
                return out.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 64\r\n\r\n{\"half\": ",
                );
            }
            Reply::Huge => {
                out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 10000000000\r\n\r\n")?;
                loop {
                    out.write_all(&[b'x'; 0x1000])?;
                }
            }
            Reply::Endless => {
                out.write_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ntransfer-encoding: chunked\r\n\r\n")?;
                let chunk = [b"10000\r\n", vec![b'x'; 0x10000].as_slice(), b"\r\n"].concat();
                loop {
                    out.write_all(&chunk)?;
                }
            }
        }
    }
}

fn write(mut out: &TcpStream, status: u16, head: &str, body: &[u8]) -> io::Result<()> {
    let start = format!("HTTP/1.1 {status} Status\r\n{head}content-length: {}\r\n\r\n", body.len());
    out.write_all(&[start.as_bytes(), body].concat())
}

/// The next request; nothing if the client is done.
fn read(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { path, headers, body: Vec::new() };
    let length = request.header("content-length").parse().unwrap_or(0);
    reader.by_ref().take(length).read_to_end(&mut request.body)?;
    Ok(Some(request))
}
