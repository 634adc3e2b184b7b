//! Deliveries on the memory engine, to real servers on loopback.
