//! Caching: answers kept for as long as they may be, and never loaded twice at a time.
//!
//! | part | file | what |
//! |---|---|---|
//! | [`Lifetime`], [`Early`] | `lifetime.rs` | how a kept answer stands: fresh, to be refreshed early, stale but usable, gone |
//! | [`Store`] | `store.rs` | where answers are kept: bounded in entries and bytes, S3-FIFO |
//! | [`ReadThrough`] | `read_through.rs` | store and single flight around any load |
//! | [`ResponseCache`] | `response.rs`, `rules.rs`, `directives.rs` | HTTP responses by the rules of RFC 9111 and RFC 5861 |
//!
//! ```text
//!             stored      fresh_for                 + stale_for          + on_error_for
//!               |------------|---------------------------|---------------------|------>
//!   a reader gets:   it     (early refresh)   it, and a refresh     a load; it, if that fails      a load
//!                                  ^ now and then, the more likely the nearer the end
//! ```
//!
//! The invariant: an answer is never served beyond what it was stored for, whatever evicts, refreshes or fails.

mod directives;
mod lifetime;
mod read_through;
mod response;
mod rules;
mod store;

pub use directives::Directives;
pub use lifetime::{Early, Lifetime, Standing};
pub use read_through::{Freshness, Loaded, Missed, ReadThrough, ReadThroughSettings, Served};
pub use response::{
    CacheSettings, Hit, Lookup, RequestHead, ResponseCache, ResponseHead, Stored, Times,
    Uncacheable, VARIANTS_MAX,
};
pub use store::{Store, StoreBounds};
