//! Following what other servers commit while this one is idle, and holding the lock of leadership.
//!
//! One session listens; a notification is a hint, and a look at the head every second is the truth. Whatever is new is read
//! from the table and published as if it had been committed here. What the own committer has published in the meantime is
//! left out by the ring.
//!
//! # Failure
//! A session that breaks, or does not answer for [`ANSWER_MAX`], loses leadership at once and is replaced. Watchers then see
//! changes later, but all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use futures::StreamExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client};

use super::address::{Address, Role};
use super::rows::CHANGE_COLUMNS;
use super::transact::in_sequence;
use super::writer::CHANGES_MAX;
use super::{chain, doing, link};
use crate::error::StoreError;
use crate::leadership::Leadership;
use crate::shared::Shared;

/// How often the head is looked at without being told to.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A session that takes longer is as good as broken.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// Between two sessions.
const PAUSE: Duration = Duration::from_millis(200);
/// How long the end is waited for.
const END_MAX: Duration = Duration::from_secs(3);

/// The channel on which a group tells that it moved the head. Names are of the database, and so is a cluster's id part.
pub(super) fn channel(cluster_id: &[u8; 16]) -> String {
    format!("baton_{}", crate::value::hex(cluster_id))
}

/// The key of the advisory lock that a leader holds.
fn leader_key(cluster_id: &[u8; 16]) -> i64 {
    let (low, high) = (u64::from_le_bytes(half(cluster_id, 0)), u64::from_le_bytes(half(cluster_id, 8)));
    (low ^ high).cast_signed()
}

fn half(id: &[u8; 16], at: usize) -> [u8; 8] {
    std::array::from_fn(|index| id[at + index])
}

/// What follows the others; stopped when the store closes.
pub(crate) struct Tail {
    address: Arc<Address>,
    handle: Handle,
    cluster_id: [u8; 16],
    leadership: Leadership,
    /// The server's process behind the committer's session, whose notifications are no news.
    own: Arc<AtomicI32>,
    running: Option<(watch::Sender<bool>, Receiver<()>)>,
}

impl Tail {
    pub(super) fn new(address: Arc<Address>, handle: Handle, cluster_id: [u8; 16], own: Arc<AtomicI32>) -> Self {
        Self { address, handle, cluster_id, leadership: Leadership::none(), own, running: None }
    }

    pub(crate) fn leadership(&self) -> Leadership {
        self.leadership.clone()
    }

    pub(crate) fn address(&self) -> String {
        self.address.text().to_owned()
    }

    /// Begins to follow.
    pub(crate) fn start(mut self, shared: Arc<Shared>) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (ended, end) = sync_channel(1);
        let follower = Follower {
            address: Arc::clone(&self.address),
            shared,
            cluster_id: self.cluster_id,
            leadership: self.leadership.clone(),
            own: Arc::clone(&self.own),
            stopped,
        };
        self.handle.spawn(async move {
            follower.run().await;
            drop(ended);
        });
        self.running = Some((stop, end));
        self
    }

    /// Ends the session, so that another server can lead at once.
    pub(crate) fn stop(self) {
        if let Some((stop, end)) = self.running {
            stop.send_replace(true);
            // It ends by dropping its side.
            let _ = end.recv_timeout(END_MAX);
        }
        self.leadership.set(None);
    }
}

struct Follower {
    address: Arc<Address>,
    shared: Arc<Shared>,
    cluster_id: [u8; 16],
    leadership: Leadership,
    own: Arc<AtomicI32>,
    stopped: watch::Receiver<bool>,
}

impl Follower {
    async fn run(mut self) {
        let mut reported = false;
        while !*self.stopped.borrow() {
            let ended = self.session(&mut reported).await;
            self.leadership.set(None);
            if let Err(error) = ended {
                if !std::mem::replace(&mut reported, true) {
                    tracing::warn!(error = chain(&error), "other servers' commits cannot be followed; trying again");
                }
                let mut stopped = self.stopped.clone();
                let _ = tokio::time::timeout(PAUSE, stopped.changed()).await;
            }
        }
    }

