//! One suite for every engine: the callback contract and what is promised of Programs, at the boundary of [`Engine`](crate::Engine).
//!
//! [`conformance!`](crate::conformance) makes a test of every case, at a [`Place`]: where Programs run.

#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::assigning_clones,
    reason = "test code, though outside of a test target"
)]

pub mod cases;
mod script;
mod site;

pub use script::{Scripts, World};
pub use site::{Here, Place, Site, admitted, callback_states, output, spec, uid};

/// A test for every case of the suite, each at the place that the expression (of the type `Arc<dyn Place>`) gives.
#[macro_export]
macro_rules! conformance {
    ($place:expr) => {
        $crate::conformance! {
            @cases $place;
            answers: a_parent_goes_on_with_its_childs_answer, every_ending_of_a_child_is_told, the_first_answer_counts_and_no_other_changes_anything, a_token_expires_with_its_wait, a_wait_without_the_heartbeats_it_wants_fails, a_caller_outside_collects_its_answer, a_repeated_create_runs_once_and_adds_its_token, a_token_can_be_attached_before_and_after_the_end, an_output_over_the_limit_is_delivered_as_a_reference;
            approvals: a_question_is_decided_once_and_for_what_was_asked, a_decision_that_cannot_be_taken_changes_nothing, a_question_that_nobody_decides_expires, a_question_of_an_execution_that_ended_takes_no_decision, a_question_waits_over_a_restart_and_is_answered_once, a_decision_that_is_durable_is_not_lost_with_the_engine, a_decision_on_a_suspended_execution_counts_when_it_is_resumed, a_question_is_answered_by_a_decision_and_by_no_token, a_call_in_doubt_is_shown;
            held: one_that_is_held_begins_when_it_is_released_and_leaves_what_it_has_to_leave, one_that_is_held_ends_like_any_other, one_that_is_held_is_suspended_from_its_first_step, one_that_is_held_waits_over_a_restart;
            lifecycle: a_history_is_numbered_without_gaps_and_ends_with_the_end, cancelling_a_parent_cancels_those_who_work_for_it_unless_they_are_abandoned, a_child_that_comes_to_be_after_its_parent_gave_up_is_cancelled, whoever_holds_a_token_of_an_ended_caller_is_cancelled, a_suspended_execution_keeps_answers_and_goes_on_when_resumed, an_execution_ends_when_its_time_is_over, metadata_changes_go_through_the_same_writer_and_a_change_of_nothing_writes_nothing, of_writers_that_saw_the_same_version_one_wins;
            recovery: what_waited_goes_on_after_a_restart_with_the_same_token, an_activity_without_a_result_runs_again_and_one_that_must_not_is_in_doubt, a_long_history_comes_back_from_its_snapshot, more_waiting_than_fit_in_memory_are_all_answered, an_answer_that_was_not_delivered_before_a_restart_is_delivered_after_it, the_reconciler_finds_nothing_to_mend_in_a_healthy_store, no_token_is_readable_on_the_disk, what_was_under_way_when_it_was_suspended_is_done_again_after_a_restart;
        }
    };
    (@cases $place:expr; $($group:ident: $($case:ident),+;)+) => {
        $crate::conformance! { @groups $place; $($group: $($case),+;)+ }
    };
    (@groups $place:expr; $group:ident: $($case:ident),+; $($rest:tt)*) => {
        mod $group {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    $crate::testing::cases::$group::$case($place).await;
                }
            )+
        }
        $crate::conformance! { @groups $place; $($rest)* }
    };
    (@groups $place:expr;) => {};
}
