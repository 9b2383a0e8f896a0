//! The threads of a store, and how they end.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::backend::Engine;
use crate::committer;
use crate::error::StoreError;
use crate::postgres::Tail;
use crate::shared::Shared;

/// How often free space is measured and reads over budget are looked for.
const TICK: Duration = Duration::from_millis(500);

/// Threads of a store; joined when the last handle goes.
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    committer: Mutex<Option<Committer>>,
    ticker: Mutex<Option<Ticker>>,
    /// What follows other servers' commits, where there may be others.
    pub(crate) tail: Mutex<Option<Tail>>,
}

impl Handle {
    /// Starts the threads of a store.
    pub(crate) fn start(shared: Arc<Shared>, engine: Box<dyn Engine>) -> Result<Self, StoreError> {
        let committer = spawn_committer(Arc::clone(&shared), engine)?;
        // From here on dropping the handle ends what was started.
        let committer = Mutex::new(Some(committer));
        let handle = Self { shared, committer, ticker: Mutex::new(None), tail: Mutex::new(None) };
        let ticker = spawn_ticker(Arc::clone(&handle.shared))?;
        *handle.ticker.lock().unwrap_or_else(PoisonError::into_inner) = Some(ticker);
        Ok(handle)
    }

    /// Writes what is waiting, ends the threads, closes the files, releases the directory. Does nothing the second time.
    pub(crate) fn close(&self) {
        self.shared.queue.close();
        let engine = join(&self.committer).flatten();
        if let Some(tail) = self.tail.lock().unwrap_or_else(PoisonError::into_inner).take() {
            tail.stop();
        }
        let ticker = self.ticker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = ticker {
            drop(stop);
            join(&Mutex::new(Some(thread)));
        }
        self.shared.end();
        self.shared.reads.close();
        drop(engine);
        self.shared.directory.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

/// What the thread returned; `None` if it was joined before, panicked, or is this one.
fn join<T>(thread: &Mutex<Option<JoinHandle<T>>>) -> Option<T> {
    let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    // The last handle may go in a callback on the committer itself, which then ends on its own.
    if thread.thread().id() == std::thread::current().id() {
        return None;
    }
    thread.join().inspect_err(|_| tracing::error!("a thread of the store panicked")).ok()
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawned<T>(result: std::io::Result<T>, path: &Path) -> Result<T, StoreError> {
    result.map_err(|source| StoreError::Io { operation: "start a thread for", path: path.to_owned(), source })
}

/// The thread gives its engine back when it ends in order.
type Committer = JoinHandle<Option<Box<dyn Engine>>>;

fn spawn_committer(shared: Arc<Shared>, mut engine: Box<dyn Engine>) -> Result<Committer, StoreError> {
    /// Whatever ends the thread, a panic included, must not leave anyone waiting.
    struct Bystander<'s>(&'s Shared);
    impl Drop for Bystander<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                self.0.fail(&Arc::from("the committer panicked"));
            }
        }
    }
    let path = shared.path.clone().unwrap_or_default();
    let body = move || {
        let bystander = Bystander(&shared);
        let outcome = engine.run(&shared.options, &mut |writer| {
            committer::run(&shared, writer);
        });
        drop(bystander);
        match outcome {
            Ok(()) => Some(engine),
            Err(error) => {
                shared.fail(&Arc::from(error.to_string()));
                None
            }
        }
    };
    let thread = std::thread::Builder::new().name("baton-commit".to_owned()).spawn(body);
    spawned(thread, &path)
}

type Ticker = (mpsc::Sender<()>, JoinHandle<()>);

/// Looks after free space, overdue reads and gauges.
fn spawn_ticker(shared: Arc<Shared>) -> Result<Ticker, StoreError> {
    let (stop, stopped) = mpsc::channel::<()>();
    let path = shared.path.clone().unwrap_or_default();
    let thread = std::thread::Builder::new().name("baton-store-tick".to_owned()).spawn(move || {
        while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
            shared.measure_free();
            shared.reads.interrupt_overdue();
            committer::record_gauges(&shared);
        }
    });
    Ok((stop, spawned(thread, &path)?))
}
