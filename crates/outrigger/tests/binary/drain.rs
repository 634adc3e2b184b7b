//! The end in order: what is under way is finished, what is new is refused, a second signal means now.

use crate::harness::{Place, free_port, http, try_http};
use nix::sys::signal::Signal;

#[test]
fn an_app_may_save_while_it_ends() {
    let place = Place::new();
    let port = free_port().to_string();
    let script = r#"
import os, signal, sys, time, urllib.request
def save(*_):
    body = b'[{"key":"last","value":"words"}]'
    url = 'http://127.0.0.1:%s/v1.0/state/statestore' % os.environ['DAPR_HTTP_PORT']
    request = urllib.request.Request(url, body, {'content-type': 'application/json'})
    print('saved', urllib.request.urlopen(request).status, flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print('up', flush=True)
while True: time.sleep(1)
"#;
    let script = place.file("app.py", script);
    let arguments = crate::run::quiet(
        &port,
        &["--data-dir", "data", "--", "python3", script.to_str().unwrap()],
    );
    let mut running = place.start(&arguments);
    running.until("| up");
    running.signal(Signal::SIGTERM);
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("saved 204"), "{said}");
    let (_running, port) = place.sidecar(&["--data-dir", "data"]);
    assert_eq!(crate::harness::get(port, "last"), "\"words\"");
}

#[test]
fn a_blocked_shutdown_serves_on() {
    let place = Place::new();
    let (mut running, port) =
        place.sidecar(&["--ephemeral", "--dapr-block-shutdown-duration", "2s"]);
    running.signal(Signal::SIGTERM);
    running.until("Blocking graceful shutdown for");
    assert_eq!(http(port, "GET", "/v1.0/healthz", "").status, 500);
    assert_eq!(crate::harness::set(port, "k", "1"), 204);
    assert_eq!(running.end().0, 0);
    assert!(try_http(port, "GET", "/v1.0/healthz", "").is_none());
}

#[test]
fn a_second_signal_means_now() {
    let place = Place::new();
    let (mut running, _) =
        place.sidecar(&["--ephemeral", "--dapr-block-shutdown-duration", "600s"]);
    running.signal(Signal::SIGINT);
    running.until("Blocking graceful shutdown for");
    running.signal(Signal::SIGINT);
    assert_eq!(running.end().0, 130);
}

#[test]
fn an_app_that_ignores_the_request_is_ended() {
    let place = Place::new();
    let port = free_port().to_string();
    let script = "trap '' TERM; echo deaf; while true; do sleep 1; done";
    let arguments =
        ["--ephemeral", "--dapr-graceful-shutdown-seconds", "1", "--", "sh", "-c", script];
    let mut running = place.start(&crate::run::quiet(&port, &arguments));
    running.until("deaf");
    assert_eq!(running.stop().0, 0);
}