    /// Follows on one session; `Ok` when told to stop.
    async fn session(&mut self, reported: &mut bool) -> Result<(), StoreError> {
        let (client, mut connection) = self.address.connect(Role::Tail).await?;
        let (news, own) = (Arc::new(Notify::new()), Arc::clone(&self.own));
        let told = Arc::clone(&news);
        let mut driver = tokio::spawn(async move {
            let mut messages = futures::stream::poll_fn(|context| connection.poll_message(context));
            // An error ends the connection, which whoever uses it notices.
            while let Some(Ok(message)) = messages.next().await {
                match message {
                    AsyncMessage::Notification(notification) if notification.process_id() != own.load(Relaxed) => {
                        news.notify_one();
                    }
                    _ => {}
                }
            }
        });
        let outcome = self.follow(&client, &told, &mut driver, reported).await;
        drop(client);
        if !driver.is_finished() {
            let _ = tokio::time::timeout(ANSWER_MAX, driver).await;
        }
        outcome
    }

    async fn follow(
        &mut self,
        client: &Client,
        told: &Notify,
        driver: &mut JoinHandle<()>,
        reported: &mut bool,
    ) -> Result<(), StoreError> {
        let begin = async {
            if link::cluster_id(client).await? != self.cluster_id {
                return Err(self.address.unreachable("it has another store now"));
            }
            let listen = format!("LISTEN {}", channel(&self.cluster_id));
            client.batch_execute(&listen).await.map_err(doing("listen for other servers' commits"))
        };
        self.in_time(begin).await?;
        let mut leads = false;
        loop {
            let heard = Instant::now();
            let look = async {
                if !leads {
                    leads = try_lead(client, leader_key(&self.cluster_id)).await?;
                }
                catch_up(client, &self.shared).await
            };
            self.in_time(look).await?;
            self.leadership.set(leads.then_some(heard));
            if std::mem::take(reported) {
                tracing::info!("other servers' commits are followed again");
            }
            tokio::select! {
                _ = self.stopped.changed() => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = told.notified() => {}
                _ = &mut *driver => return Err(self.address.unreachable("the connection broke")),
            }
        }
    }

    async fn in_time<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(self.address.unreachable("the server does not answer")),
        }
    }
}

async fn try_lead(client: &Client, key: i64) -> Result<bool, StoreError> {
    let row = client.query_one("SELECT pg_try_advisory_lock($1)", &[&key]).await;
    row.and_then(|row| row.try_get(0)).map_err(doing("ask for leadership"))
}

/// Publishes what is new, as far as it goes.
async fn catch_up(client: &Client, shared: &Shared) -> Result<(), StoreError> {
    const OPERATION: &str = "read other servers' commits";
    /// Changes read at once, so that large bodies do not fill the memory.
    const PAGE: i64 = 256;
    let columns: Vec<String> = CHANGE_COLUMNS.split(", ").map(|column| format!("c.{column}")).collect();
    let sql = format!(
        "SELECT h.revision, h.compacted, {} FROM head h LEFT JOIN LATERAL (SELECT {CHANGE_COLUMNS} FROM change \
         WHERE revision > $1 ORDER BY revision LIMIT $2) c ON true ORDER BY c.revision",
        columns.join(", ")
    );
    loop {
        let known = shared.rings().last();
        let found = client.query(&sql, &[&known.cast_signed(), &PAGE]).await.map_err(doing(OPERATION))?;
        let Some(first) = found.first() else { return Ok(()) };
        let number = |index| first.try_get::<_, i64>(index).map(i64::cast_unsigned).map_err(doing(OPERATION));
        let (head, compacted) = (number(0)?, number(1)?);
        shared.set_compacted(compacted);
        if head <= known {
            return Ok(());
        }
        let page = if head - known > CHANGES_MAX { None } else { in_sequence(&found, 2, known) };
        let reached = page.as_ref().and_then(|page| page.last()).map_or(head, |change| change.revision);
        shared.publish_others(page, reached);
        if reached >= head {
            return Ok(());
        }
    }
}
