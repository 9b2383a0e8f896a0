//! Live progress of an execution and of those it starts, built from their histories.
//!
//! [`Progress`] is the picture: histories in, no IO, no clock. [`render`] makes lines of it. [`Watcher`] follows the
//! histories. [`View`] shows it: redrawn in place on a terminal, line after line elsewhere.

mod label;
mod model;
mod render;
mod view;
mod watcher;

pub(crate) use model::{Effect, ExecutionKey, Progress};
pub(crate) use view::View;
pub(crate) use watcher::{Update, Watcher};

#[cfg(test)]
mod tests;
