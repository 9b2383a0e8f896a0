//! Get and list.

use std::sync::Arc;

use baton_proto::v1;
use baton_store::{ListPage, ListQuery, StoredResource};
use baton_types::{ApiError, Violation, check_namespace};

use super::{App, ExecutionKind, ServedResource, error, metadata, selector::Selector};

/// Objects in one answer at most, however many are asked for; the rest follows by `continue`.
const LIST_ITEMS_MAX: usize = 10_000;
/// Bytes of stored objects in one answer at most; at least one object is always given.
const LIST_BYTES_MAX: usize = 32 << 20;
/// Rows read from the store at once.
const PAGE_ROWS: usize = 500;

/// Where a listing goes on: the first page's revision, then namespace and name of the last row looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    /// Opaque to callers; no part of it can hold a `/`.
    fn write(&self) -> String {
        format!("{}/{}/{}", self.revision, self.namespace, self.name)
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, '/');
        let revision = parts.next()?.parse().ok()?;
        Some(Self { revision, namespace: parts.next()?.to_owned(), name: parts.next()?.to_owned() })
    }
}

impl App {
    /// Reads an object.
    ///
    /// # Errors
    /// NotFound, or Internal if it is damaged on disk.
    pub async fn get<R: ServedResource>(&self, namespace: &str, name: &str) -> Result<R, ApiError> {
        let stored = self.stored::<R>(namespace, name).await?;
        R::decode_stored(&stored.body, stored.revision)
    }

    /// The whole output of an execution as JSON text, also where `status.output` is only a reference to it.
    ///
    /// # Errors
    /// NotFound, also while there is no output.
    pub async fn output<R: ExecutionKind>(&self, namespace: &str, name: &str) -> Result<String, ApiError> {
        let uid = self.uid_of::<R>(namespace, name).await?;
        let engine = self.engine()?.clone();
        let read = tokio::task::spawn_blocking(move || engine.output(uid)).await;
        read.map_err(|stopped| ApiError::internal(format!("a read of an output was stopped: {stopped}")))?
    }

