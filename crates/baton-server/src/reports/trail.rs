//! A place in the changes of one kind of row, kept in the store, and what comes after it.
//!
//! # Invariants
//! - The place moves only by [`Trail::settle`], once everything up to it was dealt with.
//! - Where changes are not kept any more since that place, the rows as they are now stand for them.

use std::{sync::Arc, time::Duration};

use baton_store::{Change, ChangeKind, Lane, ListQuery, StoredResource, Txn, Watch, WatchError};
use tokio::time::sleep;

use crate::app::App;

/// Rows read at a time where the changes are not kept any more.
const PAGE_ROWS: usize = 500;
/// Pause before the place is written again, if the store does not take it.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Trail {
    app: App,
    /// Under which name the place is kept.
    name: &'static str,
    /// Up to where everything was dealt with when it was opened.
    place: u64,
    watch: Watch,
    /// What stands for changes that are not kept any more, in order.
    backlog: Vec<Arc<Change>>,
    /// Up to where that is.
    backlog_upto: u64,
}

/// Some changes, in order.
pub(super) struct Steps {
    pub(super) changes: Vec<Arc<Change>>,
    /// The place once they were dealt with.
    pub(super) upto: u64,
}

impl Trail {
    /// Goes on from the place that is kept; from `begin` on, if none is.
    ///
    /// # Errors
    /// A sentence for the log.
    pub(super) async fn open(app: &App, name: &'static str, kind: &'static str, begin: u64) -> Result<Self, String> {
        let kept = app.read(move |store| store.meta(name)).await.map_err(|error| error.to_string())?;
        let kept = kept.and_then(|text| String::from_utf8(text).ok()?.parse().ok());
        let from = kept.unwrap_or(begin);
        let trail =
            |watch, backlog, backlog_upto| Self { app: app.clone(), name, place: from, watch, backlog, backlog_upto };
        let trail = match app.store().watch(Some(kind), from) {
            Ok(watch) => trail(watch, Vec::new(), from),
            Err(WatchError::Gone(_)) => {
                let (rows, upto) = rows_after(app, kind, from).await?;
                let watch = app.store().watch(Some(kind), upto).map_err(|error| error.to_string())?;
                trail(watch, rows, upto)
            }
            Err(failed) => return Err(failed.to_string()),
        };
        if kept.is_none() {
            trail.settle(from, Vec::new()).await;
        }
        Ok(trail)
    }

    /// Up to where everything had been dealt with when it was opened.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// What comes next; waits for it.
    ///
    /// # Errors
    /// The changes cannot be followed any more.
    pub(super) async fn next(&mut self) -> Result<Steps, String> {
        if !self.backlog.is_empty() {
            return Ok(Steps { changes: std::mem::take(&mut self.backlog), upto: self.backlog_upto });
        }
        let batch = self.watch.next().await.map_err(|error| error.to_string())?;
        Ok(Steps { changes: batch.changes, upto: batch.revision })
    }

    /// Whether there is nothing after a place now.
    pub(super) fn is_at_end(&self, upto: u64) -> bool {
        upto >= self.watch.head_revision()
    }

    /// Notes that everything up to a place was dealt with, with other values that belong to it.
    pub(super) async fn settle(&self, upto: u64, mut values: Vec<(String, Option<Vec<u8>>)>) {
        values.push((self.name.to_owned(), Some(upto.to_string().into_bytes())));
        let txn = Txn { meta: values, ..Txn::default() };
        while let Err(failed) = self.app.store().commit_async(Lane::Internal, txn.clone()).await {
            if self.app.store().is_failed().is_some() {
                return;
            }
            tracing::warn!(name = self.name, "how far events were sent is noted later: {failed}");
            sleep(PAUSE).await;
        }
    }
}

/// Forgets a place: whoever follows next begins from then on.
pub(super) async fn forget(app: &App, name: &'static str) {
    let kept = app.read(move |store| store.meta(name)).await;
    if !matches!(kept, Ok(Some(_))) {
        return;
    }
    let txn = Txn { meta: vec![(name.to_owned(), None)], ..Txn::default() };
    if let Err(failed) = app.store().commit_async(Lane::Internal, txn).await {
        tracing::warn!(name, "how far events were sent is not forgotten: {failed}");
    }
}

async fn rows_after(app: &App, kind: &'static str, from: u64) -> Result<(Vec<Arc<Change>>, u64), String> {
    let read = app.read(move |store| {
        let (mut rows, mut upto, mut after) = (Vec::new(), None, None);
        loop {
            let page = store.list(&ListQuery { after, ..ListQuery::new(kind, PAGE_ROWS) })?;
            let upto = *upto.get_or_insert(page.revision);
            let newer = page.items.into_iter().filter(|row| row.revision > from && row.revision <= upto);
            rows.extend(newer.map(change_of));
            match page.last.filter(|_| page.more) {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        rows.sort_by_key(|change| change.revision);
        Ok((rows, upto.unwrap_or(from)))
    });
    read.await.map_err(|error| error.to_string())
}

fn change_of(row: StoredResource) -> Arc<Change> {
    Arc::new(Change {
        revision: row.revision,
        previous_revision: 0,
        key: row.key,
        uid: row.uid,
        number: row.number,
        kind: ChangeKind::Modified,
        body: row.body,
    })
}
