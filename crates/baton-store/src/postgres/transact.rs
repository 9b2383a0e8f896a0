//! One attempt at a group: a transaction under the lock on `head`, in two round trips.
//!
//! The first locks and reads what the guards ask about; the second sends all rows, the group's id and the commit. From
//! then until it is answered the commit is [`Open`].

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;

use futures::future::join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::address::{Address, GREETING_MAX, Role};
use super::batch::Batch;
use super::facts::{Facts, Wanted};
use super::group::Group;
use super::link::{Link, check_server, cluster_id, connect};
use super::statements::Statements;
use super::{Class, chain, classify, doing, rows};
use crate::backend::{Head, Outcomes};
use crate::error::{CommitError, StoreError};
use crate::model::{Change, Committed, Txn};

/// Beyond its own limits, how much longer the server may take for an answer before the connection is given up.
const GRACE: Duration = Duration::from_secs(5);
/// Others' changes that are read in one go.
const CHANGES_PAGE: i64 = 256;

/// A session with its prepared statements.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) s: Statements,
}

/// Why an attempt ended early.
pub(super) enum Trouble {
    /// A transaction's data: the group can be done again, each transaction on its own.
    Data(String),
    /// Not now. Nothing was written, but for a commit that is open.
    Away(String),
    /// Not written, and trying again is of no use.
    Refused(CommitError),
    /// The database is not the one that this server knew.
    Fatal(String),
}

/// A commit that was sent and not answered.
pub(super) struct Open {
    id: i64,
    head: Head,
    outcomes: Outcomes,
}

/// Everything of the writer but its runtime, so that both can be borrowed.
pub(super) struct Database {
    pub(super) address: Arc<Address>,
    pub(super) cluster_id: [u8; 16],
    pub(super) own: Arc<AtomicI32>,
    /// Names this writer in the table of commits.
    pub(super) writer: [u8; 16],
    pub(super) session: Option<Session>,
    /// Groups begun; the id of the last one.
    pub(super) groups: i64,
    /// As of the last commit.
    pub(super) head: Head,
    pub(super) patience: Duration,
}

/// What an error means while the transaction is certainly not committed.
pub(super) fn trouble(error: &Error) -> Trouble {
    match classify(error) {
        Class::Data => Trouble::Data(chain(error)),
        // The server does not say how much; what is asked for is room for anything at all.
        Class::Full => Trouble::Refused(CommitError::DiskFull { free: 0, needed: 1 }),
        Class::Lost | Class::Passing => Trouble::Away(chain(error)),
        Class::Refused => Trouble::Refused(CommitError::Rejected { detail: chain(error) }),
    }
}

impl Database {
    /// Connects if need be.
    pub(super) async fn ensure_session(&mut self) -> Result<(), Trouble> {
        if self.session.as_ref().is_some_and(|session| !session.link.client.is_closed()) {
            return Ok(());
        }
        self.session = None;
        let limit = 2 * GREETING_MAX;
        let begun = tokio::time::timeout(limit, self.begin_session()).await;
        let begun = begun.map_err(|_| Trouble::Away("the server does not answer".to_owned()))?;
        self.session = Some(begun.map_err(|error| match error {
            StoreError::Postgres { source, .. } => Trouble::Away(chain(&source)),
            error @ StoreError::Unreachable { .. } => Trouble::Away(chain(&error)),
            other => Trouble::Fatal(chain(&other)),
        })?);
        Ok(())
    }

    /// The server must be as trustworthy as at the start, and the database the same.
    async fn begin_session(&self) -> Result<Session, StoreError> {
        const OPERATION: &str = "set up a session";
        let link = connect(&self.address, Role::Writer).await?;
        check_server(&link.client, &self.address).await?;
        if cluster_id(&link.client).await? != self.cluster_id {
            let found = "it has another store than before".to_owned();
            return Err(StoreError::Foreign { path: self.address.text().into(), found });
        }
        let process = link.client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(doing(OPERATION))?;
        self.own.store(process.try_get(0).map_err(doing(OPERATION))?, Relaxed);
        // What others left behind who can have no open commit any more.
        let old = "DELETE FROM committed WHERE at < now() - interval '1 day'";
        link.client.execute(old, &[]).await.map_err(doing(OPERATION))?;
        let s = Statements::prepare(&link.client).await.map_err(doing(OPERATION))?;
        Ok(Session { link, s })
    }

    pub(super) fn session(&self) -> Result<&Session, Trouble> {
        self.session.as_ref().ok_or_else(|| Trouble::Away("there is no connection".to_owned()))
    }

    /// The session as it stands after trouble: with no transaction begun, or none at all.
    pub(super) async fn clean_up(&mut self) {
        let Some(session) = &self.session else { return };
        let undone = tokio::time::timeout(GRACE, session.link.client.batch_execute("ROLLBACK")).await;
        if !matches!(undone, Ok(Ok(()))) {
            self.session = None;
        }
    }

