//! Servers that are programs of this machine, spoken to by their standard input and output.
//!
//! They run as all commands do: in the sandbox, and only if the configuration allows commands. Each call starts one and
//! ends it.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use baton_execution::{Fault, fault_type};
use rmcp::{RoleClient, transport::async_rw::AsyncRwTransport};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, ReadBuf},
    time::timeout,
};

use super::{
    Question, StdioPlace,
    failure::{too_large, too_late},
};
use crate::{
    jsonrpc,
    outgoing::Deadline,
    redact::Secrets,
    sandbox::{Job, Sandbox},
    secrets::Vault,
};

/// What is told of the end of a server's standard error, in characters.
const WORDS_LENGTH_MAX: usize = 2048;
/// What is kept of it, in bytes: more, so that no secret in what is told has lost its beginning.
const WORDS_BYTES_MAX: usize = 512 << 10;
/// How long a server may take to end once its standard input has ended.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a server's last words are waited for once it is silent.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Asks a server.
pub(super) async fn ask(
    sandbox: &Sandbox,
    place: &StdioPlace,
    question: &Question<'_>,
    deadline: Deadline,
) -> Result<Value, Fault> {
    let who = format!("the server '{}'", jsonrpc::said(&place.command));
    let mut secrets = Secrets::default();
    place.environment.values().for_each(|value| secrets.add(value));
    let job = Job {
        program: place.command.clone(),
        arguments: place.arguments.clone(),
        environment: place.environment.clone(),
        ..Job::default()
    };
    let mut running = sandbox.spawn(job).await.map_err(|error| error.fault())?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (running.stdin.take(), running.stdout.take(), running.stderr.take())
    else {
        return Err(Fault::new(fault_type::RUNTIME, 500, format!("{who} was started without pipes")));
    };
    let exceeded = Arc::new(AtomicBool::new(false));
    let stdout = Limited { inner: stdout, left: question.answer_bytes_max, exceeded: Arc::clone(&exceeded) };
    // The limit is kept by the reader: the SDK drops a line that is too long, and lets those wait who wait for it.
    let transport = AsyncRwTransport::<RoleClient, _, _>::new(stdout, stdin).with_max_line_length(usize::MAX);
    let words = Arc::new(Mutex::new(Vec::new()));
    let listening = tokio::spawn(listen(stderr, Arc::clone(&words)));
    let asked = pin!(question.ask(&who, transport));
    match timeout(deadline.left(), asked).await {
        Ok(Ok(answer)) => {
            // Nobody waits for its end, but it may end in peace.
            tokio::spawn(async move {
                _ = timeout(GOODBYE, listening).await;
                drop(running);
            });
            Ok(answer)
        }
        Ok(Err(_)) if exceeded.load(Ordering::Relaxed) => Err(too_large(&who, question.answer_bytes_max)),
        Ok(Err(trouble)) => {
            _ = timeout(LAST_WORDS.min(deadline.left()), listening).await;
            if let Some(killed) = running.killed() {
                return Err(killed.fault());
            }
            let words = words.lock().unwrap_or_else(PoisonError::into_inner);
            let words = Vault::redact(&secrets.redact(&String::from_utf8_lossy(&words)));
            let words = words.trim();
            let skipped = words.chars().count().saturating_sub(WORDS_LENGTH_MAX);
            let told: String = words.chars().skip(skipped).collect();
            Err(trouble.into_fault(&who, || Some(ended(&who, &told))))
        }
        Err(_) => Err(too_late(&who, deadline.total_ms)),
    }
}

/// The fault of a server that ended before it answered.
fn ended(who: &str, words: &str) -> Fault {
    let said = if words.is_empty() { String::new() } else { format!("; its last words were: {words}") };
    Fault::new(fault_type::COMMUNICATION, 502, format!("{who} ended before it answered{said}"))
}

/// Reads a server's standard error to its end, and keeps the last of it.
async fn listen(mut stderr: impl AsyncRead + Unpin, words: Arc<Mutex<Vec<u8>>>) {
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut chunk).await {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        words.extend_from_slice(&chunk[..count]);
        let surplus = words.len().saturating_sub(WORDS_BYTES_MAX);
        words.drain(..surplus);
    }
}

/// A reader that fails once there is more to read than it may.
struct Limited<R> {
    inner: R,
    left: usize,
    exceeded: Arc<AtomicBool>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Limited<R> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buffer))?;
        let Some(left) = self.left.checked_sub(buffer.filled().len() - before) else {
            self.exceeded.store(true, Ordering::Relaxed);
            return Poll::Ready(Err(io::Error::other("more than may be read")));
        };
        self.left = left;
        Poll::Ready(Ok(()))
    }
}
