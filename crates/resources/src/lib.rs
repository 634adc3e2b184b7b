//! outrigger-resources.
