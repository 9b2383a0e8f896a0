//! The bounded queue between callers and the committer.
//!
//! Bounded by count and bytes. The external lane may fill three quarters and is refused beyond; the internal lane may fill
//! twice the bound and then waits, because refusing the result of running work helps nobody.
//!
//! # Invariants
//! - What was accepted is taken exactly once, in order, also after [`Queue::close`].
//! - [`Queue::push`] on the committer's own thread never waits: nobody else could make room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::model::Lane;

/// Limits of a queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) operations_max: usize,
    pub(crate) bytes_max: usize,
}

/// Why a push was refused; the item comes back.
#[derive(Debug)]
pub(crate) enum Refused<T> {
    Overloaded { item: T, operations: usize, bytes: usize },
    Closed(T),
}

struct State<T> {
    items: VecDeque<(usize, T)>,
    bytes: usize,
    closed: bool,
    consumer_waits: bool,
    consumer: Option<ThreadId>,
}

/// How long the consumer looks for more before it sleeps. What follows upon a commit comes within this time, and waking a
/// sleeper would take as long again.
const LOOK_FOR: Duration = Duration::from_micros(50);

pub(crate) struct Queue<T> {
    state: Mutex<State<T>>,
    /// Items in `state`, to be read without the lock.
    count: AtomicUsize,
    filled: Condvar,
    drained: Condvar,
    limits: Limits,
}

impl<T> Queue<T> {
    pub(crate) fn new(limits: Limits) -> Self {
        let state = State { items: VecDeque::new(), bytes: 0, closed: false, consumer_waits: false, consumer: None };
        Self {
            state: Mutex::new(state),
            count: AtomicUsize::new(0),
            filled: Condvar::new(),
            drained: Condvar::new(),
            limits,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an item that costs `bytes`.
    pub(crate) fn push(&self, lane: Lane, bytes: usize, item: T) -> Result<(), Refused<T>> {
        let mut state = self.lock();
        let Limits { operations_max, bytes_max } = self.limits;
        match lane {
            Lane::External => {
                let over = state.items.len() * 4 >= operations_max * 3 || state.bytes * 4 >= bytes_max * 3;
                if over && !state.closed {
                    return Err(Refused::Overloaded { item, operations: state.items.len(), bytes: state.bytes });
                }
            }
            Lane::Internal => {
                while !state.closed
                    && (state.items.len() >= operations_max * 2 || state.bytes >= bytes_max * 2)
                    && state.consumer != Some(std::thread::current().id())
                {
                    state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
        if state.closed {
            return Err(Refused::Closed(item));
        }
        state.items.push_back((bytes, item));
        state.bytes += bytes;
        self.count.store(state.items.len(), Relaxed);
        if std::mem::take(&mut state.consumer_waits) {
            drop(state);
            self.filled.notify_one();
        }
        Ok(())
    }

    /// Moves what is there into `group`, at most `limits` of it but at least one item, waiting for the first. `false` when
    /// the queue is closed and empty.
    pub(crate) fn take(&self, limits: Limits, group: &mut Vec<T>) -> bool {
        let begun = Instant::now();
        while self.count.load(Relaxed) == 0 && begun.elapsed() < LOOK_FOR {
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        state.consumer = Some(std::thread::current().id());
        while state.items.is_empty() {
            if state.closed {
                return false;
            }
            state.consumer_waits = true;
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.consumer_waits = false;
        let full = state.items.len() >= self.limits.operations_max || state.bytes >= self.limits.bytes_max;
        let mut taken_bytes = 0;
        while group.len() < limits.operations_max && taken_bytes < limits.bytes_max {
            let Some((bytes, item)) = state.items.pop_front() else {
                break;
            };
            taken_bytes += bytes;
            state.bytes -= bytes;
            group.push(item);
        }
        self.count.store(state.items.len(), Relaxed);
        drop(state);
        if full {
            self.drained.notify_all();
        }
        true
    }

    /// Takes everything left without waiting.
    pub(crate) fn drain(&self) -> Vec<T> {
        let mut state = self.lock();
        state.bytes = 0;
        let items = std::mem::take(&mut state.items);
        self.count.store(0, Relaxed);
        drop(state);
        self.drained.notify_all();
        items.into_iter().map(|(_, item)| item).collect()
    }

    /// Refuses pushes from now on.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Items and bytes waiting.
    pub(crate) fn depth(&self) -> (usize, usize) {
        let state = self.lock();
        (state.items.len(), state.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { operations_max: 4, bytes_max: 400 };

    #[test]
    fn external_stops_at_three_quarters_internal_goes_on() {
        let queue = Queue::new(LIMITS);
        for item in 0..3 {
            queue.push(Lane::External, 1, item).unwrap();
        }
        let refused = queue.push(Lane::External, 1, 3);
        assert!(matches!(refused, Err(Refused::Overloaded { operations: 3, .. })), "{refused:?}");
        for item in 3..8 {
            queue.push(Lane::Internal, 1, item).unwrap();
        }
        assert_eq!(queue.depth(), (8, 8));
    }

    #[test]
    fn bytes_bound_too() {
        let queue = Queue::new(LIMITS);
        queue.push(Lane::External, 300, 0).unwrap();
        assert!(matches!(queue.push(Lane::External, 1, 1), Err(Refused::Overloaded { bytes: 300, .. })));
    }

    #[test]
    fn a_group_is_bounded_but_never_empty() {
        let queue = Queue::new(LIMITS);
        for item in 0..3 {
            queue.push(Lane::Internal, 100, item).unwrap();
        }
        let mut group = Vec::new();
        assert!(queue.take(Limits { operations_max: 9, bytes_max: 150 }, &mut group));
        assert_eq!(group, [0, 1]);
        group.clear();
        assert!(queue.take(Limits { operations_max: 9, bytes_max: 1 }, &mut group));
        assert_eq!(group, [2]);
    }

    #[test]
    fn a_waiting_internal_push_goes_on_when_room_is_made() {
        let queue = Queue::new(LIMITS);
        for item in 0..8 {
            queue.push(Lane::Internal, 1, item).unwrap();
        }
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| queue.push(Lane::Internal, 1, 8).is_ok());
            let mut group = Vec::new();
            while group.len() < 9 {
                assert!(queue.take(Limits { operations_max: 100, bytes_max: 1000 }, &mut group));
            }
            assert_eq!(group, (0..9).collect::<Vec<_>>());
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn the_consumer_itself_never_waits() {
        let queue = Queue::new(LIMITS);
        queue.push(Lane::Internal, 1, 0).unwrap();
        let mut group = Vec::new();
        queue.take(LIMITS, &mut group);
        for item in 0..20 {
            queue.push(Lane::Internal, 1, item).unwrap();
        }
        assert_eq!(queue.depth().0, 20);
    }

    #[test]
    fn closing_refuses_new_and_keeps_old() {
        let queue = Queue::new(LIMITS);
        queue.push(Lane::Internal, 1, 0).unwrap();
        queue.close();
        assert!(matches!(queue.push(Lane::Internal, 1, 1), Err(Refused::Closed(1))));
        let mut group = Vec::new();
        assert!(queue.take(LIMITS, &mut group));
        group.clear();
        assert!(!queue.take(LIMITS, &mut group));
    }
}
