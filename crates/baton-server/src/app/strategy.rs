//! What differs between kinds: how an object is admitted, changed and removed, and by which fields it is selected.

use baton_execution::ProgramKind;
use baton_proto::{ExecutionResource, Resource};
use baton_store::StoredResource;
use baton_types::ApiError;
use bytes::Bytes;
use serde_json::Value;

use super::{App, DeletedObject, WriteOptions, Written};

/// Makes the wanted object of the present one, or refuses because that one is not what it must be. The wanted object's
/// `metadata.resourceVersion` is that of the present one.
pub type Change<R> = Box<dyn FnOnce(&R) -> Result<R, ApiError> + Send>;

/// A kind of resource that the API serves. Callers use the methods of [`App`], which call these.
pub trait ServedResource: Resource {
    /// Fields that a field selector may name.
    const SELECTABLE_FIELDS: &'static [&'static str];

    /// The value of a field that objects are selected by; `None` for a field that is not one.
    fn field(&self, field: &str) -> Option<String>;

    /// The public object of a stored body, with its `resourceVersion` and without anything secret.
    fn decode_stored(body: &Bytes, revision: u64) -> Result<Self, ApiError>;

    /// Brings a merge patch to a form that loses nothing where the public object does not show all there is.
    fn prepare_patch(_patch: &mut Value) {}

    /// Admits and stores a new object.
    fn admit_new(
        app: &App,
        object: Self,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Written<Self>, ApiError>> + Send;

    /// Admits and stores what `change` makes of the present object, which may be newer than `stored`.
    fn replace(
        app: &App,
        stored: StoredResource,
        change: Change<Self>,
        options: WriteOptions,
    ) -> impl Future<Output = Result<Written<Self>, ApiError>> + Send;

    /// Removes an object, or marks it while finalizers hold it. `expected` is the revision it must be at.
    fn remove(
        app: &App,
        stored: StoredResource,
        expected: Option<u64>,
    ) -> impl Future<Output = Result<DeletedObject<Self>, ApiError>> + Send;
}

/// A kind of resource that is one run of something.
pub trait ExecutionKind: ServedResource {
    /// Which Program it runs.
    const PROGRAM: ProgramKind;
    /// As either kind.
    fn into_execution(self) -> ExecutionResource;
    /// Back from either kind; `None` if it is the other one.
    fn from_execution(execution: ExecutionResource) -> Option<Self>;
}

/// The fields that objects of every kind are selected by.
pub(crate) fn common_field<R: Resource>(object: &R, field: &str) -> Option<String> {
    let metadata = object.metadata();
    match field {
        "metadata.name" => Some(metadata.map(|it| it.name.clone()).unwrap_or_default()),
        "metadata.namespace" => Some(metadata.map(|it| it.namespace.clone()).unwrap_or_default()),
        _ => None,
    }
}
