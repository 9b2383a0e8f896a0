//! What is due: pure functions of a schedule, its policy, what was started before, and the time.
//!
//! # Invariants
//! - A time is started at most once: what was looked at is never looked at again.
//! - However long nobody kept the schedule, at most [`STARTS_MAX`] starts come of one look.

use baton_workflow::Schedule;

use super::{
    policy::{Concurrency, Missed, Policy},
    rows::Progress,
};

/// Starts of one workflow that come of one look.
pub(super) const STARTS_MAX: usize = 100;
/// What is later than that was missed.
const LATE_MS: i64 = 10_000;

/// What is to be done for a workflow now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Times for which an execution is to be started, in order.
    pub(super) starts: Vec<i64>,
    /// Whether those that run are to be cancelled before.
    pub(super) replace: bool,
    /// The last time that was looked at.
    pub(super) looked_at: Option<i64>,
    /// Times that were left out because one was running, and because they are too long ago.
    pub(super) overlapping: usize,
    pub(super) missed: usize,
}

/// When there is next something to do, as far as the time decides it.
pub(super) fn next_due(schedule: &Schedule, policy: &Policy, progress: &Progress) -> Option<i64> {
    if policy.suspend {
        return None;
    }
    match schedule {
        Schedule::Every { .. } | Schedule::Cron(_) => {
            schedule.next_after(progress.anchor_ms, progress.looked_at_ms(), &policy.zone)
        }
        Schedule::After { delay_ms } => {
            let delay = i64::try_from(*delay_ms).unwrap_or(i64::MAX);
            let after = |time: i64| time.saturating_add(delay).max(progress.since_ms);
            match (progress.active.is_empty(), progress.ended_ms.or(progress.last_ms)) {
                (false, _) => None,
                (true, Some(ended)) => Some(after(ended)),
                // The first one has nothing to wait for.
                (true, None) => Some(progress.since_ms),
            }
        }
        Schedule::On(_) => None,
    }
}

/// What is due at `now_ms`.
pub(super) fn plan(schedule: &Schedule, policy: &Policy, progress: &Progress, now_ms: i64) -> Plan {
    if next_due(schedule, policy, progress).is_none_or(|due| due > now_ms) {
        return Plan::default();
    }
    let times = match schedule {
        Schedule::After { .. } => next_due(schedule, policy, progress).into_iter().collect(),
        Schedule::Every { .. } | Schedule::Cron(_) | Schedule::On(_) => {
            schedule.last_until(progress.anchor_ms, progress.looked_at_ms(), now_ms, &policy.zone, STARTS_MAX)
        }
    };
    let looked_at = times.last().copied();
    let wanted = match schedule {
        Schedule::After { .. } => times.clone(),
        Schedule::Every { .. } | Schedule::Cron(_) | Schedule::On(_) => wanted(&times, policy, now_ms),
    };
    let missed = times.len() - wanted.len();
    let running = !progress.active.is_empty();
    let (starts, overlapping) = overlap(wanted, policy.concurrency, running);
    Plan { replace: policy.concurrency == Concurrency::Replace && running, starts, looked_at, overlapping, missed }
}

/// Those times that are to be started, whatever runs.
fn wanted(times: &[i64], policy: &Policy, now_ms: i64) -> Vec<i64> {
    let in_time = |time: &i64| policy.deadline_ms.is_none_or(|deadline| now_ms - time <= deadline);
    let times: Vec<i64> = times.iter().copied().filter(in_time).collect();
    let on_time: Vec<i64> = times.iter().copied().filter(|time| now_ms - time <= LATE_MS).collect();
    match policy.missed {
        Missed::All => times,
        // One makes up for all, and one that is on time anyway does so as well.
        Missed::One if on_time.is_empty() => times.last().copied().into_iter().collect(),
        Missed::One | Missed::Skip => on_time,
    }
}

/// Those of several starts that may be, and how many are left out.
pub(super) fn overlap<T>(mut starts: Vec<T>, concurrency: Concurrency, running: bool) -> (Vec<T>, usize) {
    let count = starts.len();
    match concurrency {
        Concurrency::Allow => {}
        Concurrency::Forbid => starts.truncate(usize::from(!running)),
        Concurrency::Replace => drop(starts.drain(..count.saturating_sub(1))),
    }
    let left_out = count - starts.len();
    (starts, left_out)
}

#[cfg(test)]
mod tests {
    use baton_types::Uid;
    use baton_workflow::Cron;

    use super::*;
    use crate::schedule::rows::Tracked;

    const MINUTE: i64 = 60_000;

    fn every() -> Schedule {
        Schedule::Every { interval_ms: 60_000 }
    }

    fn policy(change: impl FnOnce(&mut baton_proto::v1::WorkflowSpec)) -> Policy {
        let (mut spec, mut violations) = (baton_proto::v1::WorkflowSpec::default(), Vec::new());
        change(&mut spec);
        let policy = Policy::read(&spec, &mut violations);
        assert_eq!(violations, []);
        policy
    }

    /// Begun at 0 and looked at last at some minute; perhaps one runs.
    fn progress(looked_at: i64, running: bool) -> Progress {
        let active = running.then(|| Tracked { name: "w-1".to_owned(), uid: Uid::from_bytes([1; 16]) });
        Progress {
            last_ms: Some(looked_at * MINUTE),
            looked_at_ms: Some(looked_at * MINUTE),
            active: active.into_iter().collect(),
            ..Progress::default()
        }
    }

