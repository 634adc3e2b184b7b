//! Free ports on the loopback address.
//!
//! Taken from below the range that the kernel uses for outgoing connections, so that no client's own socket takes a
//! port between the moment it is found free and the moment a server binds it.

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, Ordering},
};

const FIRST: u16 = 11_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// A port that nobody listens on and that this process has not handed out before.
///
/// # Panics
/// When every port of the range is taken.
#[must_use]
pub fn free() -> u16 {
    // Test processes that run side by side begin at different places.
    let offset = std::process::id() % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from((offset + step) % u32::from(COUNT)).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
