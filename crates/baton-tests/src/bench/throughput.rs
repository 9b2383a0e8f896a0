//! How many at a time, and how long one takes.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use baton_proto::v1::{self, workflow_execution_service_client::WorkflowExecutionServiceClient};
use baton_server::app::WriteOptions;
use hdrhistogram::Histogram;

use crate::{
    site::{Site, execution},
    table::Table,
};

#[derive(Clone, Copy)]
pub(crate) enum Work {
    NoOp,
    TenActivities,
    TenHttpActivities,
    Handshake,
}

impl Work {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NoOp => "no-op workflow executions",
            Self::TenActivities => "executions of 10 no-op activities",
            Self::TenHttpActivities => "executions of 10 HTTP activities, their server in the same process",
            Self::Handshake => "handshakes (parent waits for its child's answer)",
        }
    }

    pub(crate) fn workflow(self) -> &'static str {
        match self {
            Self::NoOp => "no-op",
            Self::TenActivities => "ten",
            Self::TenHttpActivities => "ten-http",
            Self::Handshake => "handshake",
        }
    }

    /// What is counted: how many of it there are in one execution, and its name.
    pub(crate) fn unit(self) -> (f64, &'static str) {
        match self {
            Self::NoOp => (1.0, "executions/s"),
            Self::TenActivities | Self::TenHttpActivities => (10.0, "activities/s"),
            Self::Handshake => (1.0, "handshakes/s"),
        }
    }
}

pub(crate) async fn measure(
    folder: &Path,
    work: Work,
    width: usize,
    length: Duration,
    table: &mut Table,
) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let site = Arc::new(Site::open(directory.path(), None).await?);
    site.prepare().await?;
    let run = {
        let site = Arc::clone(&site);
        move || {
            let site = Arc::clone(&site);
            async move { site.run(work.workflow()).await }
        }
    };
    let (count, micros) = drive(width, length, run).await?;
    let (each, unit) = work.unit();
    table.rate(work.name(), width, count * each, unit, Some(micros));
    close(site).await
}

async fn close(site: Arc<Site>) -> anyhow::Result<()> {
    let site = Arc::into_inner(site).context("somebody still uses the site")?;
    site.server.shutdown().await;
    Ok(())
}

/// Runs `work` again and again in `width` tasks; the first fifth of the time warms up. Returns how many a second, and the
/// median and 99th percentile in microseconds.
async fn drive<F, R>(width: usize, length: Duration, work: F) -> anyhow::Result<(f64, (u32, u32))>
where
    F: Fn() -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<()>> + Send,
{
    let warm = Instant::now() + length / 5;
    let stop = warm + length;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..width {
        let work = work.clone();
        tasks.spawn(async move {
            let mut taken = Vec::new();
            while Instant::now() < stop {
                let began = Instant::now();
                work().await?;
                if began >= warm {
                    taken.push(began.elapsed());
                }
            }
            anyhow::Ok(taken)
        });
    }
    let mut histogram = Histogram::<u64>::new(3)?;
    while let Some(taken) = tasks.join_next().await {
        for each in taken?? {
            histogram.record(u64::try_from(each.as_micros())?)?;
        }
    }
    let per_second = histogram.len() as f64 / warm.elapsed().as_secs_f64();
    Ok((per_second, percentiles(&histogram)))
}

/// Median and 99th percentile.
pub(crate) fn percentiles(histogram: &Histogram<u64>) -> (u32, u32) {
    let at = |quantile| u32::try_from(histogram.value_at_quantile(quantile)).unwrap_or(u32::MAX);
    (at(0.5), at(0.99))
}

/// No-op executions created by gRPC clients over loopback.
pub(crate) async fn over_grpc(folder: &Path, width: usize, length: Duration, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let site = Arc::new(Site::open(directory.path(), None).await?);
    site.prepare().await?;
    let mut channels = Vec::new();
    for _ in 0..4 {
        channels.push(WorkflowExecutionServiceClient::connect(format!("http://{}", site.server.address)).await?);
    }
    let run = {
        let (site, channels) = (Arc::clone(&site), channels.clone());
        move || {
            let name = site.name();
            let mut client = channels[name.len() % channels.len()].clone();
            async move {
                let request = v1::CreateWorkflowExecutionRequest {
                    workflow_execution: Some(execution(name, "no-op")),
                    options: None,
                };
                let created = client.create_workflow_execution(request).await?.into_inner();
                let phase = created.status.map(|status| status.phase).unwrap_or_default();
                if phase == "Completed" { Ok(()) } else { Err(anyhow!("ended as {phase}")) }
            }
        }
    };
    let (count, micros) = drive(width, length, run).await?;
    table.rate(
        "no-op workflow executions over gRPC, clients in the same process",
        width,
        count,
        "executions/s",
        Some(micros),
    );
    drop(channels);
    close(site).await
}

/// From the call that answers a waiting parent to the parent's end, one at a time.
pub(crate) async fn answer_to_end(folder: &Path, length: Duration, table: &mut Table) -> anyhow::Result<()> {
    let directory = tempfile::tempdir_in(folder)?;
    let (give, tokens) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
    let sink = move |task: &baton_execution::ActivityTask| {
        let _gone = give.send(task.input["token"].as_str().unwrap_or_default().as_bytes().to_vec());
    };
    let site = Site::open(directory.path(), Some(Arc::new(sink))).await?;
    site.prepare().await?;
    let tokens = Mutex::new(tokens);
    let mut tokens = tokens.into_inner().map_err(|_| anyhow!("poisoned"))?;
    let mut histogram = Histogram::<u64>::new(3)?;
    let stop = Instant::now() + length;
    while Instant::now() < stop {
        let name = site.name();
        let end = site.end_of(&name);
        site.app()
            .create(execution(name, "wait"), WriteOptions::default())
            .await
            .map_err(|error| anyhow!("{error}"))?;
        let token = tokens.recv().await.context("no token came")?;
        let began = Instant::now();
        let answer = v1::CompleteCallbackRequest { callback_token: token, output: None };
        site.app().complete_callback(&answer).await.map_err(|error| anyhow!("{error}"))?;
        end.await.context("the watch ended")?;
        histogram.record(u64::try_from(began.elapsed().as_micros())?)?;
    }
    let per_second = histogram.len() as f64 / length.as_secs_f64();
    table.rate("answer given to parent ended", 1, per_second, "parents/s", Some(percentiles(&histogram)));
    site.server.shutdown().await;
    Ok(())
}
