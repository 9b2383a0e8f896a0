//! What workflows emit, to the sink of events: one after another, as they came.

use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{sink::Sink, trail::Trail};
use crate::{
    app::App,
    events::{Arrived, EVENT},
};

/// Where the place is kept.
pub(super) const TRAIL: &str = "reports/emitted";
/// Pause before everything begins again.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) async fn run(app: App, sink: Sink, begin: u64, stopping: CancellationToken) {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            lost = follow(&app, &sink, begin) => tracing::warn!("emitted events are followed again: {lost}"),
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            () = sleep(PAUSE) => {}
        }
    }
}

/// Follows events until that cannot be done any more; why.
async fn follow(app: &App, sink: &Sink, begin: u64) -> String {
    let mut trail = match Trail::open(app, TRAIL, EVENT, begin).await {
        Ok(trail) => trail,
        Err(why) => return why,
    };
    loop {
        let steps = match trail.next().await {
            Ok(steps) => steps,
            Err(why) => return why,
        };
        let emitted = steps.changes.iter().filter_map(|change| Arrived::of_change(change));
        for arrived in emitted.filter(|arrived| arrived.emitted) {
            sink.send(&arrived.namespace, &arrived.event, arrived.accepted_ms).await;
        }
        trail.settle(steps.upto, Vec::new()).await;
        if trail.is_at_end(steps.upto) {
            sink.is_even();
        }
    }
}
