//! What a server says of its own accord while it is asked.

use rmcp::{
    ClientHandler,
    model::{ClientConfig, ProgressNotificationParam},
    service::{NotificationContext, RoleClient},
};

/// Notes progress in the log, and refuses whatever a server wants of its client.
pub(super) struct Handler {
    client: ClientConfig,
    who: String,
}

impl Handler {
    pub(super) fn new(client: ClientConfig, who: &str) -> Self {
        Self { client, who: who.to_owned() }
    }
}

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        self.client.clone()
    }

    async fn on_progress(&self, progress: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        // Numbers alone: its words may hold what the call was given.
        tracing::debug!(server = self.who, progress = progress.progress, total = progress.total, "a server goes on");
    }
}
