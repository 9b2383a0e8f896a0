//! A ledger in memory that follows executions as the engine does: it keeps their events, checks their numbers, and makes
//! with an execution of its own what the workflow makes. It can be told to misbehave.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use baton_engine::{Execution, HostedStart, HostedTask, Ledger, Pinned, Report, Reported, Step};
use baton_execution::{
    ActivityTask, Command, Emitter, Ending, HistoryEvent, HistoryEventKind, Input, OperationId, Origin, ProgramKind,
    Start,
};
use baton_proto::{DataLoader, decode_event, encode_event, history_v1};
use baton_types::{ApiError, Digest, ErrorKind, Uid};
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Notify;

use crate::script::{Do, Scripts, definition};

/// Longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_mins(1);

#[derive(Default)]
pub(crate) struct Books {
    kept: Mutex<Kept>,
    changed: Notify,
}

#[derive(Default)]
struct Kept {
    contents: HashMap<Digest, Bytes>,
    books: BTreeMap<Uid, Book>,
    /// Answers "unavailable".
    down: bool,
    /// Calls that were answered so.
    refused: usize,
    /// Bytes of the events of the largest report.
    report_bytes_max: usize,
    made: u8,
}

/// One execution.
struct Book {
    events: Vec<HistoryEvent>,
    execution: Execution,
    /// Somebody ended it at the server.
    closed: bool,
    /// Reports whose step is recorded at another time, as if an earlier attempt of the task had reported it.
    overtaken: usize,
    /// Reports that are taken, and whose answer is lost.
    answers_lost: usize,
    /// The result that is recorded for the next activity whose task is asked for, instead of running it.
    skips: Option<Value>,
    divergences: usize,
    runs: Vec<String>,
}

struct Contents<'a>(&'a HashMap<Digest, Bytes>);

impl DataLoader for Contents<'_> {
    fn load(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.0.get(digest).map(|content| content.to_vec())
    }
}

impl Book {
    fn pinned(definition: &[u8]) -> Pinned<'_> {
        Pinned { kind: ProgramKind::Workflow, digest: Digest::of(definition), definition }
    }

    fn state(&self) -> Vec<u8> {
        self.execution.snapshot().expect("an execution can be written down")
    }

    /// Takes the inputs of a step, at another time.
    fn overtake(&mut self, events: &[HistoryEvent]) {
        for event in events {
            if let HistoryEventKind::Input(input) = &event.kind {
                let mut step = Step::default();
                self.execution.feed(input.clone(), event.time_ms - 1, &mut step).expect("it can be fed");
                self.events.extend(step.events);
            }
        }
    }
}

impl Books {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that is waited for may have come about elsewhere.
    pub(crate) fn look_again(&self) {
        self.changed.notify_waiters();
    }

    /// The installation: no other books are at this place.
    fn name(&self) -> String {
        format!("books at {:p}", std::ptr::from_ref(self))
    }

    /// Opens a book, and gives what the host is to be told.
    pub(crate) fn open(&self, name: &str, list: &[Do], input: Value) -> HostedStart {
        let mut kept = self.kept();
        kept.made += 1;
        let mut bytes: [u8; 16] =
            Digest::of(name.as_bytes()).as_bytes()[..16].try_into().expect("sixteen of thirty-two");
        bytes[15] = kept.made;
        let uid = Uid::from_bytes(bytes);
        let definition = definition(list);
        let digest = Digest::of(&definition);
        kept.contents.insert(digest, definition.clone().into());
        let execution = Execution::new(&Scripts, &Book::pinned(&definition)).expect("the list can be loaded");
        let start = Input::Started(Start {
            uid,
            namespace: "default".to_owned(),
            name: name.to_owned(),
            input,
            env: BTreeMap::new(),
            settings: Value::Null,
            grant: None,
            carried_over: Value::Null,
        });
        let mut long = Vec::new();
        let started =
            encode_event(&HistoryEvent { number: 0, time_ms: 0, kind: HistoryEventKind::Input(start) }, &mut long);
        kept.contents.extend(long.into_iter().map(|(digest, content)| (digest, content.into())));
        let book = Book {
            events: Vec::new(),
            execution,
            closed: false,
            overtaken: 0,
            answers_lost: 0,
            skips: None,
            divergences: 0,
            runs: Vec::new(),
        };
        kept.books.insert(uid, book);
        HostedStart {
            installation: self.name(),
            uid,
            kind: ProgramKind::Workflow,
            namespace: "default".to_owned(),
            name: name.to_owned(),
            digest,
            started,
            suspended: false,
            deadline_ms: None,
        }
    }

