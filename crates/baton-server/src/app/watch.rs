//! Watch: every change of a kind after a revision, in order, none missing.
//!
//! # Invariants
//! - Without a revision, the present state comes first as `ADDED`; a change that its pages show already is not told again.
//! - With a selector, an object that stops matching is `DELETED` (its old state, the change's revision), one that starts
//!   matching is `ADDED`.
//!
//! # Failure
//! A position that is no longer kept ends the stream with Gone: list again. A damaged change is logged and left out.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use baton_proto::v1;
use baton_store::{Change, ChangeKind, Store, StoreError, Watch, WatchError};
use baton_types::{ApiError, Violation};
use bytes::Bytes;
use futures::Stream;

use super::{App, ServedResource, WatchItem, WatchKind, error, read, selector::Selector};

/// How often a watch that asks for it is told how far it has come.
const BOOKMARK_PERIOD: Duration = Duration::from_mins(1);
/// Rows read at once for the present state.
const PAGE_ROWS: usize = 200;

/// What is watched.
struct Scope {
    namespace: Option<String>,
    selector: Selector,
}

struct Watching<R> {
    app: App,
    scope: Arc<Scope>,
    stage: Stage,
    ready: VecDeque<WatchItem<R>>,
    bookmarks: Option<tokio::time::Interval>,
    /// Objects that the pages of the present state show at a later revision than the watch begins at.
    shown: HashMap<[u8; 16], u64>,
}

enum Stage {
    /// Reading the present state, from this place on.
    Listing {
        after: Option<(String, String)>,
        from: Option<u64>,
    },
    Following(Watch),
    Over,
}

impl App {
    /// Follows the objects of a kind. With `bookmarks`, tells about once a minute how far it has come.
    ///
    /// Without a revision the present state is read when the stream is first polled, not before.
    ///
    /// # Errors
    /// InvalidArgument for a selector or a revision that is none; Gone (also within the stream) for a revision that is
    /// not kept any more. An error ends the stream.
    pub async fn watch<R: ServedResource>(
        &self,
        request: &v1::WatchRequest,
        bookmarks: bool,
    ) -> Result<impl Stream<Item = Result<WatchItem<R>, ApiError>> + Send + 'static + use<R>, ApiError> {
        self.follow(request, bookmarks.then_some(BOOKMARK_PERIOD)).await
    }

    async fn follow<R: ServedResource>(
        &self,
        request: &v1::WatchRequest,
        bookmark_period: Option<Duration>,
    ) -> Result<impl Stream<Item = Result<WatchItem<R>, ApiError>> + Send + 'static + use<R>, ApiError> {
        read::check_namespace_filter(&request.namespace)?;
        let selector = Selector::parse::<R>(&request.label_selector, &request.field_selector)?;
        let from = parse_revision(&request.resource_version)?;
        let stage = match from {
            None => Stage::Listing { after: None, from: None },
            Some(from) => Stage::Following(self.begin_watch(R::KIND, from).await?),
        };
        let bookmarks =
            bookmark_period.map(|period| tokio::time::interval_at(tokio::time::Instant::now() + period, period));
        let namespace = (!request.namespace.is_empty()).then(|| request.namespace.clone());
        let scope = Arc::new(Scope { namespace, selector });
        let watching =
            Watching { app: self.clone(), scope, stage, ready: VecDeque::new(), bookmarks, shown: HashMap::new() };
        Ok(futures::stream::unfold(watching, |mut watching: Watching<R>| async move {
            watching.next().await.map(|item| (item, watching))
        }))
    }

    async fn begin_watch(&self, kind: &'static str, from: u64) -> Result<Watch, ApiError> {
        let store = self.store().clone();
        let begun = tokio::task::spawn_blocking(move || store.watch(Some(kind), from)).await;
        begun
            .map_err(|stopped| ApiError::internal(format!("a watch was stopped: {stopped}")))?
            .map_err(|failed| watch_failed(&failed))
    }
}

fn parse_revision(text: &str) -> Result<Option<u64>, ApiError> {
    match text {
        "" | "0" => Ok(None),
        _ => text.parse().map(Some).map_err(|_| {
            ApiError::violations(vec![Violation::new(
                "resourceVersion",
                "must be empty, 0, or the resourceVersion of an object or a list",
            )])
        }),
    }
}

fn watch_failed(failed: &WatchError) -> ApiError {
    match failed {
        WatchError::Gone(gone) => error::gone(gone.to_string()),
        WatchError::Store(failed) => error::read_failed(failed),
    }
}

