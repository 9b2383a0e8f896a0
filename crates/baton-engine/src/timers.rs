//! Durable timers: waking an execution at a recorded time.
//!
//! The store's table is the truth. A thread holds in memory those that are due soon; a timer armed later than that
//! window stays on disk until the window has moved. Once a second the thread also looks for outbox rows that are due.
//!
//! # Invariants
//! - A timer fires at or after its due time; late is normal after a restart, early is a bug.
//! - Firing is decided by the execution's worker: a timer that is not open any more is ignored, so twice is harmless.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_store::{Store, TimerRow};

use crate::{
    message::{Message, MessageKind},
    worker::{Route, now_ms},
};

/// How far ahead timers are held in memory, in milliseconds.
const WINDOW_MS: i64 = 10 * 60 * 1000;
/// Most timers held in memory; the window ends earlier if there are more.
const HELD_MAX: usize = 100_000;
/// Pause before a timer is tried again, in milliseconds.
const AGAIN_MS: i64 = 10_000;
/// Rows read at a time.
const PAGE: usize = 1000;
/// How often the outbox is looked at.
const OUTBOX_PERIOD: Duration = Duration::from_secs(1);

struct Held {
    /// When to fire, and what.
    heap: BinaryHeap<Reverse<(i64, TimerRow)>>,
    /// Everything due before this is in the heap.
    until_ms: i64,
    stopped: bool,
}

/// Handle of the timer thread.
pub(crate) struct Timers {
    held: Mutex<Held>,
    woken: Condvar,
}

impl Timers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::new(Held { heap: BinaryHeap::new(), until_ms: 0, stopped: false }),
            woken: Condvar::new(),
        })
    }

    /// Takes timers that have become durable.
    pub(crate) fn arm(&self, rows: &[TimerRow]) {
        if rows.is_empty() {
            return;
        }
        let mut held = self.lock();
        let first = held.heap.peek().map(|Reverse((at_ms, _))| *at_ms);
        let until_ms = held.until_ms;
        held.heap.extend(rows.iter().filter(|row| row.due_ms < until_ms).map(|row| Reverse((row.due_ms, *row))));
        if held.heap.peek().map(|Reverse((at_ms, _))| *at_ms) != first {
            self.woken.notify_one();
        }
    }

    /// Tries a timer again a little later that could not be taken now: its execution cannot be read, or is stalled.
    pub(crate) fn again(&self, row: TimerRow) {
        self.lock().heap.push(Reverse((now_ms() + AGAIN_MS, row)));
    }

    /// Looks at a timer again at a time, whatever its row says.
    pub(crate) fn again_at(&self, row: TimerRow, at_ms: i64) {
        self.lock().heap.push(Reverse((at_ms, row)));
        self.woken.notify_one();
    }

    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.woken.notify_one();
    }

    /// The thread: fires what is due until it is stopped.
    pub(crate) fn run(&self, store: &Store, route: &Route) {
        let mut outbox_at_ms = 0;
        loop {
            let now = now_ms();
            if now >= outbox_at_ms {
                outbox_at_ms = now + i64::try_from(OUTBOX_PERIOD.as_millis()).unwrap_or(1000);
                dispatch_outbox(store, route, now);
            }
            if now + WINDOW_MS / 2 > self.lock().until_ms {
                self.refill(store, now);
            }
            let mut held = self.lock();
            while let Some(Reverse((_, row))) = held.heap.peek().copied().filter(|Reverse((at_ms, _))| *at_ms <= now) {
                held.heap.pop();
                route.send(Message { number: row.n, kind: MessageKind::TimerDue(row) });
            }
            if held.stopped {
                return;
            }
            let next = held.heap.peek().map_or(outbox_at_ms, |Reverse((at_ms, _))| (*at_ms).min(outbox_at_ms));
            let wait = Duration::from_millis(u64::try_from(next - now_ms()).unwrap_or(0).max(1));
            drop(self.woken.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn refill(&self, store: &Store, now: i64) {
        // The lock is held, so that a timer armed meanwhile is either read here or seen by `arm` as inside the window.
        let mut held = self.lock();
        let from = held.until_ms;
        let mut until = now + WINDOW_MS;
        let mut after = (from > 0).then_some(TimerRow { due_ms: from, n: i64::MIN, id: i64::MIN });
        loop {
            match store.timers_due(until, after, PAGE) {
                Ok(rows) => {
                    after = rows.last().copied();
                    let full = rows.len() == PAGE;
                    held.heap.extend(
                        rows.into_iter()
                            .filter(|row| row.due_ms >= from || from == 0)
                            .map(|row| Reverse((row.due_ms, row))),
                    );
                    if !full {
                        break;
                    }
                    if held.heap.len() >= HELD_MAX {
                        until = after.map_or(until, |row| row.due_ms);
                        break;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "timers could not be read; trying again");
                    return;
                }
            }
        }
        held.until_ms = until;
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn dispatch_outbox(store: &Store, route: &Route, now: i64) {
    match store.outbox_due(now, PAGE) {
        Ok(rows) => rows
            .items
            .into_iter()
            .for_each(|row| route.send(Message { number: row.n, kind: MessageKind::Deliver(row) })),
        Err(error) => tracing::error!(%error, "the outbox could not be read; trying again"),
    }
}
