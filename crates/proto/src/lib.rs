//! outrigger-proto.
