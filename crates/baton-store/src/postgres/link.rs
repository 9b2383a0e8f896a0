//! One session: its connection, what drives it, and what is looked at before it is trusted.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::address::{Address, Role};
use super::{chain, doing};
use crate::error::StoreError;
use crate::sums::meta_sum;
use crate::value::{Table, open as open_value};

/// The oldest server that the statements are written for.
const SERVER_VERSION_MIN: i32 = 130_000;
/// `meta` key of the cluster id.
pub(super) const CLUSTER_ID: &str = "cluster-id";
/// How long a session may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection that is driven by a task of the runtime it was made on.
pub(super) struct Link {
    pub(super) client: Client,
    driver: JoinHandle<()>,
}

impl Link {
    /// Ends the session so that its locks are free when this returns, if the server can be reached.
    pub(super) async fn end(self) {
        let Self { client, driver } = self;
        drop(client);
        let _ = tokio::time::timeout(FAREWELL, driver).await;
    }
}

/// Connects; must be called on the runtime that shall drive the connection.
pub(super) async fn connect(address: &Address, role: Role) -> Result<Link, StoreError> {
    let (client, connection) = address.connect(role).await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = chain(&error), "a connection to the database ended");
        }
    });
    Ok(Link { client, driver })
}

/// Refuses a server that would acknowledge what it may lose, or that keeps text in another encoding.
pub(super) async fn check_server(client: &Client, address: &Address) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('synchronous_commit'), current_setting('fsync'), \
        current_setting('full_page_writes'), current_setting('server_encoding'), \
        current_setting('server_version_num')::int4, current_setting('server_version')";
    let row = client.query_one(sql, &[]).await.map_err(doing("read the settings"))?;
    let text = |index| row.try_get::<_, String>(index).map_err(doing("read the settings"));
    let (commit, fsync, pages, encoding) = (text(0)?, text(1)?, text(2)?, text(3)?);
    let refused = |setting, found, needed| {
        Err(StoreError::Setting { address: address.text().to_owned(), setting, found, needed })
    };
    if row.try_get::<_, i32>(4).map_err(doing("read the settings"))? < SERVER_VERSION_MIN {
        return refused("server_version", text(5)?, "13 or later");
    }
    if encoding != "UTF8" {
        return refused("server_encoding", encoding, "'UTF8'");
    }
    if commit == "off" {
        return refused("synchronous_commit", commit, "'on'");
    }
    for (setting, value) in [("fsync", fsync), ("full_page_writes", pages)] {
        if value == "off" {
            tracing::warn!(
                address = address.text(),
                "the database server has {setting} off: a power failure may lose or damage what was acknowledged"
            );
        }
    }
    Ok(())
}

/// The id of this life of the store.
pub(super) async fn cluster_id(client: &Client) -> Result<[u8; 16], StoreError> {
    let corrupt = || StoreError::Corrupt { table: Table::Meta.name(), key: CLUSTER_ID.to_owned() };
    let row = client
        .query_opt("SELECT v FROM meta WHERE k = $1", &[&CLUSTER_ID])
        .await
        .map_err(doing("read the cluster id"))?
        .ok_or_else(corrupt)?;
    let stored: &[u8] = row.try_get(0).map_err(doing("read the cluster id"))?;
    let id = open_value(Table::Meta, meta_sum(CLUSTER_ID), stored, || CLUSTER_ID.to_owned())?;
    id.as_ref().try_into().map_err(|_| corrupt())
}