    /// Reads a page of the objects of a kind, in order of namespace and name.
    ///
    /// All pages of a listing have the `resourceVersion` of its first page, so a watch from there misses nothing of what
    /// happened while the pages were read.
    ///
    /// # Errors
    /// InvalidArgument for a selector or a limit that is none; Gone for a `continue` that is not or no longer valid.
    pub async fn list<R: ServedResource>(&self, request: &v1::ListRequest) -> Result<(v1::ListMeta, Vec<R>), ApiError> {
        check_namespace_filter(&request.namespace)?;
        let selector = Selector::parse::<R>(&request.label_selector, &request.field_selector)?;
        let limit = usize::try_from(request.limit).map_err(|_| {
            ApiError::violations(vec![Violation::new("limit", format!("is {}, allowed are 0 and more", request.limit))])
        })?;
        let limit = if limit == 0 { LIST_ITEMS_MAX } else { limit.min(LIST_ITEMS_MAX) };
        let from = self.parse_continue(&request.r#continue)?;
        if let (Some(name), false, None) = (selector.equal_field("metadata.name"), request.namespace.is_empty(), &from)
        {
            return self.list_one(&request.namespace, name, &selector).await;
        }
        let namespace = (!request.namespace.is_empty()).then(|| request.namespace.clone());
        self.read_pages(namespace, Arc::new(selector), from, limit).await
    }

    fn parse_continue(&self, text: &str) -> Result<Option<Continue>, ApiError> {
        if text.is_empty() {
            return Ok(None);
        }
        let from = Continue::parse(text).ok_or_else(|| error::gone("the continue token is not one of this server"))?;
        if from.revision < self.store().compacted_revision() || from.revision > self.store().revision() {
            return Err(error::gone(format!("the listing of revision {} is too old to be continued", from.revision)));
        }
        Ok(Some(from))
    }

    /// What `get NAME --watch` asks for: one row, without looking at the others.
    async fn list_one<R: ServedResource>(
        &self,
        namespace: &str,
        name: &str,
        selector: &Selector,
    ) -> Result<(v1::ListMeta, Vec<R>), ApiError> {
        // Read before the object: a change in between is seen again by a watch from here, never missed.
        let revision = self.store().revision();
        let key = baton_store::ResourceKey::new(R::KIND, namespace, name);
        let stored = self.read(move |store| store.get(&key)).await?;
        let revision = stored.as_ref().map_or(revision, |stored| stored.revision.max(revision));
        let object = stored.map(|stored| R::decode_stored(&stored.body, stored.revision)).transpose()?;
        let meta = v1::ListMeta { resource_version: revision.to_string(), r#continue: String::new() };
        Ok((meta, object.into_iter().filter(|object| selector.matches(object)).collect()))
    }

    async fn read_pages<R: ServedResource>(
        &self,
        namespace: Option<String>,
        selector: Arc<Selector>,
        from: Option<Continue>,
        limit: usize,
    ) -> Result<(v1::ListMeta, Vec<R>), ApiError> {
        let (mut objects, mut bytes) = (Vec::new(), 0);
        let mut revision = from.as_ref().map(|from| from.revision);
        let mut after = from.map(|from| (from.namespace, from.name));
        loop {
            let page = self
                .page::<R>(namespace.clone(), after, &selector, PAGE_ROWS.min(limit - objects.len()).max(1))
                .await?;
            let revision = *revision.get_or_insert(page.revision);
            for stored in &page.items {
                let Some(object) = decode_row::<R>(stored) else { continue };
                if selector.matches(&object) {
                    bytes += stored.body.len();
                    objects.push(object);
                }
            }
            let full = objects.len() >= limit || bytes >= LIST_BYTES_MAX;
            let next = page.last.filter(|_| page.more);
            if full || next.is_none() {
                let next = next.map(|(namespace, name)| Continue { revision, namespace, name }.write());
                let meta =
                    v1::ListMeta { resource_version: revision.to_string(), r#continue: next.unwrap_or_default() };
                return Ok((meta, objects));
            }
            after = next;
        }
    }

    /// Rows after a place; damaged ones are left out and logged.
    pub(super) async fn page<R: ServedResource>(
        &self,
        namespace: Option<String>,
        after: Option<(String, String)>,
        selector: &Selector,
        rows: usize,
    ) -> Result<ListPage, ApiError> {
        let query = ListQuery { kind: R::KIND.into(), namespace, after, limit: rows, labels: selector.equal_labels() };
        let page = self.read(move |store| store.list(&query)).await?;
        for row in &page.corrupt {
            tracing::error!(
                kind = R::KIND,
                table = row.table,
                key = row.key,
                "a row is damaged on disk and left out of a list"
            );
        }
        Ok(page)
    }

    /// Every row of a kind, a page at a time, for upkeep.
    pub(crate) async fn rows_of(
        &self,
        kind: &'static str,
        after: Option<(String, String)>,
        rows: usize,
    ) -> Result<(Vec<StoredResource>, Option<(String, String)>), ApiError> {
        let query = ListQuery { after, ..ListQuery::new(kind, rows) };
        let page = self.read(move |store| store.list(&query)).await?;
        Ok((page.items, page.last.filter(|_| page.more)))
    }
}

/// An object of a list; one that cannot be read does not hide the others.
pub(super) fn decode_row<R: ServedResource>(stored: &StoredResource) -> Option<R> {
    R::decode_stored(&stored.body, stored.revision)
        .inspect_err(|failed| tracing::error!(key = %stored.key, detail = failed.detail, "an object cannot be read and is left out of a list"))
        .ok()
}

/// A namespace to select by: empty for all, otherwise one that can exist.
pub(super) fn check_namespace_filter(namespace: &str) -> Result<(), ApiError> {
    if namespace.is_empty() {
        return Ok(());
    }
    check_namespace(namespace).map_err(|message| {
        ApiError::violations(vec![Violation::new(
            "namespace",
            format!("'{}' {message}", metadata::shortened(namespace)),
        )])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_reads_back_and_anything_else_is_refused() {
        let token = Continue { revision: 42, namespace: "n".into(), name: "a.b".into() };
        assert_eq!(Continue::parse(&token.write()), Some(token));
        for bad in ["", "x", "1", "1/n", "-1/n/a", "99999999999999999999/n/a"] {
            assert_eq!(Continue::parse(bad), None, "{bad}");
        }
    }
}