impl<R: ServedResource> Watching<R> {
    async fn next(&mut self) -> Option<Result<WatchItem<R>, ApiError>> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            if matches!(self.stage, Stage::Over) {
                return None;
            }
            match self.step().await {
                Ok(()) => {}
                Err(failed) => {
                    self.stage = Stage::Over;
                    return Some(Err(failed));
                }
            }
        }
    }

    /// Makes some items ready, or moves to the next stage.
    async fn step(&mut self) -> Result<(), ApiError> {
        match &mut self.stage {
            Stage::Listing { after, from } => {
                let (after, from) = (after.take(), *from);
                self.list_page(after, from).await
            }
            Stage::Following(watch) => {
                let tick = async {
                    match &mut self.bookmarks {
                        Some(bookmarks) => bookmarks.tick().await,
                        None => std::future::pending().await,
                    }
                };
                let batch = tokio::select! {
                    batch = watch.next() => Some(batch),
                    _ = tick => None,
                };
                match batch {
                    Some(Ok(batch)) => self.take(batch.changes).await,
                    Some(Err(WatchError::Store(StoreError::Closed))) => {
                        self.stage = Stage::Over;
                        Ok(())
                    }
                    Some(Err(failed)) => Err(watch_failed(&failed)),
                    None => {
                        let revision = watch.revision();
                        self.ready.push_back(WatchItem { kind: WatchKind::Bookmark, object: bookmark(revision) });
                        Ok(())
                    }
                }
            }
            Stage::Over => Ok(()),
        }
    }

    async fn list_page(&mut self, after: Option<(String, String)>, from: Option<u64>) -> Result<(), ApiError> {
        let page = self.app.page::<R>(self.scope.namespace.clone(), after, &self.scope.selector, PAGE_ROWS).await?;
        let from = from.unwrap_or(page.revision);
        for stored in page.items {
            let Some(object) = read::decode_row::<R>(&stored) else { continue };
            if stored.revision > from {
                self.shown.insert(stored.uid, stored.revision);
            }
            if self.scope.selector.matches(&object) {
                self.ready.push_back(WatchItem { kind: WatchKind::Added, object });
            }
        }
        self.stage = match page.last.filter(|_| page.more) {
            Some(last) => Stage::Listing { after: Some(last), from: Some(from) },
            None => Stage::Following(self.app.begin_watch(R::KIND, from).await?),
        };
        Ok(())
    }

    async fn take(&mut self, mut changes: Vec<Arc<Change>>) -> Result<(), ApiError> {
        changes.retain(|change| {
            let here = self.scope.namespace.as_ref().is_none_or(|namespace| *namespace == change.key.namespace);
            here && self.shown.get(&change.uid).is_none_or(|shown| change.revision > *shown)
        });
        if changes.is_empty() {
            return Ok(());
        }
        if self.scope.selector.is_everything() {
            self.ready.extend(changes.iter().filter_map(|change| plain_item(change)));
            return Ok(());
        }
        let scope = Arc::clone(&self.scope);
        let items = self
            .app
            .read(move |store| {
                changes
                    .iter()
                    .filter_map(|change| selected_item(store, &scope, change).transpose())
                    .collect::<Result<Vec<_>, _>>()
            })
            .await?;
        self.ready.extend(items);
        Ok(())
    }
}

fn bookmark<R: ServedResource>(revision: u64) -> R {
    let mut object = R::default();
    object.set_type_meta();
    object.metadata_mut().resource_version = revision.to_string();
    object
}

fn decode<R: ServedResource>(change: &Change, body: &Bytes) -> Option<R> {
    R::decode_stored(body, change.revision)
        .inspect_err(|failed| tracing::error!(key = %change.key, revision = change.revision, detail = failed.detail, "a change cannot be read and is left out of a watch"))
        .ok()
}

fn plain_item<R: ServedResource>(change: &Change) -> Option<WatchItem<R>> {
    let kind = match change.kind {
        ChangeKind::Added => WatchKind::Added,
        ChangeKind::Modified => WatchKind::Modified,
        ChangeKind::Deleted => WatchKind::Deleted,
    };
    Some(WatchItem { kind, object: decode(change, &change.body)? })
}

/// What a change means to whoever sees only a selection.
fn selected_item<R: ServedResource>(
    store: &Store,
    scope: &Scope,
    change: &Change,
) -> Result<Option<WatchItem<R>>, StoreError> {
    let Some(object) = decode::<R>(change, &change.body) else { return Ok(None) };
    let matches = scope.selector.matches(&object);
    let item = |kind, object| Ok(Some(WatchItem { kind, object }));
    match change.kind {
        ChangeKind::Added if matches => item(WatchKind::Added, object),
        ChangeKind::Deleted if matches => item(WatchKind::Deleted, object),
        ChangeKind::Added | ChangeKind::Deleted => Ok(None),
        ChangeKind::Modified => {
            match store.change_body(change.previous_revision)?.and_then(|body| decode::<R>(change, &body)) {
                // The old state is not kept any more. An event too many is harmless, one too few is not.
                None => item(if matches { WatchKind::Modified } else { WatchKind::Deleted }, object),
                Some(before) => match (scope.selector.matches(&before), matches) {
                    (true, true) => item(WatchKind::Modified, object),
                    (false, true) => item(WatchKind::Added, object),
                    (true, false) => item(WatchKind::Deleted, before),
                    (false, false) => Ok(None),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_engine::Sealer;
    use baton_proto::{Resource as _, v1::Workflow};
    use baton_store::StoreOptions;
    use futures::StreamExt as _;

    use super::*;

    #[tokio::test]
    async fn a_bookmark_says_how_far_the_watch_has_come_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let options = StoreOptions { free_bytes_min: 0, ballast_bytes: 0, ..StoreOptions::default() };
        let app =
            App::new(Store::open(folder.path(), options).unwrap(), Arc::new(Sealer::new(&[1; 32])), 0, Arc::default());
        let revision = app.store().revision();
        let items = app.follow::<Workflow>(&v1::WatchRequest::default(), Some(Duration::from_millis(1))).await.unwrap();
        let items: Vec<_> = items.take(2).map(Result::unwrap).collect().await;
        for item in items {
            assert_eq!((item.kind, item.object.kind.as_str()), (WatchKind::Bookmark, "Workflow"));
            let expected = v1::ObjectMeta { resource_version: revision.to_string(), ..v1::ObjectMeta::default() };
            assert_eq!(item.object.metadata(), Some(&expected));
        }
    }
}
