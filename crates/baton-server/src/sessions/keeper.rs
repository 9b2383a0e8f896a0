//! The steps of a session: who has ended, whose turn it is now.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use baton_agent::TurnRecord;
use baton_engine::Released;
use baton_proto::{
    ExecutionResource, Timestamp, condition, kind,
    v1::{Session, SessionTurn},
};
use baton_store::{Change, ChangeKind, ExecState, ResourceKey, Watch};
use baton_types::{ApiError, ErrorKind, Phase, Uid};
use futures::StreamExt as _;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::{
    RACES_MAX, SESSION_FINALIZER,
    books::{Kept, Place, SaveError, Stand},
    conversation, raced, session_of, waits_for,
};
use crate::app::{App, now_ms, template};

/// How often every session is looked at, whatever was heard.
const LOOK_PERIOD: Duration = Duration::from_secs(30);
/// Pause before a session is looked at again that could not be.
const PAUSE: Duration = Duration::from_secs(1);
/// Sessions looked at together.
const TOGETHER: usize = 16;
/// Rows read at a time.
const PAGE_ROWS: usize = 200;

/// Sessions that are to be looked at, each with the executions that something was heard of; with none, at all of its
/// executions.
type Wanted = HashMap<ResourceKey, HashSet<Uid>>;

/// Gives turns, from the start of whoever leads to its end.
pub(crate) struct Keeper {
    app: App,
}

impl Keeper {
    pub(crate) fn new(app: App) -> Self {
        Self { app }
    }

    /// Works until the server stops.
    pub(crate) async fn run(self, stopping: CancellationToken) {
        let work = async {
            loop {
                // What changes from here on is heard of, what has changed before is seen.
                match self.app.store().watch(Some(kind::AGENT_EXECUTION), self.app.store().revision()) {
                    Ok(watch) => self.follow(watch).await,
                    Err(error) => tracing::warn!(%error, "executions of sessions cannot be followed; trying again"),
                }
                sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = work => {}
        }
    }

    async fn follow(&self, mut watch: Watch) {
        let mut rounds = interval(LOOK_PERIOD);
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = Wanted::new();
        loop {
            let wanted = tokio::select! {
                _ = rounds.tick() => self.all().await,
                batch = watch.next() => match batch {
                    Ok(batch) => heard(batch.changes.iter().map(AsRef::as_ref)),
                    Err(error) => {
                        tracing::debug!(%error, "executions of sessions are followed anew");
                        return;
                    }
                },
                () = sleep(PAUSE), if !again.is_empty() => std::mem::take(&mut again),
            };
            again.extend(self.look_at(wanted).await);
        }
    }

    /// Every session that somebody waits in.
    async fn all(&self) -> Wanted {
        let mut wanted = Wanted::new();
        let mut after = None;
        loop {
            let (rows, next) = match self.app.rows_of(kind::SESSION, after, PAGE_ROWS).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(detail = error.detail, "sessions cannot be read; trying again: {error}");
                    return wanted;
                }
            };
            let busy = |row: &baton_store::StoredResource| Kept::read(row).is_ok_and(|kept| !kept.books.is_idle());
            wanted.extend(rows.into_iter().filter(busy).map(|row| (row.key, HashSet::new())));
            after = next;
            if after.is_none() {
                return wanted;
            }
        }
    }

    /// Looks at sessions; those that could not be looked at.
    async fn look_at(&self, wanted: Wanted) -> Wanted {
        let looked = futures::stream::iter(wanted).map(|(key, uids)| async move {
            let heard: Vec<Uid> = uids.iter().copied().collect();
            let looked = {
                let _alone = self.app.sessions().lock(&key).await;
                look(&self.app, &key, &heard).await
            };
            let failed = looked.err()?;
            log(&key, &failed);
            Some((key, uids))
        });
        looked.buffer_unordered(TOGETHER).filter_map(std::future::ready).collect().await
    }
}