    fn minutes(plan: &Plan) -> Vec<i64> {
        plan.starts.iter().map(|time| time / MINUTE).collect()
    }

    #[test]
    fn a_time_is_started_when_it_has_come_and_once() {
        let policy = policy(|_| {});
        assert_eq!(next_due(&every(), &policy, &progress(5, false)), Some(6 * MINUTE));
        assert_eq!(plan(&every(), &policy, &progress(5, false), 6 * MINUTE - 1), Plan::default());
        let now = plan(&every(), &policy, &progress(5, false), 6 * MINUTE);
        assert_eq!((minutes(&now), now.looked_at), (vec![6], Some(6 * MINUTE)));
        assert_eq!(plan(&every(), &policy, &progress(6, false), 6 * MINUTE + 5000), Plan::default());
        assert_eq!(
            minutes(&plan(
                &Schedule::Cron(Cron::read("*/3 * * * *").unwrap()),
                &policy,
                &progress(5, false),
                6 * MINUTE
            )),
            [6]
        );
    }

    #[test]
    fn missed_times_are_left_out_made_up_for_or_caught_up_with() {
        let late = 9 * MINUTE + 30_000;
        for (word, started) in [("Skip", vec![]), ("One", vec![9]), ("All", vec![6, 7, 8, 9])] {
            let policy = policy(|spec| word.clone_into(&mut spec.missed_runs));
            let now = plan(&every(), &policy, &progress(5, false), late);
            assert_eq!(
                (minutes(&now), now.looked_at, now.missed),
                (started.clone(), Some(9 * MINUTE), 4 - started.len())
            );
        }
        // One that is on time makes up for those that were missed.
        for (word, started) in [("Skip", vec![9]), ("One", vec![9]), ("All", vec![6, 7, 8, 9])] {
            let policy = policy(|spec| word.clone_into(&mut spec.missed_runs));
            assert_eq!(minutes(&plan(&every(), &policy, &progress(5, false), 9 * MINUTE + 5000)), started);
        }
        let many = policy(|spec| "All".clone_into(&mut spec.missed_runs));
        let now = plan(&every(), &many, &progress(5, false), 100_000 * MINUTE);
        assert_eq!((now.starts.len(), now.starts.last()), (STARTS_MAX, Some(&(100_000 * MINUTE))));
    }

    #[test]
    fn a_deadline_holds_whatever_the_policy_is() {
        for word in ["One", "All"] {
            let policy = policy(|spec| {
                word.clone_into(&mut spec.missed_runs);
                "2m".clone_into(&mut spec.starting_deadline);
            });
            let now = plan(&every(), &policy, &progress(5, false), 9 * MINUTE + 30_000);
            assert_eq!(minutes(&now).first(), Some(if word == "All" { &8 } else { &9 }));
            let cron = Schedule::Cron(Cron::read("6 0 1 1 *").unwrap());
            let now = plan(&cron, &policy, &progress(5, false), 9 * MINUTE + 30_000);
            assert_eq!((minutes(&now), now.missed), (vec![], 1));
        }
    }

    #[test]
    fn what_runs_is_let_be_waited_for_or_replaced() {
        for (word, running, expected) in [
            ("Allow", true, (vec![6], false, 0)),
            ("Forbid", true, (vec![], false, 1)),
            ("Forbid", false, (vec![6], false, 0)),
            ("Replace", true, (vec![6], true, 0)),
            ("Replace", false, (vec![6], false, 0)),
        ] {
            let policy = policy(|spec| word.clone_into(&mut spec.concurrency_policy));
            let now = plan(&every(), &policy, &progress(5, running), 6 * MINUTE);
            assert_eq!((minutes(&now), now.replace, now.overlapping), expected, "{word}");
            assert_eq!(now.looked_at, Some(6 * MINUTE));
        }
        let policy = policy(|spec| {
            "Forbid".clone_into(&mut spec.concurrency_policy);
            "All".clone_into(&mut spec.missed_runs);
        });
        let now = plan(&every(), &policy, &progress(5, false), 9 * MINUTE);
        assert_eq!((minutes(&now), now.overlapping), (vec![6], 3));
    }

    #[test]
    fn after_is_counted_from_the_end_of_the_one_before() {
        let (after, policy) = (Schedule::After { delay_ms: 60_000 }, policy(|_| {}));
        let first = Progress { since_ms: 7, ..Progress::default() };
        assert_eq!(plan(&after, &policy, &first, 7).starts, [7]);
        assert_eq!(next_due(&after, &policy, &progress(5, true)), None, "one runs");
        let ended = Progress { ended_ms: Some(7 * MINUTE), ..progress(5, false) };
        assert_eq!(next_due(&after, &policy, &ended), Some(8 * MINUTE));
        assert_eq!(minutes(&plan(&after, &policy, &ended, 80 * MINUTE)), [8], "however late");
    }

    #[test]
    fn nothing_is_due_while_it_is_suspended() {
        let policy = policy(|spec| spec.suspend = true);
        assert_eq!(next_due(&every(), &policy, &progress(5, false)), None);
        assert_eq!(plan(&every(), &policy, &progress(5, false), 60 * MINUTE), Plan::default());
    }
}
