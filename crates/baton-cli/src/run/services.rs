//! The processes beside a run: started before it, stopped with it.
//!
//! # Invariants
//! - A service is the leader of a process group of its own: the terminal's Ctrl-C does not reach it, and stopping it stops
//!   what it started.
//! - Nothing is left running by a run that ends, well or not. Only a run that is killed outright leaves its services.

use std::{collections::BTreeMap, path::Path, process::Stdio, time::Duration};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::{failure::Failure, manifest::ServiceSpec};

/// Time until a service must listen.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Time to end by itself after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(3);
/// The line that it prints then.
const LISTENING: &str = "listening on ";
/// Longest line of a service that is passed on, in bytes.
const LINE_BYTES_MAX: usize = 4096;

/// Port of each service by name, so that a run taken up again finds them where they were.
pub(crate) type ServicePorts = BTreeMap<String, u16>;

/// The running services.
#[derive(Debug)]
pub(crate) struct Services {
    running: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    spec: ServiceSpec,
    url: String,
    child: Child,
    group: Option<Pid>,
}

impl Services {
    /// Starts all services, one after the other; `logs` gets what they say. If one does not come up, none is left.
    pub(crate) async fn start(
        services: &[(ServiceSpec, std::path::PathBuf)],
        server_url: &str,
        ports: &ServicePorts,
        logs: &mpsc::Sender<String>,
    ) -> Result<Self, Failure> {
        let mut started = Self { running: Vec::new() };
        for (spec, folder) in services {
            match start(spec, folder, server_url, ports.get(&spec.name).copied(), logs).await {
                Ok(running) => started.running.push(running),
                Err(failure) => {
                    started.stop().await;
                    return Err(failure.while_doing(format!("start service '{}'", spec.name)));
                }
            }
        }
        Ok(started)
    }

    /// Variables for the execution: `NAME_URL` of each.
    pub(crate) fn env(&self) -> impl Iterator<Item = (String, &str)> {
        self.running.iter().map(|it| (it.spec.variable(), it.url.as_str()))
    }

    /// The port of each.
    pub(crate) fn ports(&self) -> ServicePorts {
        self.running
            .iter()
            .filter_map(|it| {
                Some((it.spec.name.clone(), it.url.rsplit(':').next()?.trim_end_matches('/').parse().ok()?))
            })
            .collect()
    }

    /// Stops all: asks first, then insists.
    pub(crate) async fn stop(mut self) {
        for it in &self.running {
            it.signal(Signal::TERM);
        }
        for it in &mut self.running {
            if tokio::time::timeout(STOP_TIMEOUT, it.child.wait()).await.is_err() {
                tracing::warn!(service = it.spec.name, "does not end by itself");
            }
            // Also what it has started and left behind.
            it.signal(Signal::KILL);
            let _ = it.child.wait().await;
            // From here on the number may be somebody else's.
            it.group = None;
        }
        self.running.clear();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        // A group that is gone has nothing to be told.
        if let Some(group) = self.group {
            let _ = kill_process_group(group, signal);
        }
    }
}

async fn start(
    spec: &ServiceSpec,
    folder: &Path,
    server_url: &str,
    port: Option<u16>,
    logs: &mpsc::Sender<String>,
) -> Result<Running, Failure> {
    let (program, arguments) = spec.command.split_first().ok_or_else(|| Failure::refused("its command is empty"))?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(folder)
        .envs(&spec.env)
        .env("BATON_URL", server_url)
        .env("PORT", port.unwrap_or(0).to_string())
        // Held open and never written to: its end tells a service that this process is gone, however it went.
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command
        .spawn()
        .map_err(|error| Failure::refused(format!("run '{program}' in '{}'", folder.display())).because(&error))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(Failure::environment("its output cannot be read"));
    };
    let mut running = Running { spec: spec.clone(), url: String::new(), child, group };
    pass_on(BufReader::new(stderr), spec.name.clone(), logs.clone());
    let mut stdout = BufReader::new(stdout);
    let waited = tokio::time::timeout(START_TIMEOUT, first_url(&mut stdout, spec, logs)).await;
    let url = match waited {
        Ok(Ok(Some(url))) => url,
        Ok(Ok(None)) => {
            let status = running.child.wait().await.map_or_else(|_| String::new(), |status| format!(" ({status})"));
            running.group = None;
            return Err(Failure::refused(format!(
                "it ended{status} before it printed '{LISTENING}http://127.0.0.1:PORT'"
            )));
        }
        Ok(Err(failure)) => return Err(failure),
        Err(_) => {
            return Err(Failure::refused(format!(
                "it did not print '{LISTENING}http://127.0.0.1:PORT' within {} s",
                START_TIMEOUT.as_secs()
            )));
        }
    };
    running.url = url;
    pass_on(stdout, spec.name.clone(), logs.clone());
    Ok(running)
}