/// Sessions whose executions have ended or are gone.
fn heard<'a>(changes: impl Iterator<Item = &'a Change>) -> Wanted {
    let mut wanted = Wanted::new();
    for change in changes {
        let Ok(execution) = baton_engine::decode_stored(&change.key.kind, &change.body, change.revision) else {
            continue;
        };
        let over = change.kind == ChangeKind::Deleted || execution.phase().is_terminal();
        if let Some(key) = session_of(&execution).filter(|_| over) {
            wanted.entry(key).or_default().insert(Uid::from_bytes(change.uid));
        }
    }
    wanted
}

pub(super) fn log(key: &ResourceKey, failed: &ApiError) {
    tracing::warn!(session = %key, detail = failed.detail, "a session does not go on now; trying again: {failed}");
}

/// Brings a session up to date: what has ended is over, what is over is let go, and the next one gets its turn. The
/// execution that was released, as it is then. Whoever calls it has the lock of the session.
///
/// `heard` names executions that something was heard of; without any, all are looked at.
pub(super) async fn look(app: &App, key: &ResourceKey, heard: &[Uid]) -> Result<Option<ExecutionResource>, ApiError> {
    for _ in 0..RACES_MAX {
        match step(app, key, heard).await {
            Ok(released) => return Ok(released),
            Err(SaveError::Changed) => {}
            Err(SaveError::Refused(error)) => return Err(error),
        }
    }
    Err(raced(key))
}

