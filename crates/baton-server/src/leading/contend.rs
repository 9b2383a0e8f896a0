//! Standing by, taking over, and seeing whether one still leads.
//!
//! # Invariants
//! - The notice of who leads is in the store before the engine starts, so that nobody goes on forwarding elsewhere.
//! - Whoever finds another notice than its own leads no more, whatever the lock says: another one has led since.
//!
//! # Failure
//! A store that cannot be read or written is waited for: a standby stands by as long as it takes, and a leader leads for as long
//! as [`Leadership`] says.

use std::{path::PathBuf, sync::Arc, time::Duration};

use baton_engine::{Sealer, chain};
use baton_store::{Leadership, Store, StoreError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    FINGERPRINT, Post, ServerFailure,
    keys::{self, Fits},
    post::Notice,
};
use crate::{metrics, server::StartError};

/// How often it is seen whether this server leads: well below the time in which it may be lost and won again.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the store is asked who leads.
const READ_EVERY: Duration = Duration::from_millis(500);
/// How often histograms are put in order.
const METRICS_EVERY: Duration = Duration::from_mins(1);

/// A server that may lead.
pub(crate) struct Contender {
    pub(crate) store: Store,
    pub(crate) post: Arc<Post>,
    /// Where others reach this server.
    pub(crate) address: String,
    pub(crate) sealer: Arc<Sealer>,
    /// Where its key is, for saying so.
    pub(crate) key_path: PathBuf,
    pub(crate) stopping: CancellationToken,
}

/// Stands by until this server leads, has it lead by `lead`, and looks whether it still does; once it does not, `halt` is to
/// begin no more work. Gives what `lead` gave when this server stops or cannot go on; nothing if it never led.
pub(crate) async fn contend<R>(
    contender: Contender,
    lead: impl FnOnce() -> Result<R, StartError>,
    halt: impl FnOnce(&R),
) -> Option<R> {
    let leadership = contender.store.leadership();
    metrics::leading(false);
    if !contender.stand_by(&leadership).await {
        return None;
    }
    let notice = Notice::new(contender.address.clone());
    let taken = tokio::select! {
        taken = contender.take_over(&leadership, &notice) => taken,
        () = contender.stopping.cancelled() => return None,
    };
    if let Err(failure) = taken {
        contender.post.fail(failure);
        return None;
    }
    let leading = match lead() {
        Ok(leading) => leading,
        Err(error) => {
            contender.post.fail(ServerFailure::TakeOver(error));
            return None;
        }
    };
    metrics::leading(true);
    tracing::info!(address = contender.address, "this server leads: it runs the engine, and others forward to it");
    if let Some(why) = contender.lead(&leadership, &notice).await {
        halt(&leading);
        metrics::leading(false);
        contender.post.fail(ServerFailure::LeadershipLost(why));
    }
    Some(leading)
}

impl Contender {
    /// Until this server is to lead; false if it is to stop, or cannot go on.
    async fn stand_by(&self, leadership: &Leadership) -> bool {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut read_at, mut tidy_at, mut away) = (Instant::now(), Instant::now() + METRICS_EVERY, false);
        loop {
            tokio::select! {
                _ = looks.tick() => {}
                () = self.stopping.cancelled() => return false,
            }
            if leadership.is_leader() {
                return true;
            }
            if Instant::now() >= tidy_at {
                metrics::upkeep();
                tidy_at = Instant::now() + METRICS_EVERY;
            }
            if Instant::now() < read_at {
                continue;
            }
            match self.read().await {
                Ok((notice, fingerprint)) => {
                    // A notice of an earlier life of this server says nothing about now.
                    let elsewhere = notice.map(|notice| notice.address).filter(|address| *address != self.address);
                    self.post.found(elsewhere);
                    if let Err(error) = keys::check(&self.sealer, fingerprint.as_deref(), &self.key_path) {
                        self.post.fail(ServerFailure::StandBy(error));
                        return false;
                    }
                    away = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        tracing::warn!(error = chain(&error), "the store does not say who leads; trying again");
                    }
                }
            }
            read_at = Instant::now() + READ_EVERY;
        }
    }

    /// Writes the notice, and the fingerprint of the key if there is none.
    async fn take_over(&self, leadership: &Leadership, notice: &Notice) -> Result<(), ServerFailure> {
        loop {
            let written = match self.read().await {
                Ok((_, fingerprint)) => {
                    let fits = keys::check(&self.sealer, fingerprint.as_deref(), &self.key_path);
                    let more = match fits.map_err(ServerFailure::TakeOver)? {
                        Fits::Same => None,
                        Fits::Unknown(own) => Some((FINGERPRINT.to_owned(), own)),
                    };
                    notice.write(&self.store, more).await.map_err(|error| chain(&error))
                }
                Err(error) => Err(chain(&error)),
            };
            if !leadership.is_leader() {
                return Err(ServerFailure::LeadershipLost("it was lost while it began".to_owned()));
            }
            match written {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(error, "the store does not take the notice of who leads; trying again"),
            }
            tokio::time::sleep(READ_EVERY).await;
        }
    }

    /// Until it leads no more, with the reason; nothing if it stops.
    async fn lead(&self, leadership: &Leadership, notice: &Notice) -> Option<String> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading = interval(READ_EVERY);
        reading.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut read = None;
        loop {
            tokio::select! {
                () = self.stopping.cancelled() => return None,
                _ = looks.tick() => {
                    if !leadership.is_leader() {
                        return Some("the database was away, or has given it to another server".to_owned());
                    }
                }
                _ = reading.tick(), if read.is_none() => read = Some(Box::pin(self.read())),
                found = async { read.as_mut().expect("the branch is taken only with one").await }, if read.is_some() => {
                    read = None;
                    match found {
                        Ok((Some(found), _)) if found.id != notice.id => {
                            return Some(format!("the server at {} leads", found.address));
                        }
                        Ok(_) | Err(_) => {}
                    }
                }
            }
        }
    }

    /// Who leads, and the fingerprint of the key, as the store has them.
    async fn read(&self) -> Result<(Option<Notice>, Option<Vec<u8>>), StoreError> {
        let store = self.store.clone();
        let read = move || Ok((Notice::read(&store)?, store.meta(FINGERPRINT)?));
        tokio::task::spawn_blocking(read).await.unwrap_or(Err(StoreError::Closed))
    }
}
