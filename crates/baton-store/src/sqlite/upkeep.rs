//! Bounded steps of compaction, sweeping and vacuum.

use super::limit_of;
use super::writer::SqliteWriter;
use crate::backend::{GroupError, Upkeep, UpkeepReport};
use crate::maintenance::SweepReport;
use crate::model::Number;

/// Marks kept in the table of (time, revision): one a call, so a day of calls a minute apart.
const MARKS_MAX: i64 = 1_440;

impl SqliteWriter<'_> {
    pub(super) fn run_upkeep(&mut self, step: &Upkeep) -> Result<UpkeepReport, GroupError> {
        if let Upkeep::Vacuum { pages_max } = step {
            return self.vacuum(*pages_max).map_err(|error| self.abandon(&error));
        }
        self.begin()?;
        let report = match step {
            Upkeep::Mark { now_ms, keep_revisions, keep_age_ms } => self.mark(*now_ms, *keep_revisions, *keep_age_ms),
            Upkeep::DeleteChanges { rows_max } => self.delete_changes(*rows_max),
            Upkeep::Sweep { now_ms, rows_max } => self.sweep(*now_ms, *rows_max),
            Upkeep::Vacuum { .. } => Ok(UpkeepReport::Done(0)),
        };
        match report {
            Ok(report) => self.commit().map(|()| report),
            Err(error) => Err(self.abandon(&error)),
        }
    }

    fn mark(&mut self, now_ms: i64, keep_revisions: u64, keep_age_ms: i64) -> rusqlite::Result<UpkeepReport> {
        let newest = self.pending.revision;
        let marks = self.connection;
        marks
            .prepare_cached("INSERT OR REPLACE INTO mark (at, revision) VALUES (?, ?)")?
            .execute((now_ms, newest.cast_signed()))?;
        let old_enough: Option<i64> = marks
            .prepare_cached("SELECT max(revision) FROM mark WHERE at <= ?")?
            .query_row([now_ms.saturating_sub(keep_age_ms)], |row| row.get(0))?;
        marks
            .prepare_cached("DELETE FROM mark WHERE at NOT IN (SELECT at FROM mark ORDER BY at DESC LIMIT ?)")?
            .execute([MARKS_MAX])?;
        let by_age = old_enough.map_or(0, i64::cast_unsigned);
        let by_count = newest.saturating_sub(keep_revisions);
        self.pending.compacted = self.pending.compacted.max(by_age.min(by_count));
        Ok(UpkeepReport::Compacted(self.pending.compacted))
    }

    fn delete_changes(&mut self, rows_max: usize) -> rusqlite::Result<UpkeepReport> {
        let deleted = self
            .connection
            .prepare_cached(
                "DELETE FROM change WHERE revision IN \
                 (SELECT revision FROM change WHERE revision <= ? ORDER BY revision LIMIT ?)",
            )?
            .execute((self.pending.compacted.cast_signed(), limit_of(rows_max)))?;
        Ok(UpkeepReport::Done(deleted as u64))
    }

    fn sweep(&mut self, now_ms: i64, rows_max: usize) -> rusqlite::Result<UpkeepReport> {
        let mut room = rows_max;
        while room > 0 {
            let doomed: Option<Number> =
                self.connection.prepare_cached("SELECT min(n) FROM doomed")?.query_row([], |row| row.get(0))?;
            let Some(n) = doomed else { break };
            room -= self.sweep_execution(n, room)?;
        }
        if room > 0 {
            room -= self.limited(
                "DELETE FROM mailbox WHERE rowid IN (SELECT rowid FROM mailbox WHERE expires <= ?1 LIMIT ?2)",
                now_ms,
                room,
            )?;
        }
        if room > 0 {
            room -= self.limited(
                "DELETE FROM timer WHERE (due, n, id) IN (SELECT due, n, id FROM timer WHERE due <= ?1 \
                 AND NOT EXISTS (SELECT 1 FROM resource WHERE resource.n = timer.n) ORDER BY due LIMIT ?2)",
                now_ms,
                room,
            )?;
        }
        let deleted = (rows_max - room) as u64;
        Ok(UpkeepReport::Swept(SweepReport { deleted, more: room == 0 }))
    }

    /// Deletes up to `room` rows of one deleted resource; the mark itself counts as a row, so that this always gets on.
    fn sweep_execution(&mut self, n: Number, room: usize) -> rusqlite::Result<usize> {
        const STEPS: [&str; 4] = [
            "DELETE FROM journal WHERE rid IN (SELECT rid FROM journal WHERE n = ?1 ORDER BY seq LIMIT ?2)",
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE n = ?1 LIMIT ?2)",
            "DELETE FROM snapshot WHERE n IN (SELECT n FROM snapshot WHERE n = ?1 LIMIT ?2)",
            "DELETE FROM doomed WHERE n IN (SELECT n FROM doomed WHERE n = ?1 LIMIT ?2)",
        ];
        let mut left = room - self.sweep_blobs(n, room)?;
        for step in STEPS {
            if left == 0 {
                break;
            }
            left -= self.limited(step, n, left)?;
        }
        Ok(room - left)
    }

    /// Drops references one by one, and each blob with its last reference unless it is pinned.
    fn sweep_blobs(&mut self, n: Number, room: usize) -> rusqlite::Result<usize> {
        let digests: Vec<[u8; 32]> = self
            .connection
            .prepare_cached("SELECT digest FROM blob_ref WHERE n = ? LIMIT ?")?
            .query_map((n, limit_of(room)), |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        for digest in &digests {
            self.connection.prepare_cached("DELETE FROM blob_ref WHERE n = ? AND digest = ?")?.execute((n, digest))?;
            self.connection
                .prepare_cached(
                    "DELETE FROM blob WHERE digest = ?1 AND pinned = 0 \
                     AND NOT EXISTS (SELECT 1 FROM blob_ref WHERE digest = ?1)",
                )?
                .execute([digest])?;
        }
        Ok(digests.len())
    }

    fn limited(&self, sql: &str, value: i64, room: usize) -> rusqlite::Result<usize> {
        self.connection.prepare_cached(sql)?.execute((value, limit_of(room)))
    }

    /// The pragma is its own transaction.
    fn vacuum(&mut self, pages_max: u32) -> rusqlite::Result<UpkeepReport> {
        let free = || self.connection.pragma_query_value(None, "freelist_count", |row| row.get::<_, i64>(0));
        let before = free()?;
        // One page a step: it must be stepped to the end.
        let mut statement = self.connection.prepare(&format!("PRAGMA incremental_vacuum({pages_max})"))?;
        let mut steps = statement.query([])?;
        while steps.next()?.is_some() {}
        Ok(UpkeepReport::Done(before.saturating_sub(free()?).max(0).cast_unsigned()))
    }
}
