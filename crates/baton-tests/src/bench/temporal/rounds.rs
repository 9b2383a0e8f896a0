//! Taking samples of work that is slow beside the time that is measured.
//!
//! What is compared is measured in turns, so that a busy neighbour meets all of it alike.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;

use crate::throughput::percentiles;

/// How long to measure, each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Of one round, without its warming up.
    pub(crate) length: Duration,
    /// Turns of each kind of work.
    pub(crate) rounds: usize,
    /// Pieces of work that a round has at least, however long that takes.
    pub(crate) least: u64,
}

/// What was measured of one kind of work.
pub(crate) struct Samples {
    histogram: Histogram<u64>,
    ended: u64,
    window: Duration,
}

impl Samples {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { histogram: Histogram::new(3)?, ended: 0, window: Duration::ZERO })
    }

    /// Pieces of work that ended in a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.ended as f64 / self.window.as_secs_f64()
    }

    /// Median and 99th percentile of one piece of work, in microseconds.
    pub(crate) fn micros(&self) -> (u32, u32) {
        percentiles(&self.histogram)
    }

    pub(crate) fn record(&mut self, taken: Duration) -> anyhow::Result<()> {
        Ok(self.histogram.record(u64::try_from(taken.as_micros())?)?)
    }
}

/// Runs `work` again and again in `width` tasks and adds what it took; the first fifth of the time warms up.
///
/// The rate is of what ended while all tasks were at work. Times are of what began then, to its own end.
pub(crate) async fn round<F, R>(samples: &mut Samples, width: usize, effort: Effort, work: F) -> anyhow::Result<()>
where
    F: Fn() -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<()>> + Send,
{
    let warm = Instant::now() + effort.length / 5;
    let stop = warm + effort.length;
    let finished = Arc::new(AtomicU64::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..width {
        let (work, finished) = (work.clone(), Arc::clone(&finished));
        tasks.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let began = Instant::now();
                if began >= stop && finished.load(Ordering::Relaxed) >= effort.least {
                    return anyhow::Ok((began, taken));
                }
                work().await?;
                taken.push((began, Instant::now()));
                if began >= warm {
                    finished.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    let (mut all, mut until) = (Vec::new(), None::<Instant>);
    while let Some(lane) = tasks.join_next().await {
        let (left, taken) = lane??;
        // From the time at which a first task left its place fewer were at work.
        until = Some(until.map_or(left, |until| until.min(left)));
        all.extend(taken);
    }
    let until = until.unwrap_or(stop);
    samples.window += until.saturating_duration_since(warm);
    samples.ended += all.iter().filter(|(_, ended)| (warm..=until).contains(ended)).count() as u64;
    for (began, ended) in all.into_iter().filter(|(began, _)| *began >= warm) {
        samples.record(ended - began)?;
    }
    Ok(())
}