/// The URL that it prints; other lines before it are passed on.
async fn first_url<R: AsyncRead + Unpin>(
    reader: &mut BufReader<R>,
    spec: &ServiceSpec,
    logs: &mpsc::Sender<String>,
) -> Result<Option<String>, Failure> {
    while let Some(line) =
        next_line(reader).await.map_err(|error| Failure::environment("read what it prints").because(&error))?
    {
        if let Some(url) = line.trim().strip_prefix(LISTENING) {
            let url = url.trim().trim_end_matches('/');
            let is_loopback =
                ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|start| url.starts_with(start));
            if !is_loopback {
                return Err(Failure::refused(format!(
                    "it listens on '{url}'; allowed is the loopback interface, http://127.0.0.1:PORT"
                )));
            }
            return Ok(Some(url.to_owned()));
        }
        let _ = logs.send(format!("[{}] {line}", spec.name)).await;
    }
    Ok(None)
}

/// Passes lines on until there are no more. A reader that is slow only slows the service.
fn pass_on<R: AsyncRead + Unpin + Send + 'static>(mut reader: BufReader<R>, name: String, logs: mpsc::Sender<String>) {
    tokio::spawn(async move {
        while let Ok(Some(line)) = next_line(&mut reader).await {
            // When nobody listens any more it is read nevertheless, so that the service can write.
            let _ = logs.send(format!("[{name}] {line}")).await;
        }
    });
}

/// The next line, without its end; what is beyond the limit, or not UTF-8, is lost.
async fn next_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) -> std::io::Result<Option<String>> {
    let (mut line, mut any) = (Vec::new(), false);
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            return Ok(any.then(|| String::from_utf8_lossy(&line).into_owned()));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(buffer.len());
        let room = LINE_BYTES_MAX.saturating_sub(line.len());
        line.extend_from_slice(&buffer[..taken.min(room)]);
        reader.consume(taken + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(script: &str) -> (ServiceSpec, std::path::PathBuf) {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        (ServiceSpec { name: "desk".to_owned(), command, env: BTreeMap::new() }, std::path::PathBuf::from("/"))
    }

    async fn started(script: &str) -> (Result<Services, Failure>, mpsc::Receiver<String>) {
        let (sender, receiver) = mpsc::channel(16);
        (
            Services::start(
                &[service(script)],
                "http://127.0.0.1:1",
                &ServicePorts::from([("desk".to_owned(), 4000)]),
                &sender,
            )
            .await,
            receiver,
        )
    }

    #[tokio::test]
    async fn a_service_tells_where_it_listens_and_is_stopped_with_what_it_started() {
        let script = "echo $BATON_URL $PORT; echo listening on http://127.0.0.1:4000/; sleep 1000 & echo started; wait";
        let (services, mut logs) = started(script).await;
        let services = services.unwrap();
        assert_eq!(services.env().collect::<Vec<_>>(), [("DESK_URL".to_owned(), "http://127.0.0.1:4000")]);
        assert_eq!(services.ports()["desk"], 4000);
        assert_eq!(logs.recv().await.unwrap(), "[desk] http://127.0.0.1:1 4000");
        assert_eq!(logs.recv().await.unwrap(), "[desk] started");
        services.stop().await;
        // The lines have an end only when every writer of the pipes is gone, what it has started too.
        assert_eq!(logs.recv().await, None);
    }

    #[tokio::test]
    async fn long_lines_and_other_bytes_do_no_harm() {
        let text = [vec![b'x'; 100_000], b"\n\xff\nlast".to_vec()].concat();
        let mut reader = BufReader::new(text.as_slice());
        assert_eq!(next_line(&mut reader).await.unwrap().unwrap().len(), LINE_BYTES_MAX);
        assert_eq!(next_line(&mut reader).await.unwrap().unwrap(), "\u{fffd}");
        assert_eq!(next_line(&mut reader).await.unwrap().unwrap(), "last");
        assert_eq!(next_line(&mut reader).await.unwrap(), None);
    }

    #[tokio::test]
    async fn one_that_does_not_come_up_is_told() {
        for (script, says) in [
            ("echo hello; exit 3", "start service 'desk': it ended (exit status: 3) before it printed"),
            ("echo listening on http://192.0.2.1:80; sleep 1000", "allowed is the loopback interface"),
        ] {
            let (services, _logs) = started(script).await;
            let says_it = services.unwrap_err().to_string();
            assert!(says_it.contains(says), "{says_it}");
        }
    }
}
