//! Generates Rust from the `.proto` files, with a compiler written in Rust: nothing needs `protoc`.
//!
//! The descriptor set is written beside the code, because gRPC reflection serves it.

use prost::Message;
use std::{env, error::Error, fs, path::Path};

const FILES: &[&str] = &[
    "dapr/proto/common/v1/common.proto",
    "dapr/proto/runtime/v1/appcallback.proto",
    "dapr/proto/runtime/v1/configuration.proto",
    "dapr/proto/runtime/v1/dapr.proto",
    "dapr/proto/runtime/v1/invoke.proto",
    "dapr/proto/runtime/v1/lock.proto",
    "dapr/proto/runtime/v1/metadata.proto",
    "dapr/proto/runtime/v1/pubsub.proto",
    "dapr/proto/runtime/v1/secret.proto",
    "dapr/proto/runtime/v1/state.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = env::var("OUT_DIR")?;
    fs::write(Path::new(&out).join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // A payload read off the wire stays the buffer it was read into.
        .bytes(".")
        // Maps have one order, so that answers and tests are the same every time.
        .btree_map(".")
        // The transport is hyper, driven by the `api` crate.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