    pub(crate) fn put(&self, digest: Digest, content: Bytes) {
        self.kept().contents.insert(digest, content);
    }

    fn with<T>(&self, uid: Uid, change: impl FnOnce(&mut Book) -> T) -> T {
        change(self.kept().books.get_mut(&uid).expect("the book was opened"))
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.kept().down = down;
        self.look_again();
    }

    pub(crate) fn refused(&self) -> usize {
        self.kept().refused
    }

    pub(crate) fn overtake_next(&self, uid: Uid, reports: usize) {
        self.with(uid, |book| book.overtaken = reports);
    }

    pub(crate) fn lose_answers(&self, uid: Uid, answers: usize) {
        self.with(uid, |book| book.answers_lost = answers);
    }

    pub(crate) fn skip_when_asked(&self, uid: Uid, output: Value) {
        self.with(uid, |book| book.skips = Some(output));
    }

    /// Nothing is known of an execution any more.
    pub(crate) fn forget(&self, start: &HostedStart) {
        let mut kept = self.kept();
        kept.books.remove(&start.uid);
        kept.contents.remove(&start.digest);
    }

    pub(crate) fn report_bytes_max(&self) -> usize {
        self.kept().report_bytes_max
    }

    pub(crate) fn close(&self, uid: Uid) {
        self.with(uid, |book| book.closed = true);
    }

    pub(crate) fn divergences(&self, uid: Uid) -> usize {
        self.with(uid, |book| book.divergences)
    }

    /// The runs that have reported, in their order.
    pub(crate) fn runs(&self, uid: Uid) -> Vec<String> {
        self.with(uid, |book| book.runs.clone())
    }

    pub(crate) fn events(&self, uid: Uid) -> Vec<HistoryEvent> {
        self.with(uid, |book| book.events.clone())
    }

    /// How often an input of this kind stands in the history.
    pub(crate) fn inputs(&self, uid: Uid, is: impl Fn(&Input) -> bool) -> usize {
        let input = |event: &HistoryEvent| matches!(&event.kind, HistoryEventKind::Input(input) if is(input));
        self.with(uid, |book| book.events.iter().filter(|event| input(event)).count())
    }

    /// Waits until it is so.
    pub(crate) async fn until<T>(&self, what: &str, ask: impl FnMut(&Self) -> Option<T>) -> T {
        self.until_within(PATIENCE, what, ask).await
    }

    /// The same with another limit.
    pub(crate) async fn until_within<T>(
        &self,
        patience: Duration,
        what: &str,
        mut ask: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                if let Some(value) = ask(self) {
                    return value;
                }
                changed.await;
            }
        };
        let came = tokio::time::timeout(patience, wait).await;
        came.unwrap_or_else(|_elapsed| panic!("it did not come to this: {what}"))
    }

    fn end(&self, uid: Uid) -> Option<Ending> {
        match self.events(uid).pop().map(|event| event.kind) {
            Some(HistoryEventKind::Command(Command::End(ending))) => Some(ending),
            _ => None,
        }
    }

    /// The output, if it has completed.
    pub(crate) fn completed(&self, uid: Uid) -> Option<Value> {
        match self.end(uid)? {
            Ending::Completed { output } => Some(output),
            other => panic!("it ended as {other:?}"),
        }
    }

    /// Waits for the end.
    pub(crate) async fn ending(&self, uid: Uid) -> Ending {
        self.until("the execution ends", |books| books.end(uid)).await
    }

    /// Waits for the output.
    pub(crate) async fn output(&self, uid: Uid) -> Value {
        self.until("the execution ends", |books| books.completed(uid)).await
    }

    pub(crate) fn is_open(&self, uid: Uid, position: &str) -> bool {
        let is = |id: &OperationId| id.position == position;
        self.with(uid, |book| {
            let open = &book.execution.open;
            open.activities.keys().any(is) || open.timers.keys().any(is) || open.waits.keys().any(is)
        })
    }

    /// Waits until something is open.
    pub(crate) async fn opened(&self, uid: Uid, position: &str) {
        self.until("it is open", |books| books.is_open(uid, position).then_some(())).await;
    }
}

fn unavailable() -> ApiError {
    ApiError::new(ErrorKind::Unavailable, "STORE_UNAVAILABLE", "the books are closed for now")
}

impl Kept {
    fn refuse(&mut self) -> Result<(), ApiError> {
        if self.down {
            self.refused += 1;
            return Err(unavailable());
        }
        Ok(())
    }

