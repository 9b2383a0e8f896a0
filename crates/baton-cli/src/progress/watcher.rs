//! Following the histories of an execution and of those below it.

use std::time::Duration;

use baton_proto::{
    history_v1::{HistoryEvent, history_event::Attributes},
    v1::{self, stream_item::Item},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::model::ExecutionKey;
use crate::{
    client::Client,
    failure::{Blame, Failure},
};

/// Updates that may wait to be shown.
const UPDATES_MAX: usize = 1024;
/// Pause before a broken stream is opened again; doubled each time.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Streams opened in vain, one after the other, before it is given up.
const TRIES_MAX: u32 = 12;

/// News about the execution at an index of the picture.
#[derive(Debug)]
pub(crate) enum Update {
    /// The next event of its history.
    Event(usize, Box<HistoryEvent>),
    /// A part of what it is making.
    Delta(usize, Box<v1::Delta>),
    /// What its status says it waits for.
    Waiting(usize, Vec<v1::WaitingFor>),
    /// Its history cannot be followed.
    Lost(usize, Failure),
}

/// Follows histories and sends what comes.
#[derive(Debug)]
pub(crate) struct Watcher {
    client: Client,
    namespace: String,
    sender: mpsc::Sender<Update>,
    receiver: mpsc::Receiver<Update>,
    tasks: JoinSet<()>,
}

impl Watcher {
    /// Follows nothing yet.
    pub(crate) fn new(client: Client, namespace: &str) -> Self {
        let (sender, receiver) = mpsc::channel(UPDATES_MAX);
        Self { client, namespace: namespace.to_owned(), sender, receiver, tasks: JoinSet::new() }
    }

    /// Begins to follow an execution.
    pub(crate) fn follow(&mut self, index: usize, key: ExecutionKey) {
        let (client, namespace, sender) = (self.client.clone(), self.namespace.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            if let Err(failure) = follow(&client, &namespace, &key, index, &sender).await {
                let _ = sender.send(Update::Lost(index, failure)).await;
            }
        });
    }

    /// Reads the status of an execution once, for what it waits for.
    pub(crate) fn read_status(&mut self, index: usize, key: ExecutionKey) {
        let (client, namespace, sender) = (self.client.clone(), self.namespace.clone(), self.sender.clone());
        self.tasks.spawn(async move {
            // Only adorns the picture: a failure shows elsewhere.
            if let Ok(execution) = client.execution(key.kind, &namespace, &key.name).await {
                let waiting = execution.waiting_for().cloned().unwrap_or_default();
                let _ = sender.send(Update::Waiting(index, waiting)).await;
            }
        });
    }

    /// The next update.
    pub(crate) async fn next(&mut self) -> Option<Update> {
        while self.tasks.try_join_next().is_some() {}
        self.receiver.recv().await
    }
}

/// Sends every event once, in order, over as many streams as it takes; ends after the last event.
async fn follow(
    client: &Client,
    namespace: &str,
    key: &ExecutionKey,
    index: usize,
    sender: &mpsc::Sender<Update>,
) -> Result<(), Failure> {
    let (mut after, mut tries, mut pause) = (0, 0, PAUSE);
    loop {
        let request = v1::StreamRequest { namespace: namespace.to_owned(), name: key.name.clone(), after };
        let failure = match client.stream(key.kind, request).await {
            Err(failure) => failure,
            Ok(mut stream) => loop {
                match stream.message().await {
                    Ok(Some(item)) => {
                        (tries, pause) = (0, PAUSE);
                        let mut is_last = false;
                        let update = match item.item {
                            Some(Item::Event(event)) => {
                                after = event.number;
                                is_last = matches!(event.attributes, Some(Attributes::Ended(_)));
                                Update::Event(index, Box::new(event))
                            }
                            Some(Item::Delta(delta)) => Update::Delta(index, Box::new(delta)),
                            Some(Item::State(_)) | None => continue,
                        };
                        if sender.send(update).await.is_err() || is_last {
                            return Ok(());
                        }
                    }
                    Ok(None) => {
                        break Failure::environment(format!(
                            "the history of {} broke off after event {after}",
                            key.name
                        ));
                    }
                    Err(status) => break status.into(),
                }
            },
        };
        tries += 1;
        if failure.blame() != Blame::Environment || tries > TRIES_MAX {
            return Err(failure);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}
