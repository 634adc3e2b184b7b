//! Places by DNS, with TTLs obeyed.
//!
//! The system's own resolver hides how long an answer holds, and knows no SRV; so this is a resolver of our own, of the
//! smallest kind: a stub. It asks the servers of `/etc/resolv.conf`, which do the real work, and reads their answers.
//!
//! | file | what |
//! |---|---|
//! | `settings.rs` | servers, search list and hosts as the system has them |
//! | `message.rs` | questions and answers as bytes |
//! | `client.rs` | asks: UDP, and TCP for what does not fit; each server in turn, twice |
//! | `source.rs` | [`DnsSource`]: addresses or services as places |
//!
//! **What it can**: A, AAAA, SRV, aliases (CNAME), EDNS, search lists with `ndots`, `/etc/hosts`. **What it is not**: a
//! recursive or validating resolver, nor a cache; the answers are kept by [`super::Discovery`].
//!
//! Guessing an answer takes the question's 16 random bits and the port of a socket made for this one question, from the
//! address of the server; whatever does not fit is passed over. Everything in an answer is bounded: names to 255 bytes and
//! 32 hops, records to 1,024, aliases to 16.
//!
//! Sources: RFC 1035, 2782 (SRV), 2308 (negative answers), 6891 (EDNS).

mod client;
mod message;
mod settings;
mod source;

pub use client::{DnsClient, DnsFailure, Records};
pub use message::Service;
pub use settings::DnsSettings;
pub use source::DnsSource;
