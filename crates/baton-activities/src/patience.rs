//! Asking the installation again when it cannot answer now: a server that is started again, or one that has much to do.

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use baton_execution::{ActivityTask, Fault};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Asks until there is an answer, or a fault that would come again, or most of the activity's time has passed.
///
/// # Errors
/// The last fault.
pub(crate) async fn patiently<F>(task: &ActivityTask, ask: impl FnMut() -> F) -> Result<(), Fault>
where
    F: Future<Output = Result<(), Fault>>,
{
    let pauses = ExponentialBuilder::default()
        .with_min_delay(PAUSE_MIN)
        .with_max_delay(PAUSE_MAX)
        .with_jitter()
        .without_max_times()
        .with_total_delay(Some(Duration::from_millis(task.start_to_close_ms / 10 * 9)));
    ask.retry(pauses).when(|fault| !fault.non_retryable).await
}
