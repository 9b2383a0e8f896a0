//! Tables and indexes, in versions.
//!
//! The columns and stored forms are those of the embedded backend. Where they differ: the journal is keyed by execution and
//! position, since PostgreSQL keeps rows in the order of their insertion anyway and needs no key for that order; text is
//! compared by bytes (`COLLATE "C"`), as every backend must; numbers come in blocks from sequences.
//!
//! # Invariants
//! - A migration is one transaction under an advisory lock: servers that start together do it once.
//! - `format` holds the version; one that is newer than this program's is left alone.
//! - The schema is created only if it is not there, so that a role without the right to create one can be given one.

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, GenericClient};

use super::address::Address;
use super::doing;
use super::link::{CLUSTER_ID, cluster_id};
use crate::error::StoreError;
use crate::sums::meta_sum;
use crate::value::seal;

/// Of all servers that start at the same time, one migrates: "Batn", migration.
const MIGRATION_LOCK: i64 = 0x4261_746e_0000_0001;

/// What leads from each version to the next; the first from nothing to version 1. Added to, never changed.
const MIGRATIONS: &[&str] = &["
CREATE TABLE format (one int2 PRIMARY KEY CHECK (one = 1), version int8 NOT NULL);
INSERT INTO format VALUES (1, 0);
CREATE TABLE meta (k text COLLATE \"C\" PRIMARY KEY, v bytea NOT NULL);
CREATE TABLE head (
    one int2 PRIMARY KEY CHECK (one = 1),
    revision int8 NOT NULL,
    compacted int8 NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000);
INSERT INTO head VALUES (1, 0, 0);
CREATE TABLE committed (
    writer bytea PRIMARY KEY,
    id int8 NOT NULL,
    at timestamptz NOT NULL
) WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000);
CREATE SEQUENCE number_block MINVALUE 0 START 0;
CREATE SEQUENCE outbox_block MINVALUE 0 START 0;
CREATE TABLE mark (at int8 PRIMARY KEY, revision int8 NOT NULL);
CREATE TABLE resource (
    n int8 PRIMARY KEY,
    kind text COLLATE \"C\" NOT NULL,
    ns text COLLATE \"C\" NOT NULL,
    name text COLLATE \"C\" NOT NULL,
    uid bytea NOT NULL,
    revision int8 NOT NULL,
    state int8 NOT NULL,
    owner bytea,
    expires_at int8,
    deleting bool NOT NULL,
    labels text COLLATE \"C\",
    body bytea NOT NULL
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX resource_name ON resource (kind, ns, name);
CREATE UNIQUE INDEX resource_uid ON resource (uid);
CREATE INDEX resource_active ON resource (n) WHERE state = 1;
CREATE INDEX resource_owner ON resource (owner, n) WHERE owner IS NOT NULL;
CREATE INDEX resource_expires ON resource (expires_at, n) WHERE expires_at IS NOT NULL AND NOT deleting;
CREATE INDEX resource_deleting ON resource (n) WHERE deleting;
CREATE TABLE change (
    revision int8 PRIMARY KEY,
    previous int8 NOT NULL,
    kind text COLLATE \"C\" NOT NULL,
    ns text COLLATE \"C\" NOT NULL,
    name text COLLATE \"C\" NOT NULL,
    uid bytea NOT NULL,
    n int8 NOT NULL,
    op int8 NOT NULL,
    body bytea NOT NULL
);
CREATE TABLE journal (n int8 NOT NULL, seq int8 NOT NULL, body bytea NOT NULL, PRIMARY KEY (n, seq));
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE TABLE snapshot (n int8 PRIMARY KEY, seq int8 NOT NULL, body bytea NOT NULL) WITH (fillfactor = 70);
CREATE TABLE timer (due int8 NOT NULL, n int8 NOT NULL, id int8 NOT NULL, PRIMARY KEY (due, n, id))
    WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE TABLE outbox (
    id int8 PRIMARY KEY,
    n int8 NOT NULL,
    next_at int8 NOT NULL,
    attempts int8 NOT NULL,
    body bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX outbox_next ON outbox (next_at, id);
CREATE INDEX outbox_n ON outbox (n, id);
CREATE TABLE blob (digest bytea PRIMARY KEY, pinned bool NOT NULL, body bytea NOT NULL);
CREATE TABLE blob_ref (n int8 NOT NULL, digest bytea NOT NULL, PRIMARY KEY (n, digest));
CREATE INDEX blob_ref_digest ON blob_ref (digest);
CREATE TABLE mailbox (id bytea PRIMARY KEY, expires int8 NOT NULL, answered bool NOT NULL, body bytea NOT NULL);
CREATE INDEX mailbox_expires ON mailbox (expires);
CREATE TABLE doomed (n int8 PRIMARY KEY);
"];

/// The newest version known here.
fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Brings the schema to the newest version, and gives the cluster id.
pub(super) async fn prepare(client: &mut Client, address: &Address) -> Result<[u8; 16], StoreError> {
    match migrate(client, address).await {
        Err(StoreError::Postgres { operation, source }) if source.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => {
            let found = source.as_db_error().map_or_else(String::new, |error| format!(" ({})", error.message()));
            Err(lacks(client, address, format!("{operation}{found}")).await)
        }
        Err(other) => Err(other),
        Ok(()) => {
            check_rights(client, address).await?;
            cluster_id(client).await
        }
    }
}

async fn lacks(client: &Client, address: &Address, action: String) -> StoreError {
    let role = client.query_one("SELECT current_user::text", &[]).await.and_then(|row| row.try_get(0));
    StoreError::Privilege { address: address.text().to_owned(), role: role.unwrap_or_default(), action }
}

async fn migrate(client: &mut Client, address: &Address) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(doing("begin a transaction"))?;
    transaction
        .execute("SELECT pg_advisory_xact_lock($1)", &[&MIGRATION_LOCK])
        .await
        .map_err(doing("wait for other servers that start"))?;
    let version = if let Some(version) = version(&transaction, address).await? {
        version
    } else {
        if !exists(&transaction, "SELECT 1 FROM pg_namespace WHERE nspname = 'baton'").await? {
            transaction.batch_execute("CREATE SCHEMA baton").await.map_err(doing("create the schema 'baton'"))?;
        }
        0
    };
    if version > newest() {
        return Err(StoreError::NewerFormat { path: address.text().into(), found: version, supported: newest() });
    }
    for step in MIGRATIONS.iter().skip(usize::try_from(version).unwrap_or(usize::MAX)) {
        transaction.batch_execute(step).await.map_err(doing("create tables in the schema 'baton'"))?;
    }
    if version < newest() {
        transaction
            .execute("UPDATE format SET version = $1", &[&newest()])
            .await
            .map_err(doing("note the version of the schema"))?;
    }
    if version == 0 {
        let mut value = Vec::new();
        seal(&mut value, meta_sum(CLUSTER_ID), &uuid::Uuid::now_v7().into_bytes());
        transaction
            .execute("INSERT INTO meta (k, v) VALUES ($1, $2)", &[&CLUSTER_ID, &value])
            .await
            .map_err(doing("note the cluster id"))?;
        tracing::info!(address = address.text(), "created the schema");
    }
    transaction.commit().await.map_err(doing("commit the schema"))
}

async fn exists(client: &impl GenericClient, sql: &str) -> Result<bool, StoreError> {
    Ok(client.query_opt(sql, &[]).await.map_err(doing("look at the schema 'baton'"))?.is_some())
}

/// The version of the schema; `None` if there is nothing in it.
async fn version(client: &impl GenericClient, address: &Address) -> Result<Option<i64>, StoreError> {
    let foreign = |found: &str| StoreError::Foreign { path: address.text().into(), found: found.to_owned() };
    let any = "SELECT 1 FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE s.nspname = 'baton'";
    let columns = "SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
        JOIN pg_namespace s ON s.oid = c.relnamespace \
        WHERE s.nspname = 'baton' AND c.relname = 'format' AND a.attname = 'version' AND a.atttypid = 'int8'::regtype";
    if !exists(client, columns).await? {
        let empty = !exists(client, &format!("{any} LIMIT 1")).await?;
        return if empty { Ok(None) } else { Err(foreign("its schema 'baton' has other tables")) };
    }
    let row = client
        .query_opt("SELECT version FROM baton.format", &[])
        .await
        .map_err(doing("read the version of the schema"))?
        .ok_or_else(|| foreign("its table 'baton.format' is empty"))?;
    row.try_get(0).map(Some).map_err(doing("read the version of the schema"))
}

/// Names the first table that the role cannot use in full.
async fn check_rights(client: &Client, address: &Address) -> Result<(), StoreError> {
    let sql = "SELECT lower(r.word) || ' ' || c.relname FROM pg_class c \
        JOIN pg_namespace s ON s.oid = c.relnamespace \
        CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) r(word) \
        WHERE s.nspname = 'baton' AND c.relkind = 'r' AND c.relname <> 'format' \
        AND NOT has_table_privilege(c.oid, r.word) \
        UNION ALL SELECT 'use ' || c.relname FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace \
        WHERE s.nspname = 'baton' AND CASE c.relkind WHEN 'S' THEN NOT has_sequence_privilege(c.oid, 'USAGE') ELSE false END \
        LIMIT 1";
    match client.query_opt(sql, &[]).await.map_err(doing("look at the role's rights"))? {
        None => Ok(()),
        Some(row) => {
            let action: String = row.try_get(0).map_err(doing("look at the role's rights"))?;
            Err(lacks(client, address, action).await)
        }
    }
}