impl From<ApiError> for SaveError {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

async fn step(app: &App, key: &ResourceKey, heard: &[Uid]) -> Result<Option<ExecutionResource>, SaveError> {
    let Some(mut kept) = Kept::load(app, key).await? else { return Ok(None) };
    let moved = settle(app, &mut kept, heard).await?;
    let promoted = promote(app, &mut kept).await?;
    let changed = kept.books.line_up();
    if moved || promoted {
        kept.touch();
        kept.save(app).await?;
    }
    let_go(app, &mut kept).await?;
    for place in changed {
        tell(app, key, place).await?;
    }
    release(app, &kept).await
}

/// Notes what has become of executions. Whether anything has.
async fn settle(app: &App, kept: &mut Kept, heard: &[Uid]) -> Result<bool, ApiError> {
    let mut moved = false;
    for index in (0..kept.books.places.len()).rev() {
        let (uid, stand) = (kept.books.places[index].uid(), kept.books.places[index].stand());
        let look = heard.is_empty() || stand == Stand::Active || heard.contains(&uid);
        if stand == Stand::Over || !look {
            continue;
        }
        let stored = app.read(move |store| store.get_by_uid(*uid.as_bytes())).await?;
        match stored {
            None => drop(kept.books.places.remove(index)),
            Some(stored) if stored.state == ExecState::Closed => {
                if stand == Stand::Active {
                    take_turn(app, kept, uid).await?;
                }
                kept.books.places[index].set_stand(Stand::Over);
            }
            Some(_) => continue,
        }
        moved = true;
    }
    Ok(moved)
}

/// Takes what an execution has left into the conversation.
async fn take_turn(app: &App, kept: &mut Kept, uid: Uid) -> Result<(), ApiError> {
    let engine = app.engine()?.clone();
    let read = tokio::task::spawn_blocking(move || engine.carried_over(uid)).await;
    let left = match read.map_err(|stopped| ApiError::internal(format!("a read of a turn was stopped: {stopped}")))? {
        // It was cancelled before it began, or is gone.
        Ok(None) => return Ok(()),
        Err(error) if error.kind == ErrorKind::NotFound => return Ok(()),
        Ok(Some(left)) => TurnRecord::read(&left.content).map(|turn| (left.digest, turn)).map_err(|it| it.to_string()),
        Err(error) if error.kind == ErrorKind::Internal => Err(error.detail.unwrap_or(error.message)),
        Err(error) => return Err(error),
    };
    match left {
        Ok((digest, turn)) => kept.record(digest, &turn),
        Err(why) => {
            tracing::error!(session = %kept.key, execution_id = %uid, why, "a turn is left out of its session");
        }
    }
    Ok(())
}

/// Gives the first that waits its turn, if nobody has it. Whether it did.
async fn promote(app: &App, kept: &mut Kept) -> Result<bool, ApiError> {
    if kept.books.active().is_some() {
        return Ok(false);
    }
    let Some(index) = kept.books.places.iter().position(|place| place.stand() == Stand::Waiting) else {
        return Ok(false);
    };
    kept.books.places[index].set_stand(Stand::Active);
    conversation::shorten(app, kept).await?;
    Ok(true)
}

/// Lets go of executions that have had their turn; deletes the session, if only they held it.
async fn let_go(app: &App, kept: &mut Kept) -> Result<(), SaveError> {
    let over: Vec<Uid> =
        kept.books.places.iter().filter(|place| place.stand() == Stand::Over).map(Place::uid).collect();
    let ends = kept.is_deleting() && kept.books.places.len() == over.len();
    if over.is_empty() && !ends {
        return Ok(());
    }
    for uid in over {
        let free = |execution: &mut ExecutionResource| {
            execution.metadata_mut().finalizers.retain(|finalizer| finalizer != SESSION_FINALIZER);
            Ok(())
        };
        match app.engine()?.update(uid, Box::new(free)).await {
            Ok(_) => {}
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(SaveError::Refused(error)),
        }
    }
    kept.books.places.retain(|place| place.stand() != Stand::Over);
    kept.save(app).await?;
    let held = kept.object.metadata.as_ref().is_some_and(|meta| !meta.finalizers.is_empty());
    if !ends || held {
        return Ok(());
    }
    let key = kept.key.clone();
    if let Some(stored) = app.read(move |store| store.get(&key)).await? {
        let deleted = template::delete_row(app, &stored, &kept.object).await;
        deleted.map_err(|failed| SaveError::Refused(template::write_failed::<Session>(&stored, &failed)))?;
    }
    Ok(())
}

/// Tells an execution after whom its turn is now: the one before it has gone.
async fn tell(app: &App, key: &ResourceKey, place: Place) -> Result<(), ApiError> {
    let message = waits_for(key, Some(&place.after));
    let tell = move |execution: &mut ExecutionResource| {
        if execution.phase() == Phase::Pending {
            let at = Timestamp::from_millis(now_ms());
            execution.set_condition(condition::WAITING, true, "Session", &message, at);
        }
        Ok(())
    };
    match app.engine()?.update(place.uid(), Box::new(tell)).await {
        Err(error) if error.kind != ErrorKind::NotFound => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Lets whoever has its turn begin, if it has not yet.
async fn release(app: &App, kept: &Kept) -> Result<Option<ExecutionResource>, SaveError> {
    let Some(active) = kept.books.active() else { return Ok(None) };
    let uid = active.uid();
    let stored = app.read(move |store| store.get_by_uid(*uid.as_bytes())).await?;
    // It was never created, or is gone already: the next one is to be found.
    let Some(stored) = stored else { return Err(SaveError::Changed) };
    let execution = baton_engine::decode_stored(&stored.key.kind, &stored.body, stored.revision)?;
    if execution.phase() != Phase::Pending || execution.start_time().copied().flatten().is_some() {
        return Ok(None);
    }
    let earlier = conversation::earlier(app, kept).await?;
    let count = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
    let turn = SessionTurn {
        turn: count(earlier.turn.into()),
        messages: count(earlier.spoken.messages.into()),
        bytes: count(earlier.spoken.bytes),
        digest: earlier.previous.clone().unwrap_or_default(),
    };
    let change = move |execution: &mut ExecutionResource| {
        if let ExecutionResource::Agent(it) = execution {
            it.status.get_or_insert_default().session = Some(turn);
        }
    };
    let carried_over = serde_json::to_value(&earlier).unwrap_or(Value::Null);
    let released = app.engine()?.release(uid, Released { carried_over, change: Box::new(change) }).await;
    match released {
        Ok(released) => Ok(Some(released)),
        Err(error) if error.kind == ErrorKind::NotFound => Err(SaveError::Changed),
        Err(error) => Err(SaveError::Refused(error)),
    }
}
