//! outrigger.