    /// A head that is behind what was acknowledged belongs to a database that has lost commits.
    pub(super) fn locked_head(&self, row: &Row) -> Result<Head, Trouble> {
        let number = |index| -> Result<u64, Trouble> {
            row.try_get::<_, i64>(index).map(i64::cast_unsigned).map_err(|error| trouble(&error))
        };
        let head = Head { revision: number(0)?, compacted: number(1)?, ..self.head };
        if head.revision < self.head.revision {
            let (found, known) = (head.revision, self.head.revision);
            return Err(Trouble::Fatal(format!("the database is at revision {found} and was at {known} before")));
        }
        Ok(head)
    }

    /// One attempt at a group. `open` holds a commit whose outcome is to be found out first, and takes one up.
    pub(super) async fn attempt(
        &mut self,
        group: &[&Txn],
        isolate: bool,
        open: &mut Option<Open>,
    ) -> Result<(Head, Outcomes), Trouble> {
        self.ensure_session().await?;
        if let Some(pending) = open.as_ref() {
            let written = self.in_time(self.was_written(pending.id)).await??;
            if let Some(pending) = open.take().filter(|_| written) {
                tracing::info!(operations = group.len(), "a commit that was not answered had been written");
                return Ok((pending.head, pending.outcomes));
            }
        }
        self.groups += 1;
        if isolate { self.one_by_one(group, open).await } else { self.together(group, open).await }
    }

    /// Looks for the id of a group. Holding the lock means that whoever sent it has no transaction left.
    async fn was_written(&self, id: i64) -> Result<bool, Trouble> {
        let Session { link, s } = self.session()?;
        let client = &link.client;
        let failed = |error: Error| Trouble::Away(chain(&error));
        client.execute(&s.begin, &[]).await.map_err(failed)?;
        client.query_one(&s.lock, &[]).await.map_err(failed)?;
        let found = client.query_opt(&s.committed, &[&self.writer.as_slice()]).await.map_err(failed)?;
        let found: Option<i64> = found.map(|row| row.try_get(0)).transpose().map_err(failed)?;
        client.batch_execute("ROLLBACK").await.map_err(failed)?;
        Ok(found == Some(id))
    }

    async fn together(&mut self, txns: &[&Txn], open: &mut Option<Open>) -> Result<(Head, Outcomes), Trouble> {
        let (before, facts) = self.begin(&Wanted::of(txns)).await?;
        let mut group = Group::new(facts, before.revision);
        let outcomes: Outcomes = txns.iter().map(|txn| group.admit(txn)).collect();
        if outcomes.iter().all(Result::is_err) {
            self.clean_up().await;
            return Ok((before, outcomes));
        }
        let head = Head { revision: group.revision, ..before };
        self.write(Some(&group), before, head, outcomes, open).await
    }

    /// Locks and reads in one round trip.
    async fn begin(&self, wanted: &Wanted<'_>) -> Result<(Head, Facts), Trouble> {
        let Session { link, s } = self.session()?;
        let client = &link.client;
        let answers = async {
            futures::join!(
                async { client.execute(&s.begin, &[]).await },
                async { client.query_one(&s.lock, &[]).await },
                // On the heap: it is as large as all its questions.
                Box::pin(wanted.read(client, s)),
            )
        };
        let (begun, head, facts) = self.in_time(answers).await?;
        begun.map_err(|error| trouble(&error))?;
        let head = self.locked_head(&head.map_err(|error| trouble(&error))?)?;
        Ok((head, facts.map_err(|error| trouble(&error))?))
    }

