//! The suite of [`baton_store::testing`] on PostgreSQL.

use baton_store::StoreOptions;
use baton_store::testing::postgres::PostgresServer;
use baton_store::testing::{conformance, options};

fn run(options: &StoreOptions) {
    conformance(|_| PostgresServer::shared().open_store(options));
}

#[test]
fn postgres() {
    run(&options());
}

#[test]
fn postgres_with_a_tiny_ring_and_one_reader() {
    run(&StoreOptions { ring_events_max: 3, ring_bytes_max: 4096, readers: 1, ..options() });
}

#[test]
fn postgres_with_small_groups() {
    // Three is the largest group that a case asks for.
    run(&StoreOptions { group_operations_max: 3, group_bytes_max: 16 << 10, ..options() });
}
