//! The server in this process: its configuration, and running one.

use std::{net::SocketAddr, path::Path};

use baton_server::{
    RunningServer, ServerFailure, ServerOptions, StartError,
    config::{self, ConfigError, Resolved},
};

use crate::{
    failure::Failure,
    settings::{Environment as _, ProcessEnvironment, Settings},
};

/// The server's settings: flags (path and value) over the environment over the file over the defaults.
pub(crate) fn server_config(settings: &Settings, flags: &[(&str, String)]) -> Result<Resolved, Failure> {
    config::resolve(flags, |name| ProcessEnvironment.read(name), settings.server_table.clone())
        .map_err(|error| not_configured(settings, &error))
}

/// Says what is wrong with a configuration, and where it may be.
pub(crate) fn not_configured(settings: &Settings, error: &ConfigError) -> Failure {
    let failure = Failure::environment("the server cannot be configured").because(error);
    match &settings.file {
        Some(file) => failure.hint(format!("the configuration file is '{}'", file.display())),
        None => failure,
    }
}

/// Says why a server did not start, and what to do about it.
pub(crate) fn not_started(error: &StartError) -> Failure {
    let failure = Failure::environment("the server did not start").because(error);
    match error.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// Says why a server that ran cannot go on, and what to do about it.
pub(crate) fn failed(why: &ServerFailure) -> Failure {
    let failure = Failure::environment(why.to_string());
    match why.hint() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// A server of this process.
#[derive(Debug)]
pub(crate) struct LocalServer {
    running: RunningServer,
    url: String,
    has_model: bool,
}

impl LocalServer {
    /// Starts a server on `listen` over `data_dir`. One whose data is not kept does without reserves on the disk. Executions
    /// run in this process, and are kept there, whatever the configuration says of the server's engine and store.
    pub(crate) async fn start(
        settings: &Settings,
        data_dir: &Path,
        listen: SocketAddr,
        keep: bool,
    ) -> Result<Self, Failure> {
        let mut options = ServerOptions::from(server_config(settings, &[])?.config);
        options.listen = listen;
        (options.store_url, options.key_file, options.advertise) = (None, None, None);
        data_dir.clone_into(&mut options.data_dir);
        if !keep {
            options.store.free_bytes_min = 0;
            options.store.ballast_bytes = 0;
        }
        let has_model = options.models.knows_openai();
        let running = baton_server::start(options).await.map_err(|error| not_started(&error))?;
        let url = format!("http://{}", running.address);
        Ok(Self { running, url, has_model })
    }

    /// Its URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Whether a model is configured for agents that name no URL of their own.
    pub(crate) fn has_model(&self) -> bool {
        self.has_model
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Resolves when it cannot go on, with the reason.
    pub(crate) async fn failed(&self) -> Failure {
        let why = self.running.failed().await;
        failed(&why)
    }

    /// Stops it; what has not ended stays in its data.
    pub(crate) async fn shutdown(self) {
        self.running.shutdown().await;
    }
}
