//! Tests of the store as a whole, over the memory engine and a simulated world.
