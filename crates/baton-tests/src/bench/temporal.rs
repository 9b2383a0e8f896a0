//! What Baton costs its callers on Temporal, and what its own executions cost there.
//!
//! One dev server, one process, one run: callers of the plain SDK with their worker, a Baton server with the embedded
//! engine, and one whose executions run on the same Temporal. What is compared is measured in turns. Times are the callers'
//! own: from the start of a caller until its end is known to who started it.

mod callers;
mod dev_server;
mod history;
mod own;
mod rounds;

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use baton_proto::v1::workflow_execution_service_client::WorkflowExecutionServiceClient;
use baton_server::{ServerOptions, worker::TemporalSettings};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use self::{
    callers::{Desk, Servers, Via},
    dev_server::DevServer,
    rounds::{Effort, Samples, round},
};
use crate::{Arguments, site::Site, table::Table, throughput::Work};

/// Turns of each kind of work; with less, a busy neighbour meets one more than another.
const ROUNDS: usize = 3;
/// Pieces of work in a round, however slow the machine.
const LEAST: u64 = 2;
/// Answers that are measured one by one, for each second of a row; each takes a start, a pause and an end.
const ANSWERS_A_SECOND: f64 = 10.0;
/// Handshakes whose histories are read.
const COUNTED: usize = 10;
/// The caller's side without Baton, and Baton's two engines in between; in this order, and from the second turn on in
/// another one.
const HANDSHAKES: [(Via, &str); 3] = [
    (Via::Client, "handshakes without Baton (a plain client completes the activity)"),
    (Via::Embedded, "handshakes through Baton, embedded engine"),
    (Via::Temporal, "handshakes through Baton, engine temporal"),
];

/// All that runs.
struct Stage {
    temporal: DevServer,
    embedded: Site,
    hosted: Arc<Site>,
    /// Of each `wait` that runs on Temporal.
    tokens: UnboundedReceiver<Vec<u8>>,
    desk: Arc<Desk>,
}

/// Measures everything, and prints the table.
pub(crate) async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    std::fs::create_dir_all(&arguments.directory)?;
    let folder = tempfile::tempdir_in(&arguments.directory)?;
    let wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|part| name.contains(part.as_str()));
    let mut stage = Stage::open(folder.path()).await?;
    let effort = Effort {
        length: Duration::from_secs_f64(arguments.seconds),
        rounds: if arguments.quick { 1 } else { ROUNDS },
        least: LEAST,
    };
    let head = stage.head(folder.path(), arguments, effort)?;
    let mut table = Table::new();
    stage.warm_up(effort).await?;
    if wanted("handshakes") {
        stage.handshakes(&arguments.widths, effort, &mut table).await?;
    }
    if wanted("workflow tasks") {
        stage.counts(arguments, &mut table).await?;
    }
    let (first, last) = (arguments.widths.first().copied().unwrap_or(1), arguments.widths.last().copied().unwrap_or(1));
    for work in [Work::NoOp, Work::TenActivities, Work::Handshake] {
        let name = format!("Baton's own on Temporal: {}", work.name());
        let mut widths = vec![first, last];
        widths.dedup();
        for width in widths.into_iter().filter(|_| wanted(&name)) {
            let samples = own::throughput(&stage.hosted, work, width, effort).await?;
            let (each, unit) = work.unit();
            table.rate(&name, width, samples.per_second() * each, unit, Some(samples.micros()));
        }
    }
    if wanted("answer given to parent ended") {
        stage.answers(arguments.seconds, &mut table).await?;
    }
    println!("{head}\n{table}");
    stage.close().await
}

impl Stage {
    async fn open(folder: &Path) -> anyhow::Result<Self> {
        let temporal = DevServer::start(folder).await?;
        let site = |name: &str, runs_executions| {
            let settings = TemporalSettings { runs_executions, ..TemporalSettings::new(temporal.options()) };
            ServerOptions { temporal: Some(settings), ..ServerOptions::new(folder.join(name)) }
        };
        let embedded = Site::open_with(site("embedded", false), None).await?;
        embedded.prepare().await?;
        let (give, tokens) = unbounded_channel();
        let sink = move |task: &baton_execution::ActivityTask| {
            if let Some(token) = task.input["token"].as_str() {
                let _gone = give.send(token.as_bytes().to_vec());
            }
        };
        let hosted = Site::open_with(site("temporal", true), Some(Arc::new(sink))).await?;
        hosted.prepare().await?;
        let over_grpc =
            |site: &Site| WorkflowExecutionServiceClient::connect(format!("http://{}", site.server.address));
        let servers = Servers { embedded: over_grpc(&embedded).await?, temporal: over_grpc(&hosted).await? };
        let desk = Desk::open(&temporal.options(), servers).await?;
        Ok(Self { temporal, embedded, hosted: Arc::new(hosted), tokens, desk: Arc::new(desk) })
    }

    async fn close(self) -> anyhow::Result<()> {
        Arc::into_inner(self.desk).context("somebody still uses the callers")?.close().await?;
        self.embedded.server.shutdown().await;
        Arc::into_inner(self.hosted).context("somebody still uses the site")?.server.shutdown().await;
        drop(self.temporal);
        Ok(())
    }

