//! The crate from outside: specs that are checked, and runs that are driven input by input.

mod definition;
mod http_tool;
mod limits;
mod run;
mod support;
mod tools;
