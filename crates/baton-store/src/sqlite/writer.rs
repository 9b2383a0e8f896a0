//! The committer's side of SQLite: a group in one transaction, checkpoints between groups.

use rusqlite::Connection;

use super::check::{Indexed, Stop};
use super::schema::PAGE_BYTES;
use super::statements::Statements;
use super::{Class, classify, doing};
use crate::backend::{Engine, GroupError, Head, Outcomes, Upkeep, UpkeepReport, Writer};
use crate::error::{CommitError, StoreError};
use crate::model::{Change, Txn};
use crate::options::StoreOptions;

/// The log's length is asked for once in as many groups as this divides the frames that call for a checkpoint.
const FRAMES_PER_LOOK: u64 = 128;

/// The writing connection with its prepared statements.
pub(super) struct SqliteWriter<'c> {
    pub(super) connection: &'c Connection,
    pub(super) s: Statements<'c>,
    /// As of the transaction in progress; equal to `committed` between transactions.
    pub(super) pending: Head,
    pub(super) committed: Head,
    /// Last journal row id given out.
    pub(super) journal_rid: i64,
    /// A stored value in the making.
    pub(super) scratch: Vec<u8>,
    /// For each put of the transaction in progress, what it replaces.
    pub(super) replaced: Vec<Option<Indexed>>,
    checkpoint_frames: u64,
    /// Frames in the log at which the next checkpoint is tried.
    next_checkpoint: u64,
    /// Groups since the log's length was asked for.
    groups_unlooked: u64,
    wal_frames: u64,
}

/// The writing connection on its way to the committer's thread and back: only a writer that closes last can remove the log.
pub(crate) struct SqliteEngine(pub(crate) Connection);

impl Engine for SqliteEngine {
    fn run(&mut self, options: &StoreOptions, body: &mut dyn FnMut(&mut dyn Writer)) -> Result<(), StoreError> {
        run(&self.0, options, body)
    }
}

fn run(
    connection: &Connection,
    options: &StoreOptions,
    body: &mut dyn FnMut(&mut dyn Writer),
) -> Result<(), StoreError> {
    let head = read_head(connection).map_err(doing("read the head"))?;
    let last_rid = "SELECT coalesce(max(rid), 0) FROM journal";
    let journal_rid = connection.query_row(last_rid, [], |row| row.get(0)).map_err(doing("read the journal's end"))?;
    let checkpoint_frames = (options.checkpoint_bytes / PAGE_BYTES).max(1);
    let mut writer = SqliteWriter {
        connection,
        s: Statements::prepare(connection).map_err(doing("prepare the statements"))?,
        pending: head,
        committed: head,
        journal_rid,
        scratch: Vec::new(),
        replaced: Vec::new(),
        checkpoint_frames,
        next_checkpoint: checkpoint_frames,
        groups_unlooked: 0,
        wal_frames: 0,
    };
    body(&mut writer);
    Ok(())
}

pub(super) fn read_head(connection: &Connection) -> rusqlite::Result<Head> {
    let mut statement = connection.prepare_cached("SELECT revision, compacted, number, outbox FROM head")?;
    statement.query_row([], |row| {
        Ok(Head {
            revision: row.get::<_, i64>(0)?.cast_unsigned(),
            compacted: row.get::<_, i64>(1)?.cast_unsigned(),
            number: row.get(2)?,
            outbox: row.get(3)?,
        })
    })
}

/// Why an attempt at a group ended early.
enum Attempt {
    /// A transaction's data: the group can be done again, each transaction on its own.
    Data,
    Group(GroupError),
}

