//! Numbers that no server gives twice: each takes a block at a time from a sequence and counts within it.
//!
//! The next block is fetched when half of the present one is used, so that nobody waits for the database but after a long
//! outage. What is left of a block when the server ends is never used.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::pool::{PostgresReads, Sessions};
use crate::backend::Ids;
use crate::error::StoreError;
use crate::model::Number;

/// Numbers in a block: enough for an outage's worth of refused attempts.
const BLOCK: i64 = 65_536;
/// Between two tries to get a block.
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Clone, Copy)]
enum Sequence {
    Number,
    Outbox,
}

impl Sequence {
    fn sql(self) -> &'static str {
        match self {
            Self::Number => "SELECT nextval('number_block')",
            Self::Outbox => "SELECT nextval('outbox_block')",
        }
    }
}

struct Block {
    /// The last one given.
    last: i64,
    end: i64,
    /// The last one before the block that comes next.
    spare: Option<i64>,
    fetching: bool,
    closed: bool,
}

struct Counter {
    block: Mutex<Block>,
    changed: Condvar,
    sequence: Sequence,
    sessions: Sessions,
}

impl Counter {
    fn lock(&self) -> MutexGuard<'_, Block> {
        self.block.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(self: &Arc<Self>) -> i64 {
        let mut block = self.lock();
        loop {
            if block.spare.is_none() && !block.fetching && !block.closed && block.end - block.last <= BLOCK / 2 {
                block.fetching = true;
                self.fetch();
            }
            // Once the store is closed nothing is committed any more, and any number does.
            if block.last < block.end || block.closed {
                block.last += 1;
                return block.last;
            }
            if let Some(spare) = block.spare.take() {
                (block.last, block.end) = (spare, spare + BLOCK);
            } else {
                block = self.changed.wait(block).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Tries until there is a block; ends with the runtime.
    fn fetch(self: &Arc<Self>) {
        struct Fetching(Arc<Counter>, bool);
        impl Drop for Fetching {
            fn drop(&mut self) {
                let mut block = self.0.lock();
                block.fetching = false;
                // Dropped without a block: the runtime has ended, and the store with it.
                block.closed |= !self.1;
                drop(block);
                self.0.changed.notify_all();
            }
        }
        let fetching = Fetching(Arc::clone(self), false);
        self.sessions.spawn(async move {
            // Whole, so that it is dropped with this task.
            let mut fetching = fetching;
            let counter = Arc::clone(&fetching.0);
            loop {
                match counter.take().await {
                    Ok(first) => {
                        counter.lock().spare = Some(first);
                        fetching.1 = true;
                        return;
                    }
                    Err(error) => {
                        tracing::warn!(error = super::chain(&error), "no block of numbers could be fetched");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
    }

    /// The last number before a block that is this server's from now on.
    async fn take(&self) -> Result<i64, StoreError> {
        let rows = self.sessions.query("fetch a block of numbers", self.sequence.sql().into(), Vec::new()).await?;
        let row = rows.first().ok_or(StoreError::Closed)?;
        let block: i64 = row.try_get(0).map_err(super::doing("fetch a block of numbers"))?;
        Ok(block * BLOCK)
    }
}

/// Numbers of resources and ids of outbox rows.
pub(crate) struct Blocks {
    numbers: Arc<Counter>,
    outbox: Arc<Counter>,
}

impl Blocks {
    pub(super) fn start(reads: &PostgresReads) -> Result<Self, StoreError> {
        let counter = |sequence| {
            let block = Block { last: 0, end: 0, spare: None, fetching: false, closed: false };
            let counter =
                Counter { block: Mutex::new(block), changed: Condvar::new(), sequence, sessions: reads.sessions() };
            let counter = Arc::new(counter);
            let first = Arc::clone(&counter);
            let first = reads.wait(async move { first.take().await })?;
            {
                let mut block = counter.lock();
                (block.last, block.end) = (first, first + BLOCK);
            }
            Ok::<_, StoreError>(counter)
        };
        Ok(Self { numbers: counter(Sequence::Number)?, outbox: counter(Sequence::Outbox)? })
    }
}

impl Ids for Blocks {
    fn next_number(&self) -> Number {
        self.numbers.next()
    }

    fn next_outbox_id(&self) -> i64 {
        self.outbox.next()
    }
}