    fn report(&mut self, report: Report) -> Result<Reported, ApiError> {
        self.refuse()?;
        let bytes = report.events.iter().map(prost::Message::encoded_len).sum();
        self.report_bytes_max = self.report_bytes_max.max(bytes);
        for (digest, content) in &report.contents {
            assert_eq!(Digest::of(content), *digest, "content has its digest");
        }
        self.contents.extend(report.contents);
        let Self { contents, books, .. } = self;
        let Some(book) = books.get_mut(&report.uid) else { return Ok(Reported::Closed) };
        if book.runs.last() != Some(&report.run.run_id) {
            book.runs.push(report.run.run_id);
        }
        if book.closed {
            return Ok(Reported::Closed);
        }
        let decoded: Result<Vec<HistoryEvent>, _> = report
            .events
            .iter()
            .map(|event: &history_v1::HistoryEvent| decode_event(event, &Contents(contents)))
            .collect();
        let events = decoded.map_err(|error| ApiError::new(ErrorKind::InvalidArgument, "EVENT", error.to_string()))?;
        if book.overtaken > 0 && !events.is_empty() {
            book.overtaken -= 1;
            book.overtake(&events);
        }
        let first =
            events.first().map_or(book.events.len() + 1, |event| usize::try_from(event.number).expect("from 1"));
        let known = book.events.get(first - 1..).unwrap_or_default();
        let repeated = !events.is_empty() && known.starts_with(&events);
        if !repeated && !known.is_empty() {
            book.divergences += 1;
            if book.execution.ended {
                return Ok(Reported::Closed);
            }
            let state = book.state();
            let digest = Digest::of(&state);
            contents.insert(digest, state.into());
            return Ok(Reported::Diverged { state: digest });
        }
        if !repeated {
            if book.execution.ended {
                return Ok(Reported::Closed);
            }
            assert_eq!(first, book.events.len() + 1, "no event is left out");
            book.execution
                .replay(events.clone())
                .map_err(|error| ApiError::new(ErrorKind::InvalidArgument, "EVENT", error.to_string()))?;
            book.events.extend(events);
        }
        if book.answers_lost > 0 {
            book.answers_lost -= 1;
            return Err(unavailable());
        }
        let state = report.want_state.then(|| book.state());
        Ok(Reported::Taken {
            state: state.map(|state| {
                let digest = Digest::of(&state);
                contents.insert(digest, state.into());
                digest
            }),
        })
    }
}

#[async_trait]
impl Ledger for Books {
    async fn installation(&self) -> Result<String, ApiError> {
        self.kept().refuse()?;
        Ok(self.name())
    }

    async fn report(&self, report: Report) -> Result<Reported, ApiError> {
        let reported = self.kept().report(report);
        self.look_again();
        reported
    }

    async fn task(&self, uid: Uid, id: OperationId) -> Result<Option<HostedTask>, ApiError> {
        let mut kept = self.kept();
        kept.refuse()?;
        let Some(book) = kept.books.get_mut(&uid).filter(|book| !book.closed) else { return Ok(None) };
        if let Some(output) = book.skips.take() {
            let kind = HistoryEventKind::Input(Input::ActivityCompleted { id: id.clone(), output });
            book.overtake(&[HistoryEvent { number: 0, time_ms: 1, kind }]);
        }
        let Some(activity) = book.execution.open.activities.get(&id) else { return Ok(None) };
        let task = ActivityTask {
            execution: uid,
            namespace: "default".to_owned(),
            name: "test".to_owned(),
            idempotency_key: format!("{uid}/{id}"),
            id,
            activity: activity.activity.clone(),
            input: activity.input.clone(),
            start_to_close_ms: activity.start_to_close_ms,
            emitter: Emitter::default(),
            origin: Origin::default(),
        };
        Ok(Some(HostedTask { task, token: None }))
    }

    async fn content(&self, digest: Digest) -> Result<Option<Bytes>, ApiError> {
        let mut kept = self.kept();
        kept.refuse()?;
        Ok(kept.contents.get(&digest).cloned())
    }

    async fn keep(&self, uid: Uid, content: Bytes) -> Result<Digest, ApiError> {
        let mut kept = self.kept();
        kept.refuse()?;
        if !kept.books.contains_key(&uid) {
            return Err(ApiError::new(ErrorKind::NotFound, "NOT_FOUND", "there is no such execution"));
        }
        let digest = Digest::of(&content);
        kept.contents.insert(digest, content);
        Ok(digest)
    }
}
