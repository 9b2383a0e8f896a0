//! The committer's statements, prepared once for each session.
//!
//! A kind of mutation is one statement whatever the number of rows: columns come as arrays. Every condition is the key of an
//! index, and the session is set up so that it is used (see [`address`](super::address)).

use futures::future::try_join_all;
use tokio_postgres::{Client, Error, Statement};

macro_rules! statements {
    ($($name:ident: $sql:expr,)*) => {
        /// Every statement of the write path.
        pub(super) struct Statements { $(pub(super) $name: Statement,)* }

        impl Statements {
            /// One round trip for all of them.
            pub(super) async fn prepare(client: &Client) -> Result<Self, Error> {
                let prepared = try_join_all([$($sql),*].map(|sql: &str| client.prepare(sql))).await?;
                let mut prepared = prepared.into_iter();
                $(let $name = prepared.next().expect("there is one for each text");)*
                Ok(Self { $($name,)* })
            }
        }
    };
}

statements! {
    begin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
    commit: "COMMIT",
    lock: "SELECT revision, compacted FROM head FOR UPDATE",
    by_number: "SELECT n, revision, uid, kind, ns, name FROM resource WHERE n = ANY($1::int8[])",
    by_name: "SELECT r.n, r.revision, r.uid, r.kind, r.ns, r.name \
        FROM unnest($1::text[], $2::text[], $3::text[]) k(kind, ns, name) \
        JOIN resource r ON r.kind = k.kind AND r.ns = k.ns AND r.name = k.name",
    journal_last: "SELECT k.n, j.seq FROM unnest($1::int8[]) k(n) CROSS JOIN LATERAL \
        (SELECT seq FROM journal WHERE journal.n = k.n ORDER BY seq DESC LIMIT 1) j",
    timers: "SELECT t.due, t.n, t.id FROM unnest($1::int8[], $2::int8[], $3::int8[]) k(due, n, id) \
        JOIN timer t ON t.due = k.due AND t.n = k.n AND t.id = k.id",
    mailboxes: "SELECT id, answered FROM mailbox WHERE id = ANY($1::bytea[])",
    outbox: "SELECT id FROM outbox WHERE id = ANY($1::int8[])",
    uids: "SELECT uid FROM resource WHERE uid = ANY($1::bytea[])",
    blobs: "SELECT digest FROM blob WHERE digest = ANY($1::bytea[])",
    timer_clear: "DELETE FROM timer t USING unnest($1::int8[], $2::int8[], $3::int8[]) k(due, n, id) \
        WHERE t.due = k.due AND t.n = k.n AND t.id = k.id",
    timer_set: "INSERT INTO timer (due, n, id) SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[]) \
        ON CONFLICT DO NOTHING",
    resource_delete: "DELETE FROM resource WHERE n = ANY($1::int8[])",
    resource_update: "UPDATE resource r SET revision = k.revision, state = k.state, owner = k.owner, \
        expires_at = k.expires_at, deleting = k.deleting, labels = k.labels, body = k.body \
        FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[], $5::int8[], $6::bool[], $7::text[], $8::bytea[]) \
        k(n, revision, state, owner, expires_at, deleting, labels, body) WHERE r.n = k.n",
    resource_insert: "INSERT INTO resource \
        (n, revision, state, owner, expires_at, deleting, labels, body, kind, ns, name, uid) \
        SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[], $5::int8[], $6::bool[], $7::text[], \
        $8::bytea[], $9::text[], $10::text[], $11::text[], $12::bytea[])",
    doomed_put: "INSERT INTO doomed (n) SELECT * FROM unnest($1::int8[]) ON CONFLICT DO NOTHING",
    change_insert: "INSERT INTO change (revision, previous, kind, ns, name, uid, n, op, body) \
        SELECT * FROM unnest($1::int8[], $2::int8[], $3::text[], $4::text[], $5::text[], $6::bytea[], $7::int8[], \
        $8::int8[], $9::bytea[])",
    journal_insert: "INSERT INTO journal (n, seq, body) SELECT * FROM unnest($1::int8[], $2::int8[], $3::bytea[])",
    snapshot_put: "INSERT INTO snapshot (n, seq, body) SELECT * FROM unnest($1::int8[], $2::int8[], $3::bytea[]) \
        ON CONFLICT (n) DO UPDATE SET seq = excluded.seq, body = excluded.body",
    outbox_delete: "DELETE FROM outbox WHERE id = ANY($1::int8[])",
    outbox_insert: "INSERT INTO outbox (id, n, next_at, attempts, body) \
        SELECT * FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[])",
    outbox_update: "UPDATE outbox o SET next_at = k.next_at, attempts = k.attempts, body = coalesce(k.body, o.body) \
        FROM unnest($1::int8[], $2::int8[], $3::int8[], $4::bytea[]) k(id, next_at, attempts, body) WHERE o.id = k.id",
    blob_insert: "INSERT INTO blob (digest, pinned, body) SELECT * FROM unnest($1::bytea[], $2::bool[], $3::bytea[])",
    blob_pin: "UPDATE blob SET pinned = true WHERE digest = ANY($1::bytea[])",
    blob_ref_put: "INSERT INTO blob_ref (n, digest) SELECT * FROM unnest($1::int8[], $2::bytea[]) \
        ON CONFLICT DO NOTHING",
    mailbox_delete: "DELETE FROM mailbox WHERE id = ANY($1::bytea[])",
    mailbox_put: "INSERT INTO mailbox (id, expires, answered, body) \
        SELECT * FROM unnest($1::bytea[], $2::int8[], $3::bool[], $4::bytea[]) ON CONFLICT (id) \
        DO UPDATE SET expires = excluded.expires, answered = excluded.answered, body = excluded.body",
    meta_delete: "DELETE FROM meta WHERE k = ANY($1::text[])",
    meta_put: "INSERT INTO meta (k, v) SELECT * FROM unnest($1::text[], $2::bytea[]) \
        ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    head_put: "UPDATE head SET revision = $1, compacted = $2",
    committed_put: "INSERT INTO committed (writer, id, at) VALUES ($1, $2, now()) \
        ON CONFLICT (writer) DO UPDATE SET id = excluded.id, at = excluded.at",
    committed: "SELECT id FROM committed WHERE writer = $1",
    notify: "SELECT pg_notify($1, $2)",
    changes: "SELECT revision, previous, kind, ns, name, uid, n, op, body FROM change \
        WHERE revision > $1 AND revision <= $2 ORDER BY revision LIMIT $3",
}
