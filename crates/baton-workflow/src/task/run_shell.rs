//! `run: shell`: a command of a shell, by the activity `shell`.
//!
//! The activity's input is `{"command", "arguments", "environment", "stdin", "return", "await"}`; see
//! [`process`](super::process).

use crate::{
    document::{Builder, Fields},
    task::{
        Kind, Place,
        process::{Head, Part, Process},
    },
};

pub(crate) fn read(builder: &mut Builder, fields: &mut Fields<'_>, _place: &Place) -> Option<Box<dyn Kind>> {
    let mut run = fields.need_object("run", builder)?;
    let head = Head::read(builder, fields, &mut run);
    let mut shell = run.need_object("shell", builder)?;
    shell.need("command", builder);
    run.close(builder);
    let mut part = Part::new(shell, builder);
    part.text("command");
    part.texts("arguments");
    part.map("environment");
    part.text("stdin");
    Some(Process::kind("run shell", "a shell command", head, part.close()))
}
