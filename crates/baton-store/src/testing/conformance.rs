//! The suite: what any backend must do, one function a property.

use super::cases::{executions, guards, transactions, upkeep, watch, work};
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
    ($($subject:ident::$name:ident),* $(,)?) => {
        /// Every case of the suite.
        pub const CASES: &[Case] = &[$(Case { name: stringify!($name), check: $subject::$name }),*];
    };
}

cases![
    transactions::a_created_resource_reads_back_whole,
    transactions::an_update_needs_the_current_revision,
    transactions::a_name_is_taken_once,
    transactions::a_number_or_uid_that_is_not_the_stored_one_is_not_found,
    transactions::a_resource_appears_once_in_a_transaction,
    transactions::revisions_are_consecutive_in_order,
    transactions::a_refused_transaction_writes_nothing,
    transactions::a_bad_transaction_harms_no_other_of_its_group,
    transactions::later_transactions_of_a_group_see_earlier_ones,
    guards::every_guard_holds_and_refuses,
    executions::a_journal_is_ordered_and_pages,
    executions::a_journal_position_is_taken_once,
    executions::a_snapshot_is_replaced,
    executions::recovery_finds_active_executions_only,
    executions::owners_expiry_and_deletion_are_found,
    executions::lists_page_in_order_with_one_revision,
    executions::lists_filter_by_label,
    work::timers_come_in_order_and_fire_once,
    work::the_outbox_gives_what_is_due,
    work::blobs_live_as_long_as_someone_refers_to_them,
    work::mailboxes_take_one_answer_and_expire,
    work::named_values_come_and_go,
    watch::a_watch_sees_everything_in_order,
    watch::a_watch_of_one_kind_moves_on_while_others_change,
    watch::a_watch_from_a_wrong_revision_is_gone,
    watch::a_slow_watch_gets_everything_from_the_table,
    watch::old_state_of_a_change_is_readable,
    upkeep::compaction_keeps_what_it_should,
    upkeep::a_deleted_execution_is_swept_in_steps,
    transactions::callbacks_run_once_in_order,
    transactions::many_producers_commit_everything_once,
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
