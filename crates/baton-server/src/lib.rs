//! The server: one application layer under REST and gRPC, joined to the engine and the store.

pub mod app;
mod errors;
mod grpc;
mod rest;
mod serve;
