//! Bounded steps of compaction and sweeping, each under the lock on `head` like every other write.

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::limit_of;
use super::transact::{Database, Session, Trouble, trouble};
use crate::backend::{Head, Upkeep, UpkeepReport};
use crate::maintenance::SweepReport;
use crate::model::Number;

/// Marks kept in the table of (time, revision): one a call, so a day of calls a minute apart.
const MARKS_MAX: i64 = 1_440;

impl Database {
    /// One step in a transaction of its own; the head after it. All steps may be repeated.
    pub(super) async fn upkeep(&self, step: &Upkeep) -> Result<(Head, UpkeepReport), Trouble> {
        if let Upkeep::Vacuum { .. } = step {
            // The server's own autovacuum does that.
            return Ok((self.head, UpkeepReport::Done(0)));
        }
        self.in_time(self.step(step)).await?
    }

    async fn step(&self, step: &Upkeep) -> Result<(Head, UpkeepReport), Trouble> {
        let Session { link, s } = self.session()?;
        let client = &link.client;
        client.execute(&s.begin, &[]).await.map_err(|error| trouble(&error))?;
        let locked = client.query_one(&s.lock, &[]).await.map_err(|error| trouble(&error))?;
        let mut head = self.locked_head(&locked)?;
        let report = match step {
            Upkeep::Mark { now_ms, keep_revisions, keep_age_ms } => {
                let compacted = mark(client, head, *now_ms, *keep_revisions, *keep_age_ms).await;
                head.compacted = compacted.map_err(|error| trouble(&error))?;
                let values: [&(dyn ToSql + Sync); 2] = [&head.revision.cast_signed(), &head.compacted.cast_signed()];
                client.execute(&s.head_put, &values).await.map_err(|error| trouble(&error))?;
                Ok(UpkeepReport::Compacted(head.compacted))
            }
            Upkeep::DeleteChanges { rows_max } => delete_changes(client, head, *rows_max).await,
            Upkeep::Sweep { now_ms, rows_max } => sweep(client, *now_ms, *rows_max).await,
            Upkeep::Vacuum { .. } => Ok(UpkeepReport::Done(0)),
        };
        let report = report.map_err(|error| trouble(&error))?;
        client.execute(&s.commit, &[]).await.map_err(|error| trouble(&error))?;
        Ok((head, report))
    }
}

type Outcome<T> = Result<T, tokio_postgres::Error>;

/// How far changes may be compacted.
async fn mark(client: &Client, head: Head, now_ms: i64, keep_revisions: u64, keep_age_ms: i64) -> Outcome<u64> {
    let insert =
        "INSERT INTO mark (at, revision) VALUES ($1, $2) ON CONFLICT (at) DO UPDATE SET revision = excluded.revision";
    client.execute(insert, &[&now_ms, &head.revision.cast_signed()]).await?;
    let old = client
        .query_one("SELECT max(revision) FROM mark WHERE at <= $1", &[&now_ms.saturating_sub(keep_age_ms)])
        .await?;
    let old_enough: Option<i64> = old.try_get(0)?;
    let prune = "DELETE FROM mark WHERE at NOT IN (SELECT at FROM mark ORDER BY at DESC LIMIT $1)";
    client.execute(prune, &[&MARKS_MAX]).await?;
    let by_age = old_enough.map_or(0, i64::cast_unsigned);
    let by_count = head.revision.saturating_sub(keep_revisions);
    Ok(head.compacted.max(by_age.min(by_count)))
}

async fn delete_changes(client: &Client, head: Head, rows_max: usize) -> Outcome<UpkeepReport> {
    let sql = "DELETE FROM change WHERE revision IN \
        (SELECT revision FROM change WHERE revision <= $1 ORDER BY revision LIMIT $2)";
    let deleted = client.execute(sql, &[&head.compacted.cast_signed(), &limit_of(rows_max)]).await?;
    Ok(UpkeepReport::Done(deleted))
}

async fn sweep(client: &Client, now_ms: i64, rows_max: usize) -> Outcome<UpkeepReport> {
    const EXPIRED: [&str; 2] = [
        "DELETE FROM mailbox WHERE id IN (SELECT id FROM mailbox WHERE expires <= $1 LIMIT $2)",
        "DELETE FROM timer WHERE (due, n, id) IN (SELECT due, n, id FROM timer WHERE due <= $1 \
         AND NOT EXISTS (SELECT 1 FROM resource WHERE resource.n = timer.n) ORDER BY due LIMIT $2)",
    ];
    let mut room = rows_max;
    while room > 0 {
        let doomed: Option<Number> = client.query_one("SELECT min(n) FROM doomed", &[]).await?.try_get(0)?;
        let Some(n) = doomed else { break };
        room -= sweep_execution(client, n, room).await?;
    }
    for sql in EXPIRED {
        room -= limited(client, sql, now_ms, room).await?;
    }
    let deleted = (rows_max - room) as u64;
    Ok(UpkeepReport::Swept(SweepReport { deleted, more: room == 0 }))
}

/// Deletes up to `room` rows of one deleted resource; the mark itself counts as a row, so that this always gets on.
async fn sweep_execution(client: &Client, n: Number, room: usize) -> Outcome<usize> {
    const STEPS: [&str; 4] = [
        "DELETE FROM journal WHERE (n, seq) IN (SELECT n, seq FROM journal WHERE n = $1 ORDER BY seq LIMIT $2)",
        "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE n = $1 LIMIT $2)",
        "DELETE FROM snapshot WHERE n IN (SELECT n FROM snapshot WHERE n = $1 LIMIT $2)",
        "DELETE FROM doomed WHERE n IN (SELECT n FROM doomed WHERE n = $1 LIMIT $2)",
    ];
    let mut left = room - sweep_blobs(client, n, room).await?;
    for step in STEPS {
        left -= limited(client, step, n, left).await?;
    }
    Ok(room - left)
}

/// Drops references, and each blob with its last reference unless it is pinned.
async fn sweep_blobs(client: &Client, n: Number, room: usize) -> Outcome<usize> {
    let sql = "DELETE FROM blob_ref WHERE (n, digest) IN (SELECT n, digest FROM blob_ref WHERE n = $1 LIMIT $2) \
        RETURNING digest";
    let dropped = client.query(sql, &[&n, &limit_of(room)]).await?;
    let digests: Vec<&[u8]> = dropped.iter().map(|row| row.try_get(0)).collect::<Outcome<_>>()?;
    if !digests.is_empty() {
        let sql = "DELETE FROM blob WHERE digest = ANY($1::bytea[]) AND NOT pinned \
            AND NOT EXISTS (SELECT 1 FROM blob_ref WHERE blob_ref.digest = blob.digest)";
        client.execute(sql, &[&digests]).await?;
    }
    Ok(digests.len())
}

async fn limited(client: &Client, sql: &str, value: i64, room: usize) -> Outcome<usize> {
    if room == 0 {
        return Ok(0);
    }
    let deleted = client.execute(sql, &[&value, &limit_of(room)]).await?;
    Ok(usize::try_from(deleted).unwrap_or(room))
}
