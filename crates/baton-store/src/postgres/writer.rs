//! The committer's side of PostgreSQL: a group in one transaction under the lock on `head`, in two round trips.
//!
//! The first locks and reads what the guards ask about; the second sends all rows, the group's id and the commit. Losing
//! the connection before the second means that nothing was written: the group is done again on a new one. Losing it later
//! leaves the outcome open: the id tells, read under the same lock, which is free only when the old session has ended.
//!
//! # Failure
//! Until [`StoreOptions::outage_patience_ms`] after the first trouble everything is tried again. Then a group that was
//! certainly not written is refused, and one whose outcome is still open stops the store.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::address::Address;
use super::transact::{Database, Trouble};
use crate::backend::{Engine, GroupError, Head, Outcomes, Upkeep, UpkeepReport, Writer};
use crate::error::{CommitError, StoreError};
use crate::model::{Change, Txn};
use crate::options::StoreOptions;

/// Between two tries to reach the server.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the last words of a session may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// Others' changes that are put into the ring; whoever is further behind than this finds them in the table.
pub(super) const CHANGES_MAX: u64 = 10_000;

/// What is needed for the writer, on its way to the committer's thread.
pub(crate) struct PostgresEngine {
    address: Arc<Address>,
    cluster_id: [u8; 16],
    head: Head,
    /// The server's process behind the committer's session.
    own: Arc<AtomicI32>,
}

impl PostgresEngine {
    pub(super) fn new(address: Arc<Address>, cluster_id: [u8; 16], head: Head, own: Arc<AtomicI32>) -> Self {
        Self { address, cluster_id, head, own }
    }
}

impl Engine for PostgresEngine {
    fn run(&mut self, options: &StoreOptions, body: &mut dyn FnMut(&mut dyn Writer)) -> Result<(), StoreError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| self.address.unreachable(source))?;
        let mut writer = PostgresWriter {
            runtime,
            database: Database {
                address: Arc::clone(&self.address),
                cluster_id: self.cluster_id,
                own: Arc::clone(&self.own),
                writer: uuid::Uuid::now_v7().into_bytes(),
                session: None,
                groups: 0,
                head: self.head,
                patience: Duration::from_millis(options.outage_patience_ms),
            },
            trouble_since: None,
        };
        body(&mut writer);
        Ok(())
    }
}

pub(super) struct PostgresWriter {
    runtime: Runtime,
    database: Database,
    /// Since when nothing has worked.
    trouble_since: Option<Instant>,
}

impl PostgresWriter {
    /// Waits a little before the next try; `false` once patience has ended.
    fn wait(&mut self, detail: &str) -> bool {
        let since = *self.trouble_since.get_or_insert_with(|| {
            tracing::warn!(detail, "the database cannot be written to; trying again");
            Instant::now()
        });
        // Another session may find another server, and leaves what this one has begun to the server.
        self.database.session = None;
        if since.elapsed() >= self.database.patience {
            return false;
        }
        self.runtime.block_on(async { tokio::time::sleep(PAUSE).await });
        true
    }

    fn recovered(&mut self) {
        if let Some(since) = self.trouble_since.take() {
            tracing::info!(after_ms = since.elapsed().as_millis(), "the database can be written to again");
        }
    }
}

impl Writer for PostgresWriter {
    fn apply(&mut self, group: &[&Txn]) -> Result<Outcomes, GroupError> {
        let (mut isolate, mut open) = (false, None);
        loop {
            let attempt = self.runtime.block_on(self.database.attempt(group, isolate, &mut open));
            match attempt {
                Ok((head, outcomes)) => {
                    self.database.head = head;
                    self.recovered();
                    return Ok(outcomes);
                }
                Err(Trouble::Data(_)) if !isolate => {
                    isolate = true;
                    self.runtime.block_on(self.database.clean_up());
                }
                Err(Trouble::Data(detail)) => {
                    self.runtime.block_on(self.database.clean_up());
                    return Err(GroupError::NotDone(CommitError::Rejected { detail }));
                }
                Err(Trouble::Refused(error)) => {
                    // Whatever the session has prepared may be what is wrong.
                    self.database.session = None;
                    return Err(GroupError::NotDone(error));
                }
                Err(Trouble::Fatal(detail)) => return Err(GroupError::Fatal(detail)),
                Err(Trouble::Away(detail)) => {
                    if !self.wait(&detail) {
                        return Err(match open {
                            Some(_) => {
                                GroupError::Fatal(format!("what became of a commit cannot be found out: {detail}"))
                            }
                            None => GroupError::NotDone(CommitError::Unavailable { detail }),
                        });
                    }
                }
            }
        }
    }

    fn upkeep(&mut self, step: &Upkeep) -> Result<UpkeepReport, GroupError> {
        loop {
            let attempt = self.runtime.block_on(async {
                self.database.ensure_session().await?;
                self.database.upkeep(step).await
            });
            match attempt {
                Ok((head, report)) => {
                    self.database.head = head;
                    self.recovered();
                    return Ok(report);
                }
                Err(Trouble::Fatal(detail)) => return Err(GroupError::Fatal(detail)),
                Err(Trouble::Refused(error)) => {
                    // Whatever the session has prepared may be what is wrong.
                    self.database.session = None;
                    return Err(GroupError::NotDone(error));
                }
                Err(Trouble::Data(detail)) => {
                    self.runtime.block_on(self.database.clean_up());
                    return Err(GroupError::NotDone(CommitError::Rejected { detail }));
                }
                // A step that was written although nobody heard of it does nothing the second time.
                Err(Trouble::Away(detail)) => {
                    if !self.wait(&detail) {
                        return Err(GroupError::NotDone(CommitError::Unavailable { detail }));
                    }
                }
            }
        }
    }

    fn settle(&mut self) -> Result<(), GroupError> {
        Ok(())
    }

    fn head(&self) -> Head {
        self.database.head
    }

    fn others(&mut self, after: u64, until: u64) -> Option<Vec<Change>> {
        if until - after > CHANGES_MAX {
            return None;
        }
        self.runtime.block_on(self.database.changes(after, until)).ok().flatten()
    }

    fn wal_bytes(&self) -> u64 {
        0
    }

    fn finish(&mut self) -> Result<(), GroupError> {
        let Some(session) = self.database.session.take() else { return Ok(()) };
        let writer = self.database.writer;
        self.runtime.block_on(async {
            let sql = "DELETE FROM committed WHERE writer = $1";
            let forget = async { session.link.client.execute(sql, &[&writer.as_slice()]).await };
            // If not, somebody else does so tomorrow.
            let _ = tokio::time::timeout(FAREWELL, forget).await;
            session.link.end().await;
        });
        Ok(())
    }
}
