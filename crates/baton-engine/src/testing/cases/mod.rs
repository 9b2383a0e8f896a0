//! What holds of every engine.

pub mod answers;
pub mod lifecycle;
pub mod recovery;
