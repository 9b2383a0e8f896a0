//! What holds of every engine.

pub mod answers;
pub mod approvals;
pub mod held;
pub mod lifecycle;
pub mod recovery;
