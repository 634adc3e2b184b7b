//! outrigger-state.
