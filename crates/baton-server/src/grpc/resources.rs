//! Create, get, list, update, patch, delete and watch, for every kind.

use std::pin::Pin;

use baton_proto::v1;
use baton_types::{ApiError, Violation};
use futures::{Stream, StreamExt as _, stream};
use serde_json::Value;
use tonic::{Response, Status, metadata::MetadataValue};

use super::{Grpc, status};
use crate::{
    app::{ServedResource, WriteOptions, Written},
    errors,
};

/// A stream of answers.
pub(super) type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The namespace of requests that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// Fills in the namespace of a request for one object.
pub(super) fn fill_namespace(namespace: &mut String) {
    if namespace.is_empty() {
        DEFAULT_NAMESPACE.clone_into(namespace);
    }
}

impl Grpc {
    pub(super) async fn create<R: ServedResource>(
        &self,
        field: &str,
        object: Option<R>,
        options: Option<v1::CreateOptions>,
    ) -> Result<Response<R>, Status> {
        let (object, options) =
            write(field, object, &options.unwrap_or_default().dry_run, "options.dry_run").map_err(status::of)?;
        self.app.create(object, options).await.map(written).map_err(status::of)
    }

    pub(super) async fn update<R: ServedResource>(
        &self,
        field: &str,
        object: Option<R>,
        options: Option<v1::CreateOptions>,
    ) -> Result<Response<R>, Status> {
        let (object, options) =
            write(field, object, &options.unwrap_or_default().dry_run, "options.dry_run").map_err(status::of)?;
        self.app.update(object, options).await.map(written).map_err(status::of)
    }

    pub(super) async fn patch<R: ServedResource>(&self, mut request: v1::PatchRequest) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        let (patch, options) = write("patch", request.patch, &request.dry_run, "dry_run").map_err(status::of)?;
        let patch: Value = patch.to_value().map_err(|error| violation("patch", &format!("is not JSON: {error}")))?;
        self.app.patch(&request.namespace, &request.name, patch, options).await.map(written).map_err(status::of)
    }

    pub(super) async fn get<R: ServedResource>(&self, mut request: v1::GetRequest) -> Result<Response<R>, Status> {
        fill_namespace(&mut request.namespace);
        self.app.get(&request.namespace, &request.name).await.map(Response::new).map_err(status::of)
    }

    pub(super) async fn list<R: ServedResource>(&self, request: v1::ListRequest) -> Result<Response<R::List>, Status> {
        let (metadata, items) = self.app.list::<R>(&request).await.map_err(status::of)?;
        Ok(Response::new(R::list(metadata, items)))
    }

    pub(super) async fn delete<R: ServedResource>(
        &self,
        mut request: v1::DeleteRequest,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        fill_namespace(&mut request.namespace);
        let deleted = self.app.delete::<R>(&request).await.map_err(status::of)?;
        let uid = deleted.object.metadata().map(|it| it.uid.clone()).unwrap_or_default();
        Ok(Response::new(v1::DeleteResponse { gone: deleted.gone, uid }))
    }

    pub(super) async fn watch<R: ServedResource>(
        &self,
        request: v1::WatchRequest,
    ) -> Result<Response<Answers<R::WatchEvent>>, Status> {
        let items = self.app.watch::<R>(&request, true).await.map_err(status::of)?;
        let events = items.map(|item| item.map(|it| R::watch_event(it.kind.as_str(), it.object)).map_err(status::of));
        Ok(Response::new(self.until_stopping(events)))
    }

    /// `items`, and once the server stops an error that says so.
    pub(super) fn until_stopping<T: Send + 'static>(
        &self,
        items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> Answers<T> {
        let stopping = self.stopping.clone();
        let last = {
            let stopping = stopping.clone();
            stream::once(async move { stopping.is_cancelled().then(|| Err(status::of(errors::stopping()))) })
                .filter_map(std::future::ready)
        };
        Box::pin(items.take_until(stopping.cancelled_owned()).chain(last))
    }
}

fn written<R>(written: Written<R>) -> Response<R> {
    let mut response = Response::new(written.object);
    response
        .metadata_mut()
        .insert("baton-created", MetadataValue::from_static(if written.created { "true" } else { "false" }));
    status::warn(response.metadata_mut(), &written.warnings);
    response
}

/// The object and the options of a write; all that is wrong is reported at once.
fn write<T>(field: &str, object: Option<T>, dry_run: &str, dry_run_field: &str) -> Result<(T, WriteOptions), ApiError> {
    let mut violations = Vec::new();
    if !matches!(dry_run, "" | "All") {
        violations.push(Violation::new(dry_run_field, format!("'{dry_run}' is not a value of it; allowed is 'All'")));
    }
    match object {
        Some(object) if violations.is_empty() => Ok((object, WriteOptions { dry_run: !dry_run.is_empty() })),
        Some(_) => Err(ApiError::violations(violations)),
        None => {
            violations.push(Violation::new(field, "must be set"));
            Err(ApiError::violations(violations))
        }
    }
}

fn violation(field: &str, message: &str) -> Status {
    status::of(ApiError::violations(vec![Violation::new(field, message)]))
}
