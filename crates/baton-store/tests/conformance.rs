//! The suite of [`baton_store::testing`] on the embedded backend.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use baton_store::testing::{conformance, options};
use baton_store::{Store, StoreOptions};

fn run(options: &StoreOptions) {
    let dir = tempfile::tempdir().unwrap();
    conformance(|case| Store::open(&dir.path().join(case), options.clone()).unwrap());
}

#[test]
fn embedded() {
    run(&options());
}

#[test]
fn embedded_with_a_tiny_ring_cache_and_log() {
    run(&StoreOptions {
        ring_events_max: 3,
        ring_bytes_max: 4096,
        cache_bytes: 64 << 10,
        checkpoint_bytes: 8 << 10,
        readers: 1,
        ..options()
    });
}

#[test]
fn embedded_with_small_groups() {
    // Three is the largest group that a case asks for.
    run(&StoreOptions { group_operations_max: 3, group_bytes_max: 16 << 10, ..options() });
}
