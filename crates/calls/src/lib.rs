//! outrigger-calls.
