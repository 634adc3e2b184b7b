//! The end-to-end tests, one binary for fast linking. What each file is about is its head.

mod clients;
