//! What sessions have beside what every kind has: their export.

use baton_proto::v1;
use futures::StreamExt as _;
use tonic::{Response, Status};

use super::{
    Grpc,
    resources::{Answers, fill_namespace},
    status,
};

impl Grpc {
    pub(super) async fn export(
        &self,
        mut request: v1::ExportSessionRequest,
    ) -> Result<Response<Answers<v1::ExportedTurn>>, Status> {
        fill_namespace(&mut request.namespace);
        let turns = self.app.export_session(&request).await.map_err(status::of)?;
        Ok(Response::new(self.until_stopping(turns.map(|turn| turn.map_err(status::of)))))
    }
}
