//! What is kept of a session: its public object, and beside it who waits for a turn and what the next turn begins with.
//!
//! A row holds both messages one after the other, as those of secrets do: whatever reads it as a `Session` sees the public
//! half alone.

use baton_agent::{Compaction, Spoken, TurnRecord, check_compaction};
use baton_proto::{
    Resource, Timestamp, kind, to_json_value,
    v1::{ExecutionReference, Session, SessionSpec},
};
use baton_store::{BlobPut, CommitError, Expect, Lane, ResourceKey, ResourcePut, StoredResource, Txn};
use baton_types::{ApiError, Digest, Uid, parse_duration};
use bytes::Bytes;
use prost::Message as _;

use crate::app::{App, ServedResource as _, now_ms, template};

/// Names of waiting executions that `status` shows.
const QUEUE_SHOWN_MAX: usize = 10;

/// What a stored session has beside its public message.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Books {
    /// Whose turn it is, was a moment ago, or will be, in order.
    #[prost(message, repeated, tag = "1000")]
    pub(super) places: Vec<Place>,
    /// Digest of the record of the last turn; empty before the first.
    #[prost(string, tag = "1001")]
    pub(super) last: String,
    /// Turns that have ended.
    #[prost(uint32, tag = "1002")]
    pub(super) turns: u32,
    /// What the next turn begins with: [`Spoken`] as JSON.
    #[prost(string, tag = "1003")]
    spoken: String,
    /// Tokens of the last question and its answer.
    #[prost(uint64, tag = "1004")]
    pub(super) tokens: u64,
    /// When something last happened, in milliseconds since 1970.
    #[prost(int64, tag = "1005")]
    active_ms: i64,
}

/// An execution's place in the queue of a session.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Place {
    #[prost(bytes = "vec", tag = "1")]
    uid: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(enumeration = "Stand", tag = "3")]
    pub(super) stand: i32,
    /// Name of the execution that it was told to wait for; empty for none.
    #[prost(string, tag = "4")]
    pub(super) after: String,
}

/// How things stand with an execution in a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
pub(super) enum Stand {
    /// It waits for its turn.
    Waiting = 0,
    /// It has its turn.
    Active = 1,
    /// It has had it, and is to be let go.
    Over = 2,
}

impl Place {
    pub(super) fn new(uid: Uid, name: String) -> Self {
        Self { uid: uid.as_bytes().to_vec(), name, stand: Stand::Waiting.into(), after: String::new() }
    }

    pub(super) fn uid(&self) -> Uid {
        Uid::from_bytes(self.uid.as_slice().try_into().unwrap_or_default())
    }
}

impl Books {
    pub(crate) fn is_idle(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn spoken(&self) -> Spoken {
        // Written here and nowhere else.
        serde_json::from_str(&self.spoken).unwrap_or_default()
    }

    pub(super) fn set_spoken(&mut self, spoken: &Spoken) {
        self.spoken = serde_json::to_string(spoken).unwrap_or_default();
    }

    pub(super) fn active(&self) -> Option<&Place> {
        self.places.iter().find(|place| place.stand() == Stand::Active)
    }

    /// Notes who waits for whom now; those for whom that is another one than they were told.
    pub(super) fn line_up(&mut self) -> Vec<Place> {
        let mut before = String::new();
        let mut changed = Vec::new();
        for place in self.places.iter_mut().filter(|place| place.stand() != Stand::Over) {
            if place.stand() == Stand::Waiting && place.after != before {
                place.after.clone_from(&before);
                changed.push(place.clone());
            }
            before.clone_from(&place.name);
        }
        changed
    }

    pub(super) fn waiting(&self) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(|place| place.stand() == Stand::Waiting)
    }
}

/// A session as it is stored, or is to be.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) key: ResourceKey,
    pub(crate) number: i64,
    /// `None` if it is new.
    pub(crate) revision: Option<u64>,
    pub(crate) object: Session,
    pub(crate) books: Books,
    /// Records that the session refers to from now on.
    records: Vec<Digest>,
}

impl Kept {
    /// Takes a row apart.
    ///
    /// # Errors
    /// Internal, if it is damaged.
    pub(crate) fn read(stored: &StoredResource) -> Result<Self, ApiError> {
        let books = Books::decode(stored.body.clone())
            .map_err(|error| ApiError::internal(format!("{} at revision {}: {error}", stored.key, stored.revision)))?;
        Ok(Self {
            key: stored.key.clone(),
            number: stored.number,
            revision: Some(stored.revision),
            object: Session::decode_stored(&stored.body, stored.revision)?,
            books,
            records: Vec::new(),
        })
    }

    /// A new one, whose object is complete but for its status.
    pub(crate) fn new(app: &App, key: ResourceKey, object: Session) -> Self {
        let number = app.store().next_number();
        Self { key, number, revision: None, object, books: Books::default(), records: Vec::new() }
    }

