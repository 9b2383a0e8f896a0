//! Arguments about Temporal, of the server and of its workers.

use std::path::PathBuf;

use clap::Args;

/// Where Temporal is. What is left out comes from Temporal's own environment, then from a profile of its temporal.toml.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Temporal")]
#[expect(clippy::struct_field_names, reason = "the name of a field is the name of its flag")]
pub(crate) struct TemporalArgs {
    /// Address of Temporal, HOST:PORT or a URL [env: BATON_TEMPORAL_ADDRESS, TEMPORAL_ADDRESS] [default: 127.0.0.1:7233]
    #[arg(long, value_name = "HOST:PORT")]
    temporal_address: Option<String>,
    /// Temporal's namespace that executions run in [env: BATON_TEMPORAL_NAMESPACE, TEMPORAL_NAMESPACE] [default: default]
    #[arg(long, value_name = "NAME")]
    temporal_namespace: Option<String>,
    /// Task queue that workers poll [env: BATON_TEMPORAL_TASK_QUEUE] [default: baton]
    #[arg(long, value_name = "NAME")]
    temporal_task_queue: Option<String>,
    /// API key, shown to whoever lists processes; rather use [env: BATON_TEMPORAL_API_KEY, TEMPORAL_API_KEY]
    #[arg(long, value_name = "KEY", hide = true)]
    temporal_api_key: Option<String>,
    /// Whether to encrypt: true, false, or auto for with an API key or a certificate [env: BATON_TEMPORAL_TLS, TEMPORAL_TLS]
    /// [default: auto]
    #[arg(long, value_name = "CHOICE", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    temporal_tls: Option<String>,
    /// Certificate authority, PEM [env: BATON_TEMPORAL_TLS_CA] [default: the system's]
    #[arg(long, value_name = "FILE")]
    temporal_tls_ca: Option<PathBuf>,
    /// Certificate to show, PEM [env: BATON_TEMPORAL_TLS_CERT]
    #[arg(long, value_name = "FILE")]
    temporal_tls_cert: Option<PathBuf>,
    /// Key of that certificate, PEM [env: BATON_TEMPORAL_TLS_KEY]
    #[arg(long, value_name = "FILE")]
    temporal_tls_key: Option<PathBuf>,
    /// Name in Temporal's certificate, if not that of the address [env: BATON_TEMPORAL_TLS_SERVER_NAME]
    #[arg(long, value_name = "NAME")]
    temporal_tls_server_name: Option<String>,
    /// Profile of temporal.toml [env: BATON_TEMPORAL_PROFILE, TEMPORAL_PROFILE]
    #[arg(long, value_name = "NAME")]
    temporal_profile: Option<String>,
    /// Where temporal.toml is [env: BATON_TEMPORAL_CONFIG_FILE, TEMPORAL_CONFIG_FILE]
    #[arg(long, value_name = "FILE")]
    temporal_config_file: Option<PathBuf>,
    /// Events in Temporal's history after which an execution goes on in a new run
    /// [env: BATON_TEMPORAL_CONTINUE_AS_NEW_EVENTS] [default: 10000]
    #[arg(long, value_name = "COUNT")]
    temporal_continue_as_new_events: Option<String>,
}

/// What only the server does with Temporal.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Temporal")]
pub(crate) struct TemporalServerArgs {
    /// Namespaces of Temporal whose task tokens are taken as return addresses, with commas between them
    /// [env: BATON_TEMPORAL_CALLBACK_NAMESPACES]
    #[arg(long, value_name = "NAMES")]
    temporal_callback_namespaces: Option<String>,
    /// Run no worker in the server; baton worker does [env: BATON_TEMPORAL_WORKER=false]
    #[arg(long)]
    no_worker: bool,
}

impl TemporalArgs {
    /// The settings that these flags are.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        [
            ("temporal.address", self.temporal_address.clone()),
            ("temporal.namespace", self.temporal_namespace.clone()),
            ("temporal.task-queue", self.temporal_task_queue.clone()),
            ("temporal.api-key", self.temporal_api_key.clone()),
            ("temporal.tls", self.temporal_tls.clone()),
            ("temporal.tls-ca", path(&self.temporal_tls_ca)),
            ("temporal.tls-cert", path(&self.temporal_tls_cert)),
            ("temporal.tls-key", path(&self.temporal_tls_key)),
            ("temporal.tls-server-name", self.temporal_tls_server_name.clone()),
            ("temporal.profile", self.temporal_profile.clone()),
            ("temporal.config-file", path(&self.temporal_config_file)),
            ("temporal.continue-as-new-events", self.temporal_continue_as_new_events.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
    }
}

impl TemporalServerArgs {
    /// The settings that these flags are.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (&'static str, String)> {
        let namespaces = self.temporal_callback_namespaces.clone().map(|it| ("temporal.callback-namespaces", it));
        let worker = self.no_worker.then(|| ("temporal.worker", false.to_string()));
        namespaces.into_iter().chain(worker)
    }
}
