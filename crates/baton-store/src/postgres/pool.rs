//! Sessions for reading, on a runtime of the store's own.
//!
//! The client library is asynchronous and callers may themselves be on an async runtime, where blocking on another is not
//! allowed. So sessions live here, and a caller waits for its answer as for any other thread.
//!
//! # Failure
//! A session that broke is replaced and the question asked again, for [`PATIENCE`]; a read over its budget is interrupted
//! by the server.

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime as PoolRuntime};
use tokio::runtime::{Handle, Runtime};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

use super::address::{Address, GREETING_MAX, Role};
use super::rows::{RowError, collect};
use super::{Class, classify, link};
use crate::error::StoreError;
use crate::model::Rows;
use crate::options::StoreOptions;

/// Sessions at most.
const READERS_MAX: usize = 16;
/// How long a read waits for a server that has just gone away. Callers may be on an async runtime: not long.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(50);
/// Beyond its budget, how much longer the server may take to interrupt a read.
const GRACE: Duration = Duration::from_secs(5);
/// A value on its way to the server.
pub(super) type Param = Box<dyn ToSql + Sync + Send>;

/// The pool of reading sessions; cheap to clone.
#[derive(Clone)]
pub(super) struct Sessions {
    handle: Handle,
    pool: Pool,
    address: Arc<Address>,
    budget: Duration,
}

impl Sessions {
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle.spawn(task);
    }

    /// Asks one question, on another session if one broke.
    pub(super) async fn query(
        &self,
        operation: &'static str,
        sql: Cow<'static, str>,
        params: Vec<Param>,
    ) -> Result<Vec<Row>, StoreError> {
        let begun = Instant::now();
        loop {
            let failed = match self.pool.get().await {
                Ok(session) => match self.ask(&session, &sql, &params).await {
                    Ok(rows) => return Ok(rows),
                    Err(error) => {
                        let lost = error.as_ref().is_none_or(|error| classify(error) == Class::Lost);
                        if lost {
                            drop(Object::take(session));
                        }
                        let failed = match error {
                            Some(source) => StoreError::Postgres { operation, source },
                            None => self.address.unreachable("the server does not answer"),
                        };
                        if !lost {
                            return Err(failed);
                        }
                        failed
                    }
                },
                Err(error) if self.pool.is_closed() => {
                    tracing::debug!(%error, "a read came after the end");
                    return Err(StoreError::Closed);
                }
                Err(error) => self.address.unreachable(error),
            };
            if begun.elapsed() >= PATIENCE {
                return Err(failed);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// `None` for a server that says nothing at all.
    async fn ask(&self, session: &Object, sql: &str, params: &[Param]) -> Result<Vec<Row>, Option<Error>> {
        let answer = async {
            let statement = session.prepare_cached(sql).await?;
            let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect();
            session.query(&statement, &params).await
        };
        match tokio::time::timeout(self.budget + GRACE, answer).await {
            Ok(answer) => answer.map_err(Some),
            Err(_) => Err(None),
        }
    }
}

/// The store's own runtime with the sessions on it.
pub(crate) struct PostgresReads {
    sessions: Sessions,
    runtime: Mutex<Option<Runtime>>,
}

impl PostgresReads {
    pub(super) fn start(address: Arc<Address>, options: &StoreOptions) -> Result<Self, StoreError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("baton-postgres")
            .enable_all()
            .build()
            .map_err(|source| address.unreachable(source))?;
        let config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(address.config(Role::Reader), address.tls(), config);
        let budget = Duration::from_millis(options.read_budget_ms);
        let pool = Pool::builder(manager)
            .max_size(options.readers.clamp(1, READERS_MAX))
            .runtime(PoolRuntime::Tokio1)
            .wait_timeout(Some(budget + GRACE))
            .create_timeout(Some(GREETING_MAX))
            .build()
            .map_err(|error| address.unreachable(error))?;
        let sessions = Sessions { handle: runtime.handle().clone(), pool, address, budget };
        Ok(Self { sessions, runtime: Mutex::new(Some(runtime)) })
    }

    pub(super) fn handle(&self) -> Handle {
        self.sessions.handle.clone()
    }

    pub(super) fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// Runs a task on the store's runtime and waits for it on this thread, whatever runtime this thread belongs to.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        task: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.sessions.spawn(async move { drop(sender.send(task.await)) });
        receiver.recv().unwrap_or(Err(StoreError::Closed))
    }

    pub(super) fn query(
        &self,
        operation: &'static str,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Param>,
    ) -> Result<Vec<Row>, StoreError> {
        let (sessions, sql) = (self.sessions.clone(), sql.into());
        self.wait(async move { sessions.query(operation, sql, params).await })
    }

    pub(super) fn one<T>(
        &self,
        operation: &'static str,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Param>,
        convert: impl FnOnce(&Row) -> Result<T, RowError>,
    ) -> Result<Option<T>, StoreError> {
        let found = self.query(operation, sql, params)?;
        found.first().map(convert).transpose().map_err(|error| error.into_store(operation))
    }

    pub(super) fn many<T>(
        &self,
        operation: &'static str,
        sql: impl Into<Cow<'static, str>>,
        params: Vec<Param>,
        convert: impl Fn(&Row) -> Result<T, RowError>,
    ) -> Result<Rows<T>, StoreError> {
        collect(operation, &self.query(operation, sql, params)?, convert)
    }

    /// Ends all sessions; whoever waits finds the store closed.
    pub(super) fn close_all(&self) {
        self.sessions.pool.close();
        if let Some(runtime) = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take() {
            runtime.shutdown_background();
        }
    }

    /// Asks on a session of its own that no budget bounds.
    pub(super) fn unbounded<T: Send + 'static, F>(
        &self,
        task: impl FnOnce(Client) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>> + Send,
    {
        let address = Arc::clone(&self.sessions.address);
        self.wait(async move {
            let link = link::connect(&address, Role::Tail).await?;
            task(link.client).await
        })
    }
}

impl Drop for PostgresReads {
    fn drop(&mut self) {
        self.close_all();
    }
}
