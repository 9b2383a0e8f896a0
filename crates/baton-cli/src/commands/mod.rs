//! One file per command. They run on settings, and output only through the printer.

mod apply;
mod approval;
mod artifact;
mod ask;
mod backup;
mod callback;
mod chat;
mod config;
mod create;
mod delete;
mod describe;
mod event;
mod fmt;
mod get;
mod graph;
mod history;
mod import;
mod mcp;
mod restore;
mod run;
mod server;
mod session;
mod test;
mod tree;
mod validate;
mod watch;
mod worker;

use crate::{
    client::Client,
    failure::{Blame, Failure},
    printer::Printer,
    settings::Settings,
};

/// What every command works with.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) settings: Settings,
    pub(crate) printer: Printer,
}

impl Context {
    /// A connection to the server of the settings; of several, to the first that is there.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let servers = self.settings.servers();
        let (last, others) = servers.split_last().expect("there is always one");
        for server in others {
            match Client::connect(server).await {
                Err(failure) if failure.blame() == Blame::Environment => {}
                connected => return connected,
            }
        }
        Client::connect(last).await
    }

    /// Tells what the server warned of.
    pub(crate) fn warn(&self, place: &str, warnings: &[String]) {
        for warning in warnings {
            self.printer.warning(&crate::printer::one_line(&format!("{place}: {warning}")));
        }
    }

    /// The namespace to work in.
    pub(crate) fn namespace(&self) -> &str {
        &self.settings.namespace.value
    }
}

pub(crate) use apply::{apply, apply_all, place};
pub(crate) use approval::{approvals, approve, deny, resolve};
pub(crate) use artifact::artifact;
pub(crate) use ask::ask;
pub(crate) use backup::backup;
pub(crate) use callback::callback;
pub(crate) use chat::chat;
pub(crate) use config::config;
pub(crate) use create::create;
pub(crate) use delete::delete;
pub(crate) use describe::describe;
pub(crate) use event::event;
pub(crate) use fmt::fmt;
pub(crate) use get::{get, list};
pub(crate) use graph::graph;
pub(crate) use history::history;
pub(crate) use import::import;
pub(crate) use mcp::mcp;
pub(crate) use restore::restore;
pub(crate) use run::run;
pub(crate) use server::server;
pub(crate) use session::session;
pub(crate) use test::test;
pub(crate) use tree::tree;
pub(crate) use validate::validate;
pub(crate) use watch::watch;
pub(crate) use worker::worker;
