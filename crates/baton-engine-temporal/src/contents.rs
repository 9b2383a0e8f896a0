//! Content by digest, as a worker needs it: kept in memory, else asked from the ledger.
//!
//! Workflow code may not wait for anything but Temporal. Content never changes once it has a digest, so reading it is as
//! deterministic as reading a constant: a workflow that misses some **blocks its thread** until a runtime of this module's
//! own has fetched it. The activities of a worker put here what its workflows are about to ask for, so that this is rare: after
//! a start of the worker, or when an execution has moved here.
//!
//! # Invariants
//! - What is given for a digest has that digest.
//! - At most [`KEPT_BYTES_MAX`] are kept, but for a single content that is longer.
//!
//! # Failure
//! A fetch that fails or takes longer than [`FETCH_TIME_MAX`] is an error for the caller, who tries again later.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError, mpsc::channel},
    thread,
    time::Duration,
};

use baton_engine::{Ledger, chain};
use baton_types::Digest;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt as _};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// Content that is kept in memory, in bytes.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Longest that one content may take to come.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);

type Fetched = Result<Bytes, String>;

/// Content by digest.
pub(crate) struct Contents {
    kept: Mutex<Kept>,
    ledger: Arc<dyn Ledger>,
    work: UnboundedSender<BoxFuture<'static, ()>>,
}

#[derive(Default)]
struct Kept {
    by_digest: HashMap<Digest, (u64, Bytes)>,
    by_use: BTreeMap<u64, Digest>,
    uses: u64,
    bytes: usize,
}

impl Contents {
    /// Content of a ledger.
    ///
    /// # Errors
    /// If the system has no thread to give.
    pub(crate) fn new(ledger: Arc<dyn Ledger>) -> std::io::Result<Self> {
        let (work, asked) = unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        thread::Builder::new().name("baton-contents".to_owned()).spawn(move || runtime.block_on(serve(asked)))?;
        Ok(Self { kept: Mutex::default(), ledger, work })
    }

    /// Has something done that nobody in a workflow waits for.
    pub(crate) fn aside(&self, work: impl Future<Output = ()> + Send + 'static) {
        if self.work.send(work.boxed()).is_err() {
            tracing::debug!("the worker is about to stop");
        }
    }

    /// Keeps content for whoever asks next.
    pub(crate) fn put(&self, digest: Digest, content: Bytes) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).put(digest, content);
    }

    /// Content, if it is kept.
    pub(crate) fn kept(&self, digest: &Digest) -> Option<Bytes> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(digest)
    }

    /// Content, for workflow code: blocks the thread if it is not kept.
    ///
    /// # Errors
    /// Why it cannot be had now.
    pub(crate) fn get(&self, digest: &Digest) -> Fetched {
        if let Some(content) = self.kept(digest) {
            return Ok(content);
        }
        let (reply, answer) = channel();
        let (ledger, wanted) = (Arc::clone(&self.ledger), *digest);
        self.aside(async move {
            let _gone = reply.send(fetch(ledger.as_ref(), wanted).await);
        });
        let content = answer
            .recv_timeout(2 * FETCH_TIME_MAX)
            .map_err(|error| format!("content {digest} did not come: {error}"))??;
        self.put(*digest, content.clone());
        Ok(content)
    }
}

impl Kept {
    fn get(&mut self, digest: &Digest) -> Option<Bytes> {
        let (used, content) = self.by_digest.get_mut(digest)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *digest);
        Some(content.clone())
    }

    fn put(&mut self, digest: Digest, content: Bytes) {
        if self.get(&digest).is_some() {
            return;
        }
        self.uses += 1;
        self.bytes += content.len();
        self.by_use.insert(self.uses, digest);
        self.by_digest.insert(digest, (self.uses, content));
        while self.bytes > KEPT_BYTES_MAX && self.by_digest.len() > 1 {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.bytes -= self.by_digest.remove(&oldest).map_or(0, |(_, content)| content.len());
        }
    }
}

/// Does what is asked for, until nobody can ask any more.
async fn serve(mut asked: UnboundedReceiver<BoxFuture<'static, ()>>) {
    while let Some(work) = asked.recv().await {
        tokio::spawn(work);
    }
}

/// Content as the ledger has it.
///
/// # Errors
/// Why it cannot be had now.
pub(crate) async fn fetch(ledger: &dyn Ledger, digest: Digest) -> Fetched {
    let content = match tokio::time::timeout(FETCH_TIME_MAX, ledger.content(digest)).await {
        Ok(Ok(Some(content))) => content,
        Ok(Ok(None)) => return Err(format!("content {digest} is not in the store")),
        Ok(Err(error)) => return Err(format!("content {digest} cannot be read: {}", chain(&error))),
        Err(_elapsed) => return Err(format!("content {digest} did not come within {} s", FETCH_TIME_MAX.as_secs())),
    };
    if Digest::of(&content) == digest {
        Ok(content)
    } else {
        Err(format!("what was given for content {digest} has another digest"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut kept = Kept::default();
        let content = |letter: u8| Bytes::from(vec![letter; KEPT_BYTES_MAX / 2]);
        let digests = [b'a', b'b', b'c'].map(|letter| (letter, Digest::of(&content(letter))));
        for (letter, digest) in &digests[..2] {
            kept.put(*digest, content(*letter));
        }
        assert!(kept.get(&digests[0].1).is_some(), "both have room");
        kept.put(digests[2].1, content(b'c'));
        let there: Vec<bool> = digests.iter().map(|(_, digest)| kept.get(digest).is_some()).collect();
        assert_eq!(there, [true, false, true]);
        assert!(kept.bytes <= KEPT_BYTES_MAX);
    }
}
