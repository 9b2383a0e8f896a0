//! One large execution: a loop of many iterations, and many branches side by side. What it costs, and how soon it goes on
//! after the process was killed early or late in the loop: that must not depend on how much of it lies behind.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use baton_execution::ActivityTask;
use baton_proto::v1::{self, Json, Workflow, WorkflowExecution, WorkflowSpec};
use baton_server::app::WriteOptions;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::{
    site::{Site, execution, memory_bytes, metadata},
    table::Table,
};

/// Longest that one execution may take.
const PATIENCE: Duration = Duration::from_mins(10);

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// One activity after the other.
    Loop,
    /// One activity in each of so many branches.
    Fork,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loop => "large: iterations of one loop, an activity each",
            Self::Fork => "large: parallel branches of one fork, an activity each",
        }
    }

    fn tasks(self, count: usize) -> Value {
        let echo = |n: Value| json!({"call": "baton.dev/echo", "with": {"n": n}});
        match self {
            Self::Loop => json!([{"each": {
                "for": {"each": "n", "in": format!("[range({count})]")},
                "do": [{"step": echo(json!("${ $n }"))}],
            }}]),
            Self::Fork => {
                let branches: Vec<Value> = (0..count).map(|n| json!({format!("branch{n}"): echo(json!(n))})).collect();
                json!([{"all": {"fork": {"branches": branches}}}])
            }
        }
    }
}

/// Applies a workflow of that shape, and gives its name.
async fn apply(site: &Site, shape: Shape, count: usize) -> anyhow::Result<&'static str> {
    let definition = json!({
        "document": {"dsl": "1.0.3", "namespace": "default", "name": "large", "version": "1.0.0"},
        "do": shape.tasks(count),
    });
    let workflow = Workflow {
        metadata: Some(metadata("large".to_owned())),
        spec: Some(WorkflowSpec { definition: Some(Json::from_value(&definition)), ..WorkflowSpec::default() }),
        ..Workflow::default()
    };
    site.app().create(workflow, WriteOptions::default()).await.map_err(|error| anyhow!("{error}"))?;
    Ok("large")
}

/// Time, memory and history of one execution.
pub(crate) async fn measure(folder: &Path, shape: Shape, count: usize, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let site = Site::open(directory.path(), None).await?;
    site.prepare().await?;
    let workflow = apply(&site, shape, count).await?;
    for _ in 0..50 {
        site.run("ten").await?;
    }
    let memory = memory_bytes(std::process::id());
    let sampler = Sampler::start();
    let name = site.name();
    let end = site.end_of(&name);
    let began = Instant::now();
    site.app()
        .create(execution(name.clone(), workflow), WriteOptions::default())
        .await
        .map_err(|error| anyhow!("{error}"))?;
    let phase = tokio::time::timeout(PATIENCE, end).await.context("it does not end")?.context("the watch ended")?;
    if phase != "Completed" {
        bail!("{}: ended as {phase}", shape.name());
    }
    let took = began.elapsed();
    let peak = sampler.stop();
    let (events, bytes) = history(&site, &name).await?;
    let what = |figure: &str| format!("{}: {figure}", shape.name());
    table.rate(&what("one execution"), count, count as f64 / took.as_secs_f64(), "activities/s", None);
    table.figure(&what("memory at most"), count, mebibytes(peak.saturating_sub(memory)), "MiB");
    table.figure(&what("history"), count, format!("{events} events, {} MiB", mebibytes(bytes)), "");
    table.figure(&what("history of each"), count, format!("{:.0}", bytes as f64 / count as f64), "B");
    site.server.shutdown().await;
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1024.0 / 1024.0)
}

/// Events of an execution, and the bytes that they take.
async fn history(site: &Site, name: &str) -> anyhow::Result<(usize, u64)> {
    let mut request = v1::HistoryRequest {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        limit: 1000,
        ..v1::HistoryRequest::default()
    };
    let (mut events, mut bytes) = (0, 0);
    loop {
        let page = site.app().history::<WorkflowExecution>(&request).await.map_err(|error| anyhow!("{error}"))?;
        events += page.events.len();
        bytes += page.events.iter().map(|event| event.encoded_len() as u64).sum::<u64>();
        if page.next_after == 0 {
            return Ok((events, bytes));
        }
        request.after = page.next_after;
    }
}

/// Looks at this process's memory until it is stopped.
struct Sampler {
    stop: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Sampler {
    fn start() -> Self {
        let (stop, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let thread = std::thread::spawn({
            let (stop, peak) = (Arc::clone(&stop), Arc::clone(&peak));
            move || {
                while !stop.load(Ordering::Relaxed) {
                    peak.fetch_max(memory_bytes(std::process::id()), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        Self { stop, peak, thread }
    }

    /// The most that there was, in bytes.
    fn stop(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        // It does nothing that could panic; without it the last figure still counts.
        let _ended = self.thread.join();
        self.peak.load(Ordering::Relaxed).max(memory_bytes(std::process::id()))
    }
}

/// Kills the process after a tenth, and after nine tenths, of the loop: until the next iteration begins.
pub(crate) async fn recovery(folder: &Path, count: usize, table: &mut Table) -> anyhow::Result<()> {
    for (tenths, when) in [(1, "a tenth"), (9, "nine tenths")] {
        let directory = tempfile::tempdir_in(folder)?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("in-loop")
            .arg(directory.path())
            .arg(count.to_string())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
        let behind = lines.by_ref().take(count * tenths / 10).collect::<Result<Vec<_>, _>>()?.len();
        child.kill()?;
        child.wait()?;
        let begun = behind + lines.count();
        let (told, mut steps) = mpsc::unbounded_channel();
        let began = Instant::now();
        let sink = move |_: &ActivityTask| {
            // Nobody listens any more after the first.
            let _late = told.send(());
        };
        let site = Site::open(directory.path(), Some(Arc::new(sink))).await?;
        let ready = began.elapsed();
        tokio::time::timeout(PATIENCE, steps.recv()).await.context("the loop does not go on")?;
        let goes_on = began.elapsed();
        let what = |figure: &str| format!("large: a loop killed after {when} of it: {figure}");
        table.figure(&what("until the server is ready"), begun, milliseconds(ready), "ms");
        table.figure(&what("until the next iteration"), begun, milliseconds(goes_on), "ms");
        site.server.shutdown().await;
    }
    Ok(())
}

fn milliseconds(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1000.0)
}

/// The process that is killed: prints a line for every iteration that it begins.
pub(crate) async fn in_loop(directory: &Path, count: usize) -> anyhow::Result<()> {
    let sink = |task: &ActivityTask| println!("{}", task.idempotency_key);
    let site = Site::open(directory, Some(Arc::new(sink))).await?;
    let workflow = apply(&site, Shape::Loop, count).await?;
    site.app()
        .create(execution(site.name(), workflow), WriteOptions::default())
        .await
        .map_err(|error| anyhow!("{error}"))?;
    std::future::pending().await
}