    /// What the figures hold for.
    fn head(&self, folder: &Path, arguments: &Arguments, effort: Effort) -> anyhow::Result<String> {
        let build = if cfg!(debug_assertions) { ", built without optimisation: its figures say nothing" } else { "" };
        let cores = std::thread::available_parallelism()?;
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        Ok(format!(
            "Temporal: dev server, {}, in memory; {}\n\
             SDK of callers and of Baton's worker: Rust {}, its usual pollers, no compression; no workflow is started eagerly\n\
             Baton {}{build}; both of its servers fsync (fdatasync) in {} before they acknowledge or answer\n\
             Machine: {cores} cores for everything, load before the run {}; Temporal is a process, all else another one\n\
             Each row: {} x {} s in turns with what it is compared with, and a fifth of that before it to warm up\n",
            dev_server::version(folder)?,
            self.temporal.flags(),
            self.desk.sdk_version(),
            env!("CARGO_PKG_VERSION"),
            arguments.directory.display(),
            load.join(" "),
            effort.rounds,
            arguments.seconds,
        ))
    }

    /// Everything once, and not for the table: connections, caches, pollers.
    async fn warm_up(&self, effort: Effort) -> anyhow::Result<()> {
        let mut thrown_away = Samples::new()?;
        for (via, _) in HANDSHAKES {
            self.handshake_round(&mut thrown_away, via, 8, effort).await?;
        }
        for work in [Work::NoOp, Work::TenActivities, Work::Handshake] {
            own::throughput(&self.hosted, work, 8, Effort { rounds: 1, ..effort }).await?;
        }
        Ok(())
    }

    async fn handshake_round(
        &self,
        samples: &mut Samples,
        via: Via,
        width: usize,
        effort: Effort,
    ) -> anyhow::Result<()> {
        let desk = Arc::clone(&self.desk);
        let run = move || {
            let desk = Arc::clone(&desk);
            async move { desk.handshake(via).await }
        };
        round(samples, width, effort, run).await
    }

    async fn handshakes(&self, widths: &[usize], effort: Effort, table: &mut Table) -> anyhow::Result<()> {
        for (place, width) in widths.iter().copied().enumerate() {
            let mut all = Vec::new();
            for (via, name) in HANDSHAKES {
                all.push((via, name, Samples::new()?));
            }
            let mut trips = Samples::new()?;
            for turn in 0..effort.rounds {
                for next in 0..all.len() {
                    let at = (turn + next) % all.len();
                    let (via, _, samples) = &mut all[at];
                    self.handshake_round(samples, *via, width, effort).await?;
                }
                if place == 0 {
                    let desk = Arc::clone(&self.desk);
                    let run = move || {
                        let desk = Arc::clone(&desk);
                        async move { desk.round_trip().await }
                    };
                    round(&mut trips, width, effort, run).await?;
                }
            }
            for (_, name, samples) in &all {
                table.rate(name, width, samples.per_second(), "handshakes/s", Some(samples.micros()));
            }
            if place == 0 {
                table.time(
                    "one Temporal round trip: a plain workflow that ends in its first workflow task, start to end",
                    width,
                    trips.micros(),
                );
                overheads(width, &all, &trips, table);
            }
        }
        Ok(())
    }

    /// Round trips, as Temporal has recorded them.
    async fn counts(&self, arguments: &Arguments, table: &mut Table) -> anyhow::Result<()> {
        let counted = if arguments.quick { 1 } else { COUNTED };
        let found = history::count(&self.desk, &self.hosted, counted).await?;
        let of = format!("most in {counted} recorded histories of Baton's executions that a caller waited for");
        for (what, count, unit) in [
            (
                "workflow tasks before the answer was at the caller",
                found.before_answer.workflow_tasks,
                "workflow tasks",
            ),
            ("workflow tasks until the end", found.whole.workflow_tasks, "workflow tasks"),
            ("activities, timers, signals, updates, children", found.whole.others, "events"),
        ] {
            table.figure(&format!("{what}, {of}"), 1, count.to_string(), unit);
        }
        Ok(())
    }

    async fn answers(&mut self, seconds: f64, table: &mut Table) -> anyhow::Result<()> {
        let (mut plain, mut own) = (Samples::new()?, Samples::new()?);
        let rounds = Duration::from_secs_f64(seconds * ANSWERS_A_SECOND).as_secs().max(LEAST);
        for _ in 0..rounds {
            plain.record(self.desk.answer_to_end().await?)?;
            own.record(own::answer_to_end(&self.hosted, &mut self.tokens).await?)?;
        }
        table.time("answer given to parent ended: without Baton, a plain caller that has waited", 1, plain.micros());
        table.time("answer given to parent ended: Baton's own on Temporal, a parent that has waited", 1, own.micros());
        Ok(())
    }
}

/// What is between a caller that a plain client answers and one that Baton answers.
fn overheads(width: usize, all: &[(Via, &str, Samples)], trips: &Samples, table: &mut Table) {
    let p50 = |samples: &Samples| f64::from(samples.micros().0) / 1000.0;
    let Some(((_, _, plain), rest)) = all.split_first() else { return };
    for (via, _, samples) in rest {
        let more = p50(samples) - p50(plain);
        let engine = if *via == Via::Embedded { "embedded engine" } else { "engine temporal" };
        let name = format!("Baton's part of a handshake, {engine}: p50 through Baton less p50 without");
        table.figure(&name, width, format!("{more:.2}"), "ms");
        let name = format!("Baton's part of a handshake, {engine}, beside one Temporal round trip of this run");
        table.figure(&name, width, format!("{:.2}", more / p50(trips)), "round trips");
    }
}
