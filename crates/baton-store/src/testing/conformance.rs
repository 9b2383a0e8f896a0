//! The suite: what any backend must do, one function a property.

use super::cases::executions::*;
use super::cases::guards::*;
use super::cases::transactions::*;
use super::cases::upkeep::*;
use super::cases::watch::*;
use super::cases::work::*;
use crate::store::Store;

/// One property of a store.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// What it says.
    pub name: &'static str,
    /// Panics unless it holds of an empty store.
    pub check: fn(&Store),
}

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        /// Every case of the suite.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), check: $name }),*];
    };
}

cases![
    a_created_resource_reads_back_whole,
    an_update_needs_the_current_revision,
    a_name_is_taken_once,
    a_number_or_uid_that_is_not_the_stored_one_is_not_found,
    a_resource_appears_once_in_a_transaction,
    revisions_are_consecutive_in_order,
    a_refused_transaction_writes_nothing,
    a_bad_transaction_harms_no_other_of_its_group,
    later_transactions_of_a_group_see_earlier_ones,
    every_guard_holds_and_refuses,
    a_journal_is_ordered_and_pages,
    a_journal_position_is_taken_once,
    a_snapshot_is_replaced,
    recovery_finds_active_executions_only,
    owners_expiry_and_deletion_are_found,
    lists_page_in_order_with_one_revision,
    lists_filter_by_label,
    timers_come_in_order_and_fire_once,
    the_outbox_gives_what_is_due,
    blobs_live_as_long_as_someone_refers_to_them,
    mailboxes_take_one_answer_and_expire,
    named_values_come_and_go,
    a_watch_sees_everything_in_order,
    a_watch_of_one_kind_moves_on_while_others_change,
    a_watch_from_a_wrong_revision_is_gone,
    a_slow_watch_gets_everything_from_the_table,
    old_state_of_a_change_is_readable,
    compaction_keeps_what_it_should,
    a_deleted_execution_is_swept_in_steps,
    callbacks_run_once_in_order,
    many_producers_commit_everything_once,
];

/// Runs every case, each on a store of its own from `open`.
///
/// # Panics
/// If a case does not hold.
pub fn conformance(open: impl Fn(&str) -> Store) {
    for case in CASES {
        let store = open(case.name);
        (case.check)(&store);
        store.close();
    }
}
