//! outrigger-resilience.
