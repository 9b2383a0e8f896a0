//! Killed in the middle: how soon everything has ended, and what ran twice.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, bail};
use baton_proto::v1;
use baton_server::app::WriteOptions;

use crate::{
    site::{Site, execution},
    table::Table,
};

/// Steps that must have begun before the process is killed, for each execution in flight.
const BEGUN_EACH: usize = 4;

pub(crate) async fn measure(folder: &Path, count: usize, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("in-flight")
        .arg(directory.path())
        .arg(count.to_string())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut begun = HashMap::<String, u32>::new();
    let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
    for line in lines.by_ref().take(count * BEGUN_EACH) {
        *begun.entry(line?).or_default() += 1;
    }
    child.kill()?;
    child.wait()?;
    for line in lines {
        *begun.entry(line?).or_default() += 1;
    }
    let before: u32 = begun.values().sum();
    let began = Instant::now();
    let again = Arc::new(Mutex::new(HashMap::<String, u32>::new()));
    let sink = {
        let again = Arc::clone(&again);
        move |task: &baton_execution::ActivityTask| {
            if let Ok(mut again) = again.lock() {
                *again.entry(task.idempotency_key.clone()).or_default() += 1;
            }
        }
    };
    let site = Site::open(directory.path(), Some(Arc::new(sink))).await?;
    let ready = began.elapsed();
    while unfinished(&site).await? > 0 {
        if began.elapsed() > Duration::from_mins(2) {
            bail!("not all executions have ended two minutes after the kill");
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = began.elapsed();
    let twice = again.lock().map_err(|_| anyhow!("poisoned"))?.keys().filter(|key| begun.contains_key(*key)).count();
    table.figure(
        "crash: killed in flight, until the server is ready",
        count,
        format!("{:.0}", ready.as_secs_f64() * 1000.0),
        "ms",
    );
    table.figure(
        "crash: killed in flight, until all have ended",
        count,
        format!("{:.0}", ended.as_secs_f64() * 1000.0),
        "ms",
    );
    table.figure("crash: steps begun before the kill", count, before.to_string(), "steps");
    table.figure("crash: of them without a recorded result, run again", count, twice.to_string(), "steps");
    site.server.shutdown().await;
    Ok(())
}

async fn unfinished(site: &Site) -> anyhow::Result<usize> {
    let request =
        v1::ListRequest { field_selector: "status.phase=Running".to_owned(), limit: 1, ..v1::ListRequest::default() };
    let (_, page) = site.app().list::<v1::WorkflowExecution>(&request).await.map_err(|error| anyhow!("{error}"))?;
    Ok(page.len())
}

/// The process that is killed: prints the key of every step that it begins.
pub(crate) async fn in_flight(directory: &Path, count: usize) -> anyhow::Result<()> {
    let sink = |task: &baton_execution::ActivityTask| println!("{}", task.idempotency_key);
    let site = Arc::new(Site::open(directory, Some(Arc::new(sink))).await?);
    site.prepare().await?;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let site = Arc::clone(&site);
        tasks.spawn(async move {
            let created = site.app().create(execution(site.name(), "ten"), WriteOptions::default()).await;
            created.map(|_| ()).map_err(|error| anyhow!("{error}"))
        });
    }
    while let Some(created) = tasks.join_next().await {
        created??;
    }
    std::future::pending().await
}
