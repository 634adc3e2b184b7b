//! `sidecar`, under its own name and the other one.

use crate::harness::{Place, free_port, get, http, set, stdout};
use std::os::unix::process::CommandExt;

#[test]
fn one_write_and_one_read() {
    let place = Place::new();
    let (running, port) = place.sidecar(&["--data-dir", "data"]);
    assert_eq!(set(port, "k", r#"{"v":1}"#), 204);
    assert_eq!(get(port, "k"), r#"{"v":1}"#);
    assert_eq!(http(port, "GET", "/v1.0/healthz", "").status, 204);
    let (code, said) = running.stop();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Daprd shutdown gracefully"), "{said}");
}

#[test]
fn all_flags_of_the_reference_with_one_dash_or_two() {
    let place = Place::new();
    let port = free_port().to_string();
    let mut command = place.command(&[
        "-app-id",
        "a",
        "-dapr-http-port",
        &port,
        "--dapr-grpc-port=0",
        "-metrics-port=0",
        "--enable-metrics=true",
        "--dapr-internal-grpc-port",
        "0",
        "--dapr-internal-grpc-listen-address",
        "127.0.0.1",
        "--dapr-listen-addresses",
        "127.0.0.1",
        "--profile-port",
        "0",
        "--enable-profiling=false",
        "--mode",
        "standalone",
        "--placement-host-address",
        "localhost:50005",
        "--scheduler-host-address",
        "localhost:50006",
        "--scheduler-job-streams",
        "3",
        "--actors-disseminate-timeout",
        "30s",
        "--control-plane-address",
        "",
        "--control-plane-namespace",
        "x",
        "--control-plane-trust-domain",
        "localhost",
        "--sentry-address",
        "",
        "--enable-mtls=false",
        "--max-body-size",
        "4Mi",
        "--read-buffer-size",
        "4Ki",
        "--dapr-graceful-shutdown-seconds",
        "5",
        "--dapr-block-shutdown-duration",
        "0s",
        "--enable-api-logging",
        "--allowed-origins",
        "*",
        "--app-health-check-path",
        "/healthz",
        "--app-health-probe-interval",
        "5",
        "--app-health-probe-timeout",
        "500",
        "--app-health-threshold",
        "3",
        "--disable-init-endpoints",
        "config,subscribe",
        "--disable-builtin-k8s-secret-store",
        "--hot-reload-reconcile-interval",
        "60s",
        "--app-binding-options-timeout",
        "2s",
        "--log-level",
        "debug",
        "--app-max-concurrency",
        "-1",
        "--app-protocol",
        "http",
        "--app-channel-address",
        "127.0.0.1",
        "--actors-service",
        "",
        "--reminders-service",
        "",
        "--dapr-http-max-request-size",
        "-1",
        "--dapr-http-read-buffer-size",
        "-1",
        "--ephemeral",
    ]);
    command.arg0("/usr/local/bin/daprd");
    let mut running = crate::harness::start(command);
    running.until(&format!("HTTP server is running on port {port}"));
    let line = running.until("dapr initialized. Status: Running. Init Elapsed ");
    for key in
        ["time=", "level=info", "app_id=a", "instance=", "scope=dapr.runtime", "type=log", "ver="]
    {
        assert!(line.contains(key), "{key} in {line}");
    }
}

#[test]
fn json_logs_have_the_keys_that_collectors_know() {
    let place = Place::new();
    let port = free_port().to_string();
    let mut running = place.start(&[
        "sidecar",
        "--app-id",
        "a",
        "--dapr-http-port",
        &port,
        "--dapr-grpc-port",
        "0",
        "--metrics-port",
        "0",
        "--log-as-json",
        "--ephemeral",
    ]);
    let line = running.until("dapr initialized");
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    for key in ["time", "level", "msg", "scope", "app_id", "instance", "type", "ver"] {
        assert!(line[key].is_string(), "{key} in {line}");
    }
}

#[test]
fn version_and_wait() {
    let place = Place::new();
    let output = place.output(&["sidecar", "--version"]);
    assert_eq!(stdout(&output).trim(), env!("CARGO_PKG_VERSION"));
    let (_running, port) = place.sidecar(&["--ephemeral"]);
    let output = place.output(&["sidecar", "--wait", "--dapr-http-port", &port.to_string()]);
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_shutdown_api_drains_and_ends() {
    let place = Place::new();
    let (running, port) = place.sidecar(&["--ephemeral"]);
    assert_eq!(http(port, "POST", "/v1.0/shutdown", "").status, 204);
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("Shutdown requested via API"), "{said}");
}
