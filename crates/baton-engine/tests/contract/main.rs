//! The callback contract and the promises of the embedded engine, at its boundary.
#![expect(unreachable_pub, missing_docs, reason = "shared by the modules of this test alone")]

mod answers;
mod lifecycle;
mod recovery;
mod support;
