//! Baton's own executions on Temporal: the same work as of the embedded engine, by the same program.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use baton_proto::v1::{CompleteCallbackRequest, Json};
use baton_server::app::WriteOptions;
use tokio::sync::mpsc::UnboundedReceiver;

use super::{
    callers::{PATIENCE, parked, result},
    rounds::{Effort, Samples, round},
};
use crate::{
    site::{Site, execution},
    throughput::Work,
};

/// Executions of one kind, so many at a time.
pub(crate) async fn throughput(site: &Arc<Site>, work: Work, width: usize, effort: Effort) -> anyhow::Result<Samples> {
    let mut samples = Samples::new()?;
    // Nothing is compared here: one long round has less warming up.
    let effort = Effort { rounds: 1, length: effort.length * u32::try_from(effort.rounds)?, ..effort };
    let site = Arc::clone(site);
    let run = move || {
        let site = Arc::clone(&site);
        async move {
            let run = tokio::time::timeout(PATIENCE, site.run(work.workflow()));
            run.await.with_context(|| format!("an execution of {} does not end", work.workflow()))?
        }
    };
    round(&mut samples, width, effort, run).await?;
    Ok(samples)
}

/// From the call that answers a waiting parent until its end is known, once. `tokens` gets the token of each `wait`.
pub(crate) async fn answer_to_end(site: &Site, tokens: &mut UnboundedReceiver<Vec<u8>>) -> anyhow::Result<Duration> {
    let name = site.name();
    let end = site.end_of(&name);
    site.app().create(execution(name, "wait"), WriteOptions::default()).await.map_err(|error| anyhow!("{error}"))?;
    let token = tokio::time::timeout(PATIENCE, tokens.recv()).await.context("no token comes")?;
    let callback_token = token.context("no token can come any more")?;
    parked().await;
    let began = Instant::now();
    let answer = CompleteCallbackRequest { callback_token, output: Some(Json::from_value(&result())) };
    site.app().complete_callback(&answer).await.map_err(|error| anyhow!("{error}"))?;
    tokio::time::timeout(PATIENCE, end).await.context("an answered parent does not end")?.context("the watch ended")?;
    Ok(began.elapsed())
}
