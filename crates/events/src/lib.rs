//! outrigger-events.
