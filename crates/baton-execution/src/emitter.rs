//! What an activity lets be seen while it runs: the words of a model as they come, for whoever looks on.
//!
//! Such values are transient: nothing depends on them, nothing records them, and whoever looks late or from elsewhere may miss
//! them. The result of the activity says everything again.

use std::{fmt, sync::Arc};

use serde_json::Value;

/// Takes transient values of one activity.
pub trait Emit: Send + Sync {
    /// Takes a value that follows those before it.
    fn emit(&self, value: Value);

    /// The activity begins anew: what it has emitted does not count any more.
    fn reset(&self);
}

/// Where one activity emits to; nowhere by default. The activity has ended when the last clone is gone.
#[derive(Clone, Default)]
pub struct Emitter(Option<Arc<dyn Emit>>);

impl Emitter {
    /// One that has a taker.
    pub fn new(taker: impl Emit + 'static) -> Self {
        Self(Some(Arc::new(taker)))
    }

    /// Whether anybody takes what is emitted; if not, nothing needs to be made ready.
    pub fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    /// Emits a value, as the activity documents it.
    pub fn emit(&self, value: Value) {
        if let Some(taker) = &self.0 {
            taker.emit(value);
        }
    }

    /// Says that the activity begins anew. Harmless if nothing was emitted.
    pub fn reset(&self) {
        if let Some(taker) = &self.0 {
            taker.reset();
        }
    }
}

impl fmt::Debug for Emitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Emitter").field(&self.is_taken()).finish()
    }
}
