//! Generates the resource types, their JSON mapping and the services from `proto/`, with no `protoc` needed.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use prost::Message as _;

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(io::Error::other)?).join("../../proto");
    let out = PathBuf::from(env::var("OUT_DIR").map_err(io::Error::other)?);
    let mut files = Vec::new();
    for folder in ["baton/history/v1", "baton/v1"] {
        for entry in fs::read_dir(root.join(folder))? {
            files.push(entry?.path());
        }
    }
    files.sort();
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(&files, [&root]).map_err(io::Error::other)?;
    let bytes = descriptors.encode_to_vec();
    fs::write(out.join("baton.binpb"), &bytes)?;

    tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".google.protobuf.Timestamp", "crate::Timestamp")
        .compile_fds(descriptors)?;
    pbjson_build::Builder::new()
        .register_descriptors(&bytes)?
        .btree_map(["."])
        .extern_path(".google.protobuf.Timestamp", "crate::Timestamp")
        .exclude([".baton.v1.Json", ".baton.history.v1.Data"])
        .ignore_unknown_fields()
        .build(&[".baton"])?;
    worker(&root, &out)?;
    temporal(&root, &out)
}

/// What a worker asks of the server: no part of the public API, so it has descriptors of its own and no JSON mapping.
fn worker(root: &Path, out: &Path) -> io::Result<()> {
    let descriptors = protox::compile([root.join("baton/worker/v1/worker.proto")], [root]).map_err(io::Error::other)?;
    fs::write(out.join("worker.binpb"), descriptors.encode_to_vec())?;
    // In a folder of its own: history events are generated above, and here they would be written as an empty file.
    let folder = out.join("worker");
    fs::create_dir_all(&folder)?;
    tonic_prost_build::configure()
        .out_dir(folder)
        .bytes(".baton.worker.v1")
        .extern_path(".baton.history.v1", "crate::history_v1")
        .compile_fds(descriptors)
}

/// The part of Temporal's API that is answered in its place: no part of ours, so its descriptors are not given out.
fn temporal(root: &Path, out: &Path) -> io::Result<()> {
    let service = root.join("temporal/api/workflowservice/v1/service.proto");
    let descriptors = protox::compile([service], [root]).map_err(io::Error::other)?;
    let folder = out.join("temporal");
    fs::create_dir_all(&folder)?;
    tonic_prost_build::configure().out_dir(folder).btree_map(".").include_file("api.rs").compile_fds(descriptors)
}
