//! The time by which schedules are kept.

use std::{fmt, time::Duration};

use futures::future::BoxFuture;

use crate::app;

/// Longest sleep: a machine's clock may be set while one sleeps.
const SLEEP_MAX: Duration = Duration::from_secs(20);

/// A source of time. There is one beside the machine's own so that schedules can be tried out, and tested.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;
    /// Resolves when it is that time, or somewhat earlier: whoever waits looks again.
    fn until(&self, time_ms: i64) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        app::now_ms()
    }

    fn until(&self, time_ms: i64) -> BoxFuture<'static, ()> {
        let left = u64::try_from(time_ms.saturating_sub(self.now_ms())).unwrap_or_default();
        Box::pin(tokio::time::sleep(Duration::from_millis(left).min(SLEEP_MAX)))
    }
}
