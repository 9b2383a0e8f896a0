//! Generates the resource types, their JSON mapping and the services from `proto/`, with no `protoc` needed.

use std::{env, fs, io, path::PathBuf};

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
        .build(&[".baton"])
}
