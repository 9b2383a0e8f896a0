//! Executions on Temporal, against a real dev server: a Program that does what a list says, and a ledger in memory that
//! follows as the engine does.

mod books;
mod lab;
mod script;

mod ledger;
mod limits;
mod renew;
mod replay;
mod run;
mod shared;
mod signals;
