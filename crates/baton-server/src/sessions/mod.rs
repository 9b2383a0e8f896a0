//! Sessions: whose turn it is, and what a turn begins with.
//!
//! An execution that names a session takes a [`Place`](books::Place) in its row before it is created, is created *held*
//! (the engine gives it no first step), and is released when the places before it are over. What it leaves (see
//! [`TurnRecord`]) goes into the conversation that the next one begins with.
//!
//! # Invariants
//! - The row of the session has the order, and everything else is looked up: who has ended, who was never created. So
//!   whoever looks again after a crash comes to the same end, and every step can be done twice.
//! - Places are taken, and steps are done, one at a time for each session, by the server that leads.
//! - An execution that has had its turn is held by a finalizer until its turn is in the conversation.
//! - An execution is never made to wait for one that is above it: that one would wait for itself.
//!
//! # Deliberately absent
//! Time: whoever has its turn keeps it until it ends, however long it is suspended or waits for a person.
//!
//! # Failure
//! What cannot be read or written now is tried again a second later, and everything is looked at again every half minute.
//! A turn whose texts are lost is left out of the conversation; the queue goes on.

pub(crate) mod books;
mod conversation;
mod keeper;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use baton_engine::{Admitted, Created, Held, ParentRef};
use baton_proto::{ExecutionResource, Resource, v1::Session};
use baton_store::ResourceKey;
use baton_types::{ApiError, ErrorKind, Uid};
use tokio::sync::{Mutex, MutexGuard};

use self::{
    books::{Kept, Place, SaveError, Stand},
    keeper::look,
};
pub(crate) use self::{conversation::turn, keeper::Keeper};
use crate::app::{App, metadata};

/// Holds a deleted execution until its turn is in the conversation of its session.
pub(crate) const SESSION_FINALIZER: &str = "baton.dev/session-turn";

/// Executions that wait in one session, at most.
const QUEUE_MAX: usize = 1000;
/// Sessions that share a lock do not disturb each other for longer than a few commits.
const LOCKS: usize = 64;
/// Times that a row is read again because somebody else wrote it.
const RACES_MAX: usize = 16;

/// What keeps the steps of one session apart.
pub(crate) struct Sessions {
    locks: [Mutex<()>; LOCKS],
}

impl Default for Sessions {
    fn default() -> Self {
        Self { locks: std::array::from_fn(|_| Mutex::default()) }
    }
}

impl Sessions {
    async fn lock(&self, key: &ResourceKey) -> MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % LOCKS as u64).unwrap_or_default();
        self.locks[index].lock().await
    }
}

/// The session that an execution is a turn of.
pub(crate) fn session_of(execution: &ExecutionResource) -> Option<ResourceKey> {
    let ExecutionResource::Agent(it) = execution else { return None };
    let name = it.spec.as_ref().map(|spec| spec.session.clone()).filter(|name| !name.is_empty())?;
    Some(ResourceKey::new(Session::KIND, execution.metadata().namespace.clone(), name))
}

/// Creates an execution: at once, or as a turn of its session.
///
/// # Errors
/// As for [`baton_engine::Engine::create`]; FailedPrecondition if the session cannot take it; ResourceExhausted if too many
/// wait in it.
pub(crate) async fn create(app: &App, admitted: Admitted) -> Result<Created, ApiError> {
    let Some(key) = session_of(&admitted.resource) else { return app.engine()?.create(admitted).await };
    let app = app.clone();
    // To its end, also if the caller goes away: a place that was taken is not to wait for an execution that is not made.
    let joining = tokio::spawn(async move { join(&app, key, admitted).await });
    joining.await.map_err(|stopped| ApiError::internal(format!("the way into a session was broken off: {stopped}")))?
}

async fn join(app: &App, key: ResourceKey, mut admitted: Admitted) -> Result<Created, ApiError> {
    let meta = admitted.resource.metadata_mut();
    let uid: Uid = meta.uid.parse().map_err(|_| ApiError::internal(format!("admitted with the uid '{}'", meta.uid)))?;
    let place = Place::new(uid, meta.name.clone());
    meta.finalizers.push(SESSION_FINALIZER.to_owned());
    let _alone = app.sessions().lock(&key).await;
    let after = take_place(app, &key, place, admitted.parent.as_ref()).await?;
    admitted.held = Some(Held { reason: "Session".to_owned(), message: waits_for(&key, after.as_deref()) });
    let created = app.engine()?.create(admitted).await;
    // What was created is looked up like anything else, and so is what was not.
    let released = look(app, &key, &[uid]).await;
    let mut created = created?;
    match released {
        Ok(Some(released)) if released.metadata().uid == created.resource.metadata().uid => created.resource = released,
        Ok(_) => {}
        Err(failed) => keeper::log(&key, &failed),
    }
    Ok(created)
}

