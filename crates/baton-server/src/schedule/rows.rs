//! How far a schedule has come, as it lies in the store: an internal kind, which no API serves.
//!
//! # Invariants
//! - There is one row for each workflow with a schedule, under the workflow's uid: another workflow of the same name
//!   begins anew.
//! - A row is written after the executions of a look were created: what is lost by a crash is looked at again, and finds the
//!   executions there.

use baton_store::{Expect, ResourceKey, ResourcePut, Store, StoredResource};
use baton_types::Uid;
use baton_workflow::Gathered;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::app;

/// Kind of the rows. With a slash, which no kind of the API has.
pub(crate) const SCHEDULE: &str = "internal/Schedule";

const FORMAT: u32 = 1;
/// Running executions of one workflow that are kept track of; of more, whether they run counts no more.
pub(super) const ACTIVE_MAX: usize = 100;

/// An execution that the schedule has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracked {
    pub(super) name: String,
    pub(super) uid: Uid,
}

/// How far a schedule has come. Times are in milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Progress {
    pub(super) format: u32,
    /// Of the schedule: with another one it begins anew.
    pub(super) fingerprint: String,
    /// Where intervals are counted from.
    pub(super) anchor_ms: i64,
    /// When it began, or was resumed.
    pub(super) since_ms: i64,
    /// Times up to here were looked at.
    pub(super) looked_at_ms: Option<i64>,
    /// The time for which an execution was last started.
    pub(super) last_ms: Option<i64>,
    /// When one last ended, and when one last completed.
    pub(super) ended_ms: Option<i64>,
    pub(super) completed_ms: Option<i64>,
    /// Events up to this revision were looked at.
    pub(super) cursor: u64,
    pub(super) gathered: Gathered,
    pub(super) suspended: bool,
    /// Those that run, in the order in which they were started.
    pub(super) active: Vec<Tracked>,
    /// Those that have ended and are kept, the oldest first; only while there is a limit.
    pub(super) successful: Vec<Tracked>,
    pub(super) failed: Vec<Tracked>,
}

impl Progress {
    /// Times after this are to be looked at.
    pub(super) fn looked_at_ms(&self) -> i64 {
        self.looked_at_ms.unwrap_or(self.since_ms).max(self.since_ms)
    }
}

/// Where a row is, once it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) uid: baton_store::Uid,
    pub(super) number: baton_store::Number,
    pub(super) revision: u64,
}

pub(super) fn key(namespace: &str, workflow: Uid) -> ResourceKey {
    ResourceKey::new(SCHEDULE, namespace, workflow.to_string())
}

/// The row, to be written where it lies, or anew.
pub(super) fn put(
    store: &Store,
    namespace: &str,
    workflow: Uid,
    place: Option<Place>,
    progress: &Progress,
) -> ResourcePut {
    let body = Progress { format: FORMAT, ..progress.clone() };
    let (uid, number, expect) = match place {
        Some(place) => (place.uid, place.number, Expect::Revision(place.revision)),
        None => (*app::new_uid().as_bytes(), store.next_number(), Expect::Absent),
    };
    ResourcePut {
        key: key(namespace, workflow),
        uid,
        number,
        expect,
        body: Bytes::from(serde_json::to_vec(&body).expect("texts, numbers and values are always JSON")),
        labels: None,
        state: baton_store::ExecState::None,
        owner: Some(*workflow.as_bytes()),
        expires_at_ms: None,
        deleting: false,
    }
}

/// What a row says.
///
/// # Errors
/// A sentence for the log.
pub(super) fn read(row: &StoredResource) -> Result<(Progress, Place), String> {
    let progress: Progress =
        serde_json::from_slice(&row.body).map_err(|error| format!("it cannot be read: {error}"))?;
    if progress.format != FORMAT {
        return Err(format!("it has the format {}, this version reads {FORMAT}", progress.format));
    }
    Ok((progress, Place { uid: row.uid, number: row.number, revision: row.revision }))
}
