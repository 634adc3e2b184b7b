//! What cannot work is refused with a code, a place and a remedy, and leaves nothing behind.

use crate::harness::{Place, stderr};
use nix::sys::signal::Signal;
use std::{net::TcpListener, os::unix::fs::PermissionsExt};

fn refused(place: &Place, arguments: &[&str]) -> (i32, String) {
    let output = place.output(arguments);
    (output.status.code().unwrap(), stderr(&output))
}

const QUIET: [&str; 4] = ["--dapr-grpc-port", "0", "--metrics-port", "0"];

fn sidecar<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["sidecar", "--app-id", "a"][..], &QUIET[..], more].concat()
}

#[test]
fn a_taken_port() {
    let place = Place::new();
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let (code, said) = refused(&place, &sidecar(&["--dapr-http-port", &port, "--ephemeral"]));
    assert_eq!(code, 1, "{said}");
    for part in ["OUTR-0004", &port, &std::process::id().to_string(), "--dapr-http-port"] {
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn a_data_folder_whose_holder_does_not_answer() {
    let place = Place::new();
    let (running, _) = place.sidecar(&["--data-dir", "data"]);
    running.signal(Signal::SIGSTOP);
    let (code, said) = refused(&place, &sidecar(&["--dapr-http-port", "0", "--data-dir", "data"]));
    running.signal(Signal::SIGCONT);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("OUTR-0006") && said.contains(&running.pid().to_string()), "{said}");
}

#[test]
fn a_data_folder_of_a_newer_version() {
    let place = Place::new();
    let (running, _) = place.sidecar(&["--data-dir", "data"]);
    running.stop();
    let format = place.path().join("data/FORMAT");
    let text = std::fs::read_to_string(&format).unwrap();
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words[1] = "99";
    std::fs::write(&format, words.join(" ")).unwrap();
    let (code, said) = refused(&place, &sidecar(&["--dapr-http-port", "0", "--data-dir", "data"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("OUTR-0007"), "{said}");
}

#[test]
fn a_data_folder_that_cannot_be_written() {
    if nix::unistd::geteuid().is_root() {
        // Permissions do not bind root; a file in the way does.
        let place = Place::new();
        place.file("data", "not a folder");
        let (code, said) =
            refused(&place, &sidecar(&["--dapr-http-port", "0", "--data-dir", "data"]));
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("OUTR-0011") || said.contains("OUTR-0008"), "{said}");
        return;
    }
    let place = Place::new();
    let folder = place.path().join("data");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o500)).unwrap();
    let (code, said) = refused(&place, &sidecar(&["--dapr-http-port", "0", "--data-dir", "data"]));
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("OUTR-0008"), "{said}");
}

const REDIS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata:
  name: statestore
spec:
  type: state.redis
  version: v1
  metadata:
  - name: redisHost
    value: 127.0.0.1:1
";

#[test]
fn a_type_that_is_not_served_yet() {
    let place = Place::new();
    place.file("resources/redis.yaml", REDIS);
    let arguments =
        sidecar(&["--dapr-http-port", "0", "--ephemeral", "--resources-path", "resources"]);
    let (code, said) = refused(&place, &arguments);
    assert_eq!(code, 2, "{said}");
    for part in ["OUTR-0012", "resources/redis.yaml:1", "state.redis", "--components=embedded"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    // The same, left out.
    place.file(
        "resources/redis.yaml",
        &REDIS.replace("version: v1", "version: v1\n  ignoreErrors: true"),
    );
    let (running, _) = place.sidecar(&["--ephemeral", "--resources-path", "resources"]);
    let (_, said) = running.stop();
    assert!(said.contains("left out"), "{said}");
    // The same, embedded.
    place.file("resources/redis.yaml", REDIS);
    let (running, port) =
        place.sidecar(&["--ephemeral", "--resources-path", "resources", "--components=embedded"]);
    assert_eq!(crate::harness::set(port, "k", "1"), 204);
    let (_, said) = running.stop();
    assert!(said.contains("served from the embedded store"), "{said}");
}

#[test]
fn two_components_of_one_name() {
    let place = Place::new();
    place.file("resources/a.yaml", REDIS);
    place.file("resources/b.yaml", &REDIS.replace("state.redis", "state.in-memory"));
    let arguments = sidecar(&[
        "--dapr-http-port",
        "0",
        "--ephemeral",
        "--components=embedded",
        "--resources-path",
        "resources",
    ]);
    let (code, said) = refused(&place, &arguments);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("statestore") && said.contains("b.yaml"), "{said}");
}

#[test]
fn a_resource_with_an_error() {
    let place = Place::new();
    place.file(
        "resources/a.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: [\n",
    );
    let arguments =
        sidecar(&["--dapr-http-port", "0", "--ephemeral", "--resources-path", "resources"]);
    let (code, said) = refused(&place, &arguments);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("OUTR-01") && said.contains("a.yaml:"), "{said}");
}

#[test]
fn flags_that_make_no_sense() {
    let place = Place::new();
    for (arguments, code) in [
        (vec!["--dapr-http-port", "notaport"], "OUTR-0001"),
        (vec!["--dapr-http-port", "70000"], "OUTR-0001"),
        (vec!["--app-protocol", "carrier-pigeon"], "OUTR-0001"),
        (vec!["--dapr-listen-addresses", "not.an.address"], "OUTR-0001"),
        (vec!["--log-level", "loud!"], "OUTR-0001"),
    ] {
        let (exit, said) = refused(&place, &[&["sidecar", "--ephemeral"][..], &arguments].concat());
        assert_eq!(exit, 2, "{said}");
        assert!(said.contains(code), "{said}");
    }
    let (exit, said) = refused(&place, &["sidecar", "--no-such-flag"]);
    assert_eq!(exit, 2, "{said}");
    let (exit, said) = refused(&place, &["run", "--ephemeral", "--", "no-such-program-anywhere"]);
    assert_eq!(exit, 3, "{said}");
    assert!(said.contains("OUTR-0017"), "{said}");
}

#[test]
fn an_endpoint_whose_certificates_cannot_be_read() {
    let place = Place::new();
    place.file(
        "resources/endpoint.yaml",
        "apiVersion: dapr.io/v1alpha1\nkind: HTTPEndpoint\nmetadata:\n  name: bank\nspec:\n  \
         baseUrl: https://localhost:1\n  clientTLS:\n    rootCA:\n      value: not a certificate\n",
    );
    let arguments = ["--dapr-http-port", "0", "--ephemeral", "--resources-path", "resources"];
    let (code, said) = refused(&place, &sidecar(&arguments));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("OUTR-0015") && said.contains("bank"), "{said}");
}
