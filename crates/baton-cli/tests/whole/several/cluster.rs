//! A PostgreSQL, and servers over one store in it, each with a folder of its own and the same key.

use std::{fs, path::PathBuf};

use baton_store::testing::postgres::PostgresServer;

use crate::{
    eventually,
    process::{Home, Server},
};

/// Of the role in the database; it must be shown nowhere.
pub(super) const PASSWORD: &str = "sesame-open";
/// What a server says once it leads.
pub(super) const LEADS: &str = "this server leads: it runs the engine";
/// What a server says once it knows who leads.
const STANDS_BY: &str = "standing by: requests go to the server that leads";

pub(super) struct Cluster {
    url: String,
    /// Where the key is.
    folder: Home,
    /// More lines for the configuration of every server.
    more: String,
}

impl Cluster {
    pub(super) fn new() -> Self {
        Self::with("")
    }

    /// With more lines in the configuration of every server.
    pub(super) fn with(more: &str) -> Self {
        let url = PostgresServer::shared().create_database();
        let url = url.replacen("baton@", &format!("baton:{PASSWORD}@"), 1);
        Self { url, folder: Home::new(), more: more.to_owned() }
    }

    pub(super) fn key_file(&self) -> PathBuf {
        self.folder.folder().join("shared.key")
    }

    /// A server's folder and configuration. In the database it goes by `name`.
    pub(super) fn home(&self, name: &str) -> Home {
        let home = Home::new();
        let (key, url) = (self.key_file(), &self.url);
        home.configure(&format!(
            "key-file = \"{}\"\n[store]\nurl = \"{url}?application_name={name}\"\nfree-min = \"0B\"\n\
             [upkeep]\nperiod = \"1s\"\n{}",
            key.display(),
            self.more
        ));
        home
    }

    /// A server that leads, and one that stands by.
    pub(super) fn pair(&self) -> (Home, Server, Home, Server) {
        let (first, second) = (self.home("first"), self.home("second"));
        let leader = first.serve();
        leader.says(LEADS).unwrap();
        let standby = second.serve();
        standby.says(STANDS_BY).unwrap();
        (first, leader, second, standby)
    }

    /// Ends all sessions of a server in the database, as a network or an administrator does.
    pub(super) fn cut_off(&self, name: &str) {
        let sql = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{name}'");
        PostgresServer::shared().psql(&self.url, &sql);
    }

    /// Waits until all sessions of a server are gone.
    pub(super) fn is_gone(&self, name: &str) {
        let sql = format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{name}'");
        eventually("its sessions end", || (PostgresServer::shared().psql(&self.url, &sql) == "0").then_some(()));
    }
}

/// A key that is no cluster's, in the folder of a server.
pub(super) fn other_key(home: &Home) -> PathBuf {
    let path = home.folder().join("other.key");
    fs::write(&path, [7; 32]).unwrap();
    path
}