    pub(crate) async fn load(app: &App, key: &ResourceKey) -> Result<Option<Self>, ApiError> {
        let wanted = key.clone();
        app.read(move |store| store.get(&wanted)).await?.map(|stored| Self::read(&stored)).transpose()
    }

    pub(super) fn spec(&self) -> SessionSpec {
        self.object.spec.clone().unwrap_or_default()
    }

    pub(super) fn is_deleting(&self) -> bool {
        self.object.metadata().is_some_and(|meta| meta.deletion_timestamp.is_some())
    }

    /// What is done against its growth. One that a later version admitted and this one cannot read does nothing.
    pub(super) fn compaction(&self) -> Option<Compaction> {
        let compaction = self.spec().compaction?;
        check_compaction(&to_json_value(&compaction)).ok()
    }

    /// Takes a turn that has ended into the conversation.
    pub(super) fn record(&mut self, digest: Digest, turn: &TurnRecord) {
        let spoken = self.books.spoken().and(&digest, turn);
        self.books.set_spoken(&spoken);
        self.books.last = digest.to_string();
        self.books.turns = self.books.turns.saturating_add(1);
        self.books.tokens = turn.tokens;
        self.books.active_ms = now_ms();
        self.records.push(digest);
    }

    /// Notes that something happens now.
    pub(super) fn touch(&mut self) {
        self.books.active_ms = now_ms();
    }

    /// Writes `status` from the books.
    pub(crate) fn write_status(&mut self) {
        let (books, spoken) = (&self.books, self.books.spoken());
        let count = |number: u64| i32::try_from(number).unwrap_or(i32::MAX);
        let status = self.object.status.get_or_insert_default();
        status.turns = count(books.turns.into());
        status.active = books.active().map(|place| ExecutionReference {
            kind: kind::AGENT_EXECUTION.to_owned(),
            name: place.name.clone(),
            uid: place.uid().to_string(),
            position: String::new(),
        });
        status.queued = count(books.waiting().count() as u64);
        status.queue = books.waiting().take(QUEUE_SHOWN_MAX).map(|place| place.name.clone()).collect();
        status.last_activity_time = (books.active_ms > 0).then(|| Timestamp::from_millis(books.active_ms));
        status.digest.clone_from(&books.last);
        status.kept_turns = count(spoken.turns.into());
        status.messages = count(spoken.messages.into());
        status.bytes = count(spoken.bytes);
        status.tokens = count(books.tokens);
        status.summarised = spoken.summary.is_some();
        template::write_accepted(&mut self.object, now_ms());
    }

    /// When it is to be deleted by itself: `spec.ttl` after its creation, or `spec.retention` after its last activity.
    fn expires_at_ms(&self) -> Option<i64> {
        let spec = self.spec();
        let after = |from: i64, text: &str| {
            let wait = parse_duration(text).ok().filter(|_| !text.is_empty())?;
            Some(from.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
        };
        let made = self.object.metadata().and_then(|meta| meta.creation_timestamp).map_or(0, |time| time.as_millis());
        let old = after(made, &spec.ttl);
        let unused = after(self.books.active_ms.max(made), &spec.retention).filter(|_| self.books.is_idle());
        [old, unused].into_iter().flatten().min()
    }

    /// The stored form.
    pub(crate) fn body(&self, object: &Session) -> Bytes {
        let mut body = object.encode_to_vec();
        body.extend(self.books.encode_to_vec());
        body.into()
    }

    /// The row as it is to be written.
    pub(crate) fn put(&self) -> Result<ResourcePut, ApiError> {
        let mut object = self.object.clone();
        object.metadata_mut().resource_version.clear();
        let expect = self.revision.map_or(Expect::Absent, Expect::Revision);
        let put = template::put_of(&object, self.key.clone(), self.number, expect)?;
        Ok(ResourcePut { body: self.body(&object), expires_at_ms: self.expires_at_ms(), ..put })
    }

    /// Writes it. What was written is what the next write expects.
    pub(super) async fn save(&mut self, app: &App) -> Result<(), SaveError> {
        self.write_status();
        let number = self.number;
        let refer = |digest: &Digest| BlobPut { digest: *digest.as_bytes(), n: Some(number), body: None };
        let txn = Txn {
            puts: vec![self.put().map_err(SaveError::Refused)?],
            blobs: self.records.iter().map(refer).collect(),
            ..Txn::default()
        };
        match app.store().commit_async(Lane::Internal, txn).await {
            Ok(committed) => {
                self.revision = committed.revisions.first().copied();
                self.records.clear();
                Ok(())
            }
            Err(CommitError::Conflict { .. } | CommitError::Exists { .. } | CommitError::NotFound { .. }) => {
                Err(SaveError::Changed)
            }
            Err(failed) => Err(SaveError::Refused(baton_engine::commit_failed(&failed))),
        }
    }
}

/// Why a session was not written.
pub(super) enum SaveError {
    /// Somebody else wrote it meanwhile: it is to be read again.
    Changed,
    /// It cannot be written now.
    Refused(ApiError),
}