    /// The server has limits of its own; this one is for a server that does not answer at all.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Trouble> {
        let limit = self.patience + GRACE;
        tokio::time::timeout(limit, answer).await.map_err(|_| Trouble::Away("the server does not answer".to_owned()))
    }

    /// Sends rows, head, id and commit in one go. From then on the group's outcome is open until it is answered.
    async fn write(
        &mut self,
        group: Option<&Group<'_>>,
        before: Head,
        head: Head,
        outcomes: Outcomes,
        open: &mut Option<Open>,
    ) -> Result<(Head, Outcomes), Trouble> {
        let Session { link, s } = self.session()?;
        let client = &link.client;
        let batch = group.map(Batch::of).unwrap_or_default();
        let bulks = batch.statements(s);
        let rows: Vec<Option<usize>> = bulks.iter().map(|bulk| bulk.rows).collect();
        let (revision, compacted) = (head.revision.cast_signed(), head.compacted.cast_signed());
        let (channel, payload) = (super::tail::channel(&self.cluster_id), head.revision.to_string());
        let writer = self.writer.as_slice();
        let id = self.groups;
        let mut last: Vec<(&Statement, Vec<&(dyn ToSql + Sync)>)> = Vec::new();
        if head != before {
            last.push((&s.head_put, vec![&revision, &compacted]));
            last.push((&s.notify, vec![&channel, &payload]));
        }
        last.push((&s.committed_put, vec![&writer, &id]));
        last.push((&s.commit, Vec::new()));
        // Fewer than thirty: so few are polled in their order, and the first poll is what sends.
        let sent = join_all(
            bulks
                .into_iter()
                .map(|bulk| (bulk.statement, bulk.columns))
                .chain(last)
                .map(|(statement, columns)| async move { client.execute(statement, &columns).await }),
        );
        *open = Some(Open { id, head, outcomes });
        let answers = self.in_time(sent).await?;
        if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            let found = trouble(error);
            // An error that the living session reports has undone the transaction, and the commit with it.
            if error.as_db_error().is_some() && !matches!(classify(error), Class::Lost) {
                *open = None;
            }
            return Err(found);
        }
        let Some(Open { head, outcomes, .. }) = open.take() else {
            return Err(Trouble::Fatal("a commit was forgotten".to_owned()));
        };
        let touched = answers.iter().zip(&rows).map(|(answer, rows)| (answer.as_ref().ok(), rows));
        for (found, expected) in touched {
            if expected.is_some_and(|expected| found != Some(&(expected as u64))) {
                let detail = "rows of the database were changed by somebody who does not hold its lock";
                return Err(Trouble::Fatal(detail.to_owned()));
            }
        }
        Ok((head, outcomes))
    }

    /// Each transaction in a savepoint of its own. Slow, so it is done only after an attempt without failed.
    async fn one_by_one(&mut self, txns: &[&Txn], open: &mut Option<Open>) -> Result<(Head, Outcomes), Trouble> {
        let (before, _) = self.begin(&Wanted::default()).await?;
        let mut head = before;
        let mut outcomes = Outcomes::with_capacity(txns.len());
        for txn in txns {
            let outcome = self.in_time(self.in_savepoint(txn, &mut head)).await??;
            outcomes.push(outcome);
        }
        self.write(None, before, head, outcomes, open).await
    }

    async fn in_savepoint(&self, txn: &Txn, head: &mut Head) -> Result<Result<Committed, CommitError>, Trouble> {
        let Session { link, s } = self.session()?;
        let client = &link.client;
        let failed = |error: Error| match trouble(&error) {
            Trouble::Data(detail) => Trouble::Refused(CommitError::Rejected { detail }),
            other => other,
        };
        client.batch_execute("SAVEPOINT one").await.map_err(failed)?;
        let written = async {
            let wanted = Wanted::of(&[txn]);
            let facts = Box::pin(wanted.read(client, s)).await?;
            let mut group = Group::new(facts, head.revision);
            let outcome = group.admit(txn);
            if outcome.is_ok() {
                let batch = Batch::of(&group);
                for bulk in batch.statements(s) {
                    client.execute(bulk.statement, &bulk.columns).await?;
                }
            }
            Ok::<_, Error>((outcome, group.revision))
        };
        match written.await {
            Ok((outcome, revision)) => {
                client.batch_execute("RELEASE one").await.map_err(failed)?;
                head.revision = revision;
                Ok(outcome)
            }
            Err(error) => match trouble(&error) {
                Trouble::Data(detail) => {
                    client.batch_execute("ROLLBACK TO one; RELEASE one").await.map_err(failed)?;
                    Ok(Err(CommitError::Rejected { detail }))
                }
                other => Err(other),
            },
        }
    }

    /// Changes after one revision and up to another, which are all committed; `None` if some are compacted.
    pub(super) async fn changes(&mut self, after: u64, until: u64) -> Result<Option<Vec<Change>>, Trouble> {
        self.ensure_session().await?;
        let Session { link, s } = self.session()?;
        let mut changes: Vec<Change> = Vec::new();
        let mut last = after;
        while last < until {
            let bounds = (last.cast_signed(), until.cast_signed());
            let page = async { link.client.query(&s.changes, &[&bounds.0, &bounds.1, &CHANGES_PAGE]).await };
            let page = self.in_time(page).await?.map_err(|error| trouble(&error))?;
            let Some(page) = in_sequence(&page, 0, last) else { return Ok(None) };
            last = page.last().map_or(until, |change| change.revision);
            changes.extend(page);
        }
        Ok(Some(changes))
    }
}

/// Changes that follow upon `after` without a gap, from rows that have them from column `at` on.
pub(super) fn in_sequence(found: &[Row], at: usize, after: u64) -> Option<Vec<Change>> {
    if found.is_empty() {
        return None;
    }
    let changes: Vec<Change> = found.iter().map(|row| rows::change(row, at).ok()).collect::<Option<_>>()?;
    changes.iter().zip(after + 1..).all(|(change, revision)| change.revision == revision).then_some(changes)
}
