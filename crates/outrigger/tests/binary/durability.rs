//! What was answered is there after `kill -9`.

use crate::harness::{Place, get, set};
use nix::sys::signal::Signal;

#[test]
fn state_survives_a_kill_at_any_moment() {
    let place = Place::new();
    let mut written = 0;
    for _ in 0..3 {
        let (running, port) = place.sidecar(&["--data-dir", "data"]);
        for number in 0..written {
            assert_eq!(get(port, &format!("k{number}")), number.to_string());
        }
        for _ in 0..20 {
            assert_eq!(set(port, &format!("k{written}"), &written.to_string()), 204);
            written += 1;
        }
        running.signal(Signal::SIGKILL);
        assert_eq!(running.end().0, 128 + 9);
    }
}

#[test]
fn nothing_is_kept_when_nothing_shall_be() {
    let place = Place::new();
    let (running, port) = place.sidecar(&["--ephemeral"]);
    assert_eq!(set(port, "k", "1"), 204);
    running.stop();
    let (_running, port) = place.sidecar(&["--ephemeral"]);
    assert_eq!(get(port, "k"), "");
    assert!(!place.path().join(".local/share/outrigger").exists());
}
