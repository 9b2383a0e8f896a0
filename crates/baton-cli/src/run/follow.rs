//! Following an execution to its end, with its progress shown.

use std::time::Duration;

use baton_proto::{ExecutionResource, history_v1::history_event::Attributes};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};

use super::signals::Signals;
use crate::{
    client::{Ask, Client},
    failure::Failure,
    printer::Printer,
    progress::{Effect, ExecutionKey, Progress, Update, View, Watcher},
    settings::{NAMESPACE_DEFAULT, SERVER_DEFAULT},
};

/// How often the picture is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);
/// After the end of the root, how long the last events of the others are waited for.
const LAST_NEWS: Duration = Duration::from_millis(300);

/// What is followed, and what else may happen meanwhile.
#[derive(Debug)]
pub(crate) struct Following<'a> {
    pub(crate) client: &'a Client,
    pub(crate) printer: Printer,
    pub(crate) namespace: &'a str,
    pub(crate) key: ExecutionKey,
    /// Lines of services.
    pub(crate) logs: &'a mut mpsc::Receiver<String>,
    pub(crate) signals: &'a mut Signals,
}

/// Follows an execution until it has ended, and returns it as it is then. The first signal asks it to wind up, the second
/// one leaves it.
pub(crate) async fn follow(following: Following<'_>) -> Result<ExecutionResource, Failure> {
    let Following { client, printer, namespace, key, logs, signals } = following;
    let mut state = Watching {
        progress: Progress::new(key.clone()),
        watcher: Watcher::new(client.clone(), namespace),
        view: View::new(printer),
        ended_at: None,
        open: 1,
        flags: flags(client, namespace),
    };
    state.watcher.follow(0, key.clone());
    let mut ticks = interval(DRAW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let (mut interrupted, mut logs_open) = (false, true);
    while !state.is_over() {
        tokio::select! {
            update = state.watcher.next() => match update {
                Some(update) => state.take(update)?,
                None => break,
            },
            line = logs.recv(), if logs_open => match line {
                Some(line) => state.view.above(&state.progress, &line),
                None => logs_open = false,
            },
            _ = ticks.tick() => state.view.draw(&state.progress),
            () = signals.next() => {
                if interrupted {
                    state.view.draw(&state.progress);
                    return Err(Failure::refused(format!("left '{}' before it had ended", key.name)));
                }
                interrupted = true;
                state.view.above(&state.progress, &format!("cancelling {}; interrupt once more to leave it", key.name));
                ask_to_cancel(client, namespace, &key).await?;
            }
        }
    }
    while let Ok(line) = logs.try_recv() {
        state.view.above(&state.progress, &line);
    }
    state.view.draw(&state.progress);
    client.execution(key.kind, namespace, &key.name).await
}

async fn ask_to_cancel(client: &Client, namespace: &str, key: &ExecutionKey) -> Result<(), Failure> {
    match client.ask(key.kind, namespace, &key.name, Ask::Cancel, "interrupted").await {
        // It has just ended: then that is the answer.
        Err(failure) if failure.code() == Some(tonic::Code::FailedPrecondition) => Ok(()),
        other => other.map(drop),
    }
}

struct Watching {
    progress: Progress,
    watcher: Watcher,
    view: View,
    /// When the root ended.
    ended_at: Option<Instant>,
    /// Executions whose last event has not come.
    open: usize,
    /// Of a command that is to reach the same server and namespace.
    flags: String,
}

/// Flags with which a command of another terminal means what is followed here.
fn flags(client: &Client, namespace: &str) -> String {
    let server =
        if client.address() == SERVER_DEFAULT { String::new() } else { format!(" --server {}", client.address()) };
    let namespace = if namespace == NAMESPACE_DEFAULT { String::new() } else { format!(" -n {namespace}") };
    format!("{server}{namespace}")
}

impl Watching {
    fn is_over(&self) -> bool {
        self.ended_at.is_some_and(|at| self.open == 0 || at.elapsed() >= LAST_NEWS)
    }

    fn take(&mut self, update: Update) -> Result<(), Failure> {
        let effects = match update {
            Update::Event(index, event) => {
                let effects = self.progress.on_event(index, &event);
                if matches!(event.attributes, Some(Attributes::Ended(_))) {
                    self.open = self.open.saturating_sub(1);
                    if index == 0 {
                        self.ended_at = Some(Instant::now());
                    }
                }
                effects
            }
            Update::Delta(index, delta) => {
                self.progress.on_delta(index, &delta);
                Vec::new()
            }
            Update::Waiting(index, waiting) => self.progress.on_waiting(index, &waiting),
            Update::Lost(0, failure) => return Err(failure),
            Update::Lost(index, failure) => {
                self.open = self.open.saturating_sub(1);
                tracing::debug!(%failure, name = %self.progress.key(index), "its progress cannot be followed");
                Vec::new()
            }
        };
        self.view.tell(&effects);
        for effect in effects {
            match effect {
                Effect::Line(_) => {}
                Effect::Asked { what, command } => {
                    let command = format!("{command}{}", self.flags);
                    self.view.above(&self.progress, &format!("{what}; answer with {command}"));
                }
                Effect::Follow(index) => {
                    self.open += 1;
                    self.watcher.follow(index, self.progress.key(index));
                }
                Effect::ReadStatus(index) => self.watcher.read_status(index, self.progress.key(index)),
            }
        }
        Ok(())
    }
}
