//! What one evaluation may use up: steps, memory, nesting of calls.
//!
//! Values and filters are called from deep inside of the jq interpreter, where no context reaches them; the meter is
//! therefore one per thread, set to zero when an evaluation begins. An evaluation never starts another one.
//!
//! # Invariants
//! - A limit that was passed stays passed until the next evaluation begins: nothing that the expression does (such as
//!   `try`) makes it go on, and its result is the fault.
//! - All counts depend on the expression and its data alone, so that a replay passes or fails in the same place. The
//!   one exception is the guard of the machine's stack, far above what the limit of nested calls allows in practice.

use std::cell::Cell;

/// Steps: calls, pipe stages, elements of loops and arithmetic.
pub(super) const STEPS_MAX: u64 = 1_000_000;
/// Bytes of all values that are made, whether they are still held or not.
pub(super) const BYTES_MAX: u64 = 128 * 1024 * 1024;
/// Bytes of one value, counted as if nothing in it were shared.
pub(super) const SIZE_MAX: usize = 32 * 1024 * 1024;
/// Levels of arrays and objects in one value.
pub(super) const DEPTH_MAX: u32 = 256;
/// Calls that have not returned and are not tail calls.
pub(super) const CALLS_MAX: u32 = 1000;
/// What must be left of the stack, in bytes.
const STACK_RESERVE: usize = 256 * 1024;

/// Which limit was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Steps,
    Bytes,
    Size,
    Depth,
    Calls,
}

impl Limit {
    pub(super) fn message(self) -> String {
        match self {
            Self::Steps => format!("it was stopped after {} steps", METER.with(|meter| meter.steps_max.get())),
            Self::Bytes => format!("it was stopped after making values of {BYTES_MAX} bytes"),
            Self::Size => format!("it was stopped at a value of more than {SIZE_MAX} bytes"),
            Self::Depth => format!("it was stopped at a value nested deeper than {DEPTH_MAX} levels"),
            Self::Calls => format!("it was stopped at {CALLS_MAX} calls within each other"),
        }
    }
}

struct Meter {
    steps: Cell<u64>,
    steps_max: Cell<u64>,
    bytes: Cell<u64>,
    calls: Cell<u32>,
    passed: Cell<Option<Limit>>,
}

thread_local! {
    static METER: Meter = const {
        Meter { steps: Cell::new(0), steps_max: Cell::new(0), bytes: Cell::new(0), calls: Cell::new(0), passed: Cell::new(None) }
    };
}

/// Begins an evaluation that may take so many steps.
pub(super) fn begin(steps_max: u64) {
    METER.with(|meter| {
        meter.steps.set(0);
        meter.steps_max.set(steps_max);
        meter.bytes.set(0);
        meter.calls.set(0);
        meter.passed.set(None);
    });
}

/// The limit that was passed, if any.
pub(super) fn passed() -> Option<Limit> {
    METER.with(|meter| meter.passed.get())
}

/// Passes a limit. Only the first counts.
pub(super) fn pass(limit: Limit) {
    METER.with(|meter| meter.passed.set(meter.passed.get().or(Some(limit))));
}

/// Counts steps; false once a limit was passed.
pub(super) fn step(count: u64) -> bool {
    METER.with(|meter| {
        let steps = meter.steps.get().saturating_add(count);
        meter.steps.set(steps);
        if steps > meter.steps_max.get() && meter.passed.get().is_none() {
            meter.passed.set(Some(Limit::Steps));
        }
        meter.passed.get().is_none()
    })
}

/// Counts bytes of new values; false once a limit was passed.
pub(super) fn bytes(count: usize) -> bool {
    METER.with(|meter| {
        let bytes = meter.bytes.get().saturating_add(count as u64);
        meter.bytes.set(bytes);
        if bytes > BYTES_MAX && meter.passed.get().is_none() {
            meter.passed.set(Some(Limit::Bytes));
        }
        meter.passed.get().is_none()
    })
}

/// Enters a call that is not a tail call; false if it must not be entered. Each entry is followed by [`leave`].
pub(super) fn enter() -> bool {
    METER.with(|meter| {
        meter.calls.set(meter.calls.get() + 1);
        let room = stacker::remaining_stack().is_none_or(|bytes| bytes > STACK_RESERVE);
        if (meter.calls.get() > CALLS_MAX || !room) && meter.passed.get().is_none() {
            meter.passed.set(Some(Limit::Calls));
        }
        meter.passed.get().is_none()
    })
}

/// Leaves a call.
pub(super) fn leave() {
    METER.with(|meter| meter.calls.set(meter.calls.get().saturating_sub(1)));
}