impl SqliteWriter<'_> {
    /// `isolate` puts each transaction in a savepoint. That costs, so it is done only after an attempt without it failed.
    fn attempt(&mut self, group: &[&Txn], isolate: bool) -> Result<Outcomes, Attempt> {
        self.begin().map_err(Attempt::Group)?;
        let mut outcomes = Vec::with_capacity(group.len());
        for txn in group {
            let before = self.pending;
            if isolate {
                self.s.savepoint.execute([]).map_err(|error| self.give_up(&error))?;
            }
            match self.apply_one(txn) {
                Ok(committed) => outcomes.push(Ok(committed)),
                Err(Stop::Refused(refusal)) => {
                    self.pending = before;
                    outcomes.push(Err(refusal));
                }
                Err(Stop::Database(error)) if isolate && classify(&error) == Class::Data => {
                    self.s.savepoint_undo.execute([]).map_err(|error| self.give_up(&error))?;
                    self.pending = before;
                    outcomes.push(Err(CommitError::Rejected { detail: error.to_string() }));
                }
                Err(Stop::Database(error)) => return Err(self.give_up(&error)),
            }
            if isolate {
                self.s.savepoint_release.execute([]).map_err(|error| self.give_up(&error))?;
            }
        }
        self.commit().map_err(Attempt::Group)?;
        Ok(outcomes)
    }

    /// Undoes the transaction in progress and says what that means.
    fn give_up(&mut self, error: &rusqlite::Error) -> Attempt {
        match classify(error) {
            Class::Data => match self.undo() {
                Ok(()) => Attempt::Data,
                Err(fatal) => Attempt::Group(fatal),
            },
            Class::Full | Class::Busy | Class::Fatal => Attempt::Group(self.abandon(error)),
        }
    }

    /// Begins a transaction.
    pub(super) fn begin(&mut self) -> Result<(), GroupError> {
        match self.s.begin.execute([]) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.abandon(&error)),
        }
    }

    /// Records the head if it moved, and commits.
    pub(super) fn commit(&mut self) -> Result<(), GroupError> {
        if self.pending != self.committed {
            let Head { revision, compacted, number, outbox } = self.pending;
            let values = (revision.cast_signed(), compacted.cast_signed(), number, outbox);
            if let Err(error) = self.s.head_put.execute(values) {
                return Err(self.abandon(&error));
            }
        }
        match self.s.commit.execute([]) {
            Ok(_) => {
                self.committed = self.pending;
                Ok(())
            }
            // The data was accepted before; what goes wrong now goes wrong on the disk.
            Err(error) if classify(&error) == Class::Data => Err(GroupError::Fatal(error.to_string())),
            Err(error) => Err(self.abandon(&error)),
        }
    }

    /// Ends a transaction that failed as a whole.
    pub(super) fn abandon(&mut self, error: &rusqlite::Error) -> GroupError {
        let class = classify(error);
        if class == Class::Fatal {
            return GroupError::Fatal(error.to_string());
        }
        if let Err(fatal) = self.undo() {
            return fatal;
        }
        GroupError::NotDone(match class {
            // The committer fills in the disk's figures.
            Class::Full => CommitError::DiskFull { free: 0, needed: 0 },
            Class::Busy | Class::Data | Class::Fatal => CommitError::Rejected { detail: error.to_string() },
        })
    }

    /// SQLite ends a transaction by itself after some errors; otherwise this does.
    fn undo(&mut self) -> Result<(), GroupError> {
        self.pending = self.committed;
        if self.connection.is_autocommit() {
            return Ok(());
        }
        match self.s.rollback.execute([]) {
            Ok(_) => Ok(()),
            Err(error) => Err(GroupError::Fatal(error.to_string())),
        }
    }

    /// Runs a checkpoint pragma; frames in the log, and frames of them that are in the database.
    fn checkpoint(statement: &mut rusqlite::Statement<'_>) -> rusqlite::Result<(u64, u64)> {
        statement.query_row([], |row| {
            let count = |index| row.get::<_, i64>(index).map(|count| u64::try_from(count).unwrap_or(0));
            Ok((count(1)?, count(2)?))
        })
    }

    /// A checkpoint's error is as bad as a commit's, except for lack of room: the log still has everything.
    fn checkpoint_outcome(result: rusqlite::Result<(u64, u64)>) -> Result<Option<(u64, u64)>, GroupError> {
        match result {
            Ok(counts) => Ok(Some(counts)),
            Err(error) => match classify(&error) {
                Class::Full | Class::Busy => {
                    tracing::warn!(%error, "checkpoint put off");
                    Ok(None)
                }
                Class::Data | Class::Fatal => Err(GroupError::Fatal(format!("checkpoint: {error}"))),
            },
        }
    }
}

impl Writer for SqliteWriter<'_> {
    fn apply(&mut self, group: &[&Txn]) -> Result<Outcomes, GroupError> {
        match self.attempt(group, false) {
            Ok(outcomes) => Ok(outcomes),
            Err(Attempt::Group(error)) => Err(error),
            Err(Attempt::Data) => self.attempt(group, true).map_err(|attempt| match attempt {
                Attempt::Group(error) => error,
                Attempt::Data => GroupError::NotDone(CommitError::Rejected {
                    detail: "the group could not be undone one by one".to_owned(),
                }),
            }),
        }
    }

    fn upkeep(&mut self, step: &Upkeep) -> Result<UpkeepReport, GroupError> {
        self.run_upkeep(step)
    }

    fn settle(&mut self) -> Result<(), GroupError> {
        // Asking how long the log is costs as much as a statement; a few groups more or less do not matter.
        if self.groups_unlooked < self.checkpoint_frames / FRAMES_PER_LOOK {
            self.groups_unlooked += 1;
            return Ok(());
        }
        self.groups_unlooked = 0;
        let frames = Self::checkpoint_outcome(Self::checkpoint(&mut self.s.wal_frames))?;
        self.wal_frames = frames.map_or(self.wal_frames, |(log, _)| log);
        if self.wal_frames < self.checkpoint_frames {
            self.next_checkpoint = self.checkpoint_frames;
        }
        if self.wal_frames >= self.next_checkpoint {
            // While a reader pins the log (a backup) the checkpoint cannot finish: try again only after as much again.
            self.next_checkpoint = self.wal_frames + self.checkpoint_frames;
            Self::checkpoint_outcome(Self::checkpoint(&mut self.s.checkpoint))?;
        }
        Ok(())
    }

    fn head(&self) -> Head {
        self.committed
    }

    /// Nobody else writes.
    fn others(&mut self, _after: u64, _until: u64) -> Option<Vec<Change>> {
        Some(Vec::new())
    }

    fn wal_bytes(&self) -> u64 {
        self.wal_frames * PAGE_BYTES
    }

    fn finish(&mut self) -> Result<(), GroupError> {
        let result = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            Ok((u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0), 0))
        });
        Self::checkpoint_outcome(result).map(|_| ())
    }
}
