//! outrigger-engine-local.