/// What an execution is told to wait for.
fn waits_for(key: &ResourceKey, after: Option<&str>) -> String {
    match after {
        Some(after) => format!("its turn in session '{}', after '{after}'", key.name),
        None => format!("its turn in session '{}'", key.name),
    }
}

/// Puts an execution at the end of the queue; the name of the one before it.
async fn take_place(
    app: &App,
    key: &ResourceKey,
    place: Place,
    parent: Option<&ParentRef>,
) -> Result<Option<String>, ApiError> {
    for _ in 0..RACES_MAX {
        let mut kept = match Kept::load(app, key).await? {
            Some(kept) => kept,
            None => Kept::new(app, key.clone(), unasked(key)),
        };
        if kept.is_deleting() {
            let message = format!("session '{}' is being deleted: it takes no more executions", key.name);
            return Err(ApiError::new(ErrorKind::FailedPrecondition, "SESSION_DELETING", message)
                .hint("name another session, or wait until it is gone"));
        }
        if kept.books.waiting().count() >= QUEUE_MAX {
            let message = format!("{QUEUE_MAX} executions wait in session '{}', which is the limit", key.name);
            return Err(ApiError::new(ErrorKind::ResourceExhausted, "SESSION_QUEUE_FULL", message)
                .hint("wait until some of them have ended, or name another session"));
        }
        if let Some(parent) = parent {
            refuse_own_ancestors(app, &kept, parent).await?;
        }
        let after = kept.books.places.iter().rfind(|it| it.stand() != Stand::Over).map(|it| it.name.clone());
        let mut own = place.clone();
        own.after = after.clone().unwrap_or_default();
        kept.books.places.push(own);
        kept.touch();
        match kept.save(app).await {
            Ok(()) => return Ok(after),
            Err(SaveError::Changed) => {}
            Err(SaveError::Refused(error)) => return Err(error),
        }
    }
    Err(raced(key))
}

fn raced(key: &ResourceKey) -> ApiError {
    let message = format!("session '{}' is changed by others over and over", key.name);
    ApiError::new(ErrorKind::Unavailable, "OVERLOADED", message)
}

/// The session that is made for an execution that names one which does not exist.
fn unasked(key: &ResourceKey) -> Session {
    let mut object = Session { spec: Some(baton_proto::v1::SessionSpec::default()), ..Session::default() };
    object.set_type_meta();
    let meta = object.metadata_mut();
    meta.name.clone_from(&key.name);
    meta.namespace.clone_from(&key.namespace);
    metadata::prepare_new(meta, metadata::new_uid(), metadata::now_ms(), &mut Vec::new());
    object
}

/// Refuses an execution that would wait for one that has, directly or not, started it: that one waits for its end.
async fn refuse_own_ancestors(app: &App, kept: &Kept, parent: &ParentRef) -> Result<(), ApiError> {
    let mut above = Some(parent.uid);
    for _ in 0..=parent.depth {
        let Some(uid) = above.take() else { break };
        if let Some(place) = kept.books.places.iter().find(|place| place.uid() == uid && place.stand() != Stand::Over) {
            let message = format!(
                "session '{}' is taken by '{}', which is above this execution: it would wait for itself",
                kept.key.name, place.name
            );
            return Err(ApiError::new(ErrorKind::FailedPrecondition, "SESSION_WAITS_FOR_ITSELF", message)
                .hint("name another session for what an agent starts, or none"));
        }
        let Some(stored) = app.read(move |store| store.get_by_uid(*uid.as_bytes())).await? else { break };
        let execution = baton_engine::decode_stored(&stored.key.kind, &stored.body, stored.revision)?;
        above = execution.parent().and_then(Option::as_ref).and_then(|parent| parent.uid.parse().ok());
    }
    Ok(())
}
