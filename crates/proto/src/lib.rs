//! # Proto: the words of the wire, in Rust
//!
//! Messages, clients and servers generated from the `.proto` files beside this one. The field numbers are those that
//! the Dapr SDKs speak; comments and wording are ours.
//!
//! The invariant: a number, once used, keeps its meaning. Adding a message or a method here changes no byte that
//! existed before.
//!
//! What it is not: a place for logic. What the messages mean is decided in `outrigger-api`.
#![forbid(unsafe_code)]

/// What requests and callbacks have in common.
pub mod common {
    /// Package `dapr.proto.common.v1`.
    pub mod v1 {
        tonic::include_proto!("dapr.proto.common.v1");
    }
}

/// The API towards applications, and the callbacks into them.
pub mod runtime {
    /// Package `dapr.proto.runtime.v1`.
    #[expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::large_enum_variant,
        clippy::too_many_lines,
        reason = "generated code"
    )]
    pub mod v1 {
        tonic::include_proto!("dapr.proto.runtime.v1");
    }
}

/// Package `google.rpc`: rich statuses and what stands in their details.
pub mod rpc {
    tonic::include_proto!("google.rpc");
}

/// Every file above as an encoded `FileDescriptorSet`, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
