//! What a server has of Temporal: where its executions run, who answers callers there, its own worker, and whether all that
//! can be reached.
//!
//! # Invariants
//! - A server starts, and accepts executions, whether Temporal is there or not.
//! - The worker goes before the engine that it reports to.

use std::{sync::Arc, time::Duration};

use baton_engine::{Elsewhere, Host, Receiver};
use baton_engine_temporal::{ConnectError, Connection, TemporalHost, TemporalReceiver};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

use super::{
    TemporalSettings,
    supervise::{Parts, Supervised},
};

/// How often it is seen whether Temporal can be reached.
const READY_INTERVAL: Duration = Duration::from_secs(3);

/// Whether Temporal can be reached, as it was seen last; otherwise why not.
pub(crate) type Reach = watch::Receiver<Result<(), String>>;

/// Temporal, as a server uses it. What it does in the background ends with it.
pub(crate) struct Temporal {
    connection: Connection,
    settings: TemporalSettings,
    host: Option<Arc<dyn Host>>,
    looking: Option<(Reach, JoinHandle<()>)>,
}

impl Drop for Temporal {
    fn drop(&mut self) {
        if let Some((_, looking)) = &self.looking {
            looking.abort();
        }
    }
}

impl Temporal {
    /// Begins to connect.
    ///
    /// # Errors
    /// Settings with which no connection can ever be had.
    pub(crate) fn start(settings: TemporalSettings) -> Result<Self, ConnectError> {
        let connection = Connection::start(settings.connection.clone())?;
        let host = settings
            .runs_executions
            .then(|| Arc::new(TemporalHost::new(connection.clone(), settings.task_queue.clone())) as Arc<dyn Host>);
        let looking = host.clone().map(|host| {
            let (seen, reach) = watch::channel(Err("Temporal has not been asked yet".to_owned()));
            (reach, tokio::spawn(look(connection.clone(), host, seen)))
        });
        Ok(Self { connection, settings, host, looking })
    }

    /// What the engine needs of it.
    pub(crate) fn elsewhere(&self) -> Elsewhere {
        let namespaces = &self.settings.callback_namespaces;
        let receiver = (!namespaces.is_empty())
            .then(|| Arc::new(TemporalReceiver::new(self.connection.clone(), namespaces.clone())) as Arc<dyn Receiver>);
        Elsewhere { host: self.host.clone(), receivers: receiver.into_iter().collect() }
    }

    /// Whether it can be reached. `None` with the embedded engine, which serves without it.
    pub(crate) fn reach(&self) -> Option<Reach> {
        self.looking.as_ref().map(|(reach, _)| reach.clone())
    }

    /// The server's own worker, unless it is to have none.
    pub(crate) fn worker(&self, parts: Parts) -> Option<Supervised> {
        let wanted = self.settings.runs_executions && self.settings.worker;
        wanted.then(|| Supervised::start(self.connection.clone(), &self.settings, parts))
    }
}

/// Looks again and again whether it can be reached, and tells when that changes.
async fn look(connection: Connection, host: Arc<dyn Host>, seen: watch::Sender<Result<(), String>>) {
    let mut interval = tokio::time::interval(READY_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut connected = false;
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            _ = connection.wait_connected(), if !connected => connected = true,
        }
        let now = host.ready().await.map_err(|error| error.to_string());
        match (&now, seen.borrow().is_ok()) {
            (Ok(()), false) => tracing::info!(address = connection.options().address, "Temporal can be reached"),
            (Err(why), true) => tracing::warn!(why, "Temporal cannot be reached"),
            (Ok(()), true) | (Err(_), false) => {}
        }
        if seen.send(now).is_err() {
            return;
        }
    }
}
