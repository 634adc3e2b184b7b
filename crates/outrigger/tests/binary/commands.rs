//! Commands that talk to a running runtime, and those that need none.

use crate::harness::{Place, free_port, stderr, stdout};

#[test]
fn state_by_command() {
    let place = Place::new();
    let (running, _) = place.sidecar(&["--ephemeral"]);
    let run = |arguments: &[&str]| place.output(arguments);
    assert_eq!(run(&["state", "set", "statestore", "k", r#"{"v":1}"#]).status.code(), Some(0));
    let got = run(&["state", "get", "statestore", "k"]);
    assert_eq!(stdout(&got), r#"{"v":1}"#);
    assert_eq!(run(&["state", "get", "statestore", "nothing"]).status.code(), Some(3));
    let clash = run(&["state", "set", "statestore", "k", "2", "--etag", "999"]);
    assert_eq!(clash.status.code(), Some(4), "{}", stderr(&clash));
    let unknown = run(&["state", "get", "nostore", "k"]);
    assert_eq!(unknown.status.code(), Some(3));
    let nobody = run(&["invoke", "nobody", "hello"]);
    assert_eq!(nobody.status.code(), Some(3), "{}", stderr(&nobody));
    assert!(stderr(&unknown).contains("ERR_STATE_STORE_NOT_FOUND"), "{}", stderr(&unknown));
    assert_eq!(run(&["state", "delete", "statestore", "k"]).status.code(), Some(0));
    assert_eq!(run(&["state", "get", "statestore", "k"]).status.code(), Some(3));
    assert_eq!(run(&["publish", "pubsub", "orders", r#"{"id":7}"#]).status.code(), Some(0));
    let metadata = run(&["metadata", "-o", "json"]);
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    assert_eq!(metadata["id"], "app");
    assert_eq!(stdout(&run(&["list", "-o", "name"])), "app\n");
    let stopped = run(&["stop", "app"]);
    assert_eq!(stopped.status.code(), Some(0), "{}", stderr(&stopped));
    assert_eq!(running.end().0, 0);
    assert_eq!(stdout(&run(&["list", "-o", "name"])), "");
    assert_eq!(run(&["stop", "app"]).status.code(), Some(3));
}

#[test]
fn nobody_there() {
    let place = Place::new();
    let port = free_port().to_string();
    let output = place.output(&["state", "get", "s", "k", "--dapr-http-port", &port]);
    assert_eq!(output.status.code(), Some(6));
    assert!(stderr(&output).contains("OUTR-0020"), "{}", stderr(&output));
}

#[test]
fn explanations() {
    let place = Place::new();
    let all = stdout(&place.output(&["explain"]));
    for code in all.lines().filter_map(|line| line.split_whitespace().next()) {
        let page = place.output(&["explain", code]);
        assert_eq!(page.status.code(), Some(0), "{code}");
        assert!(stdout(&page).contains("Remedy"), "{code}");
    }
    assert!(all.contains("OUTR-0004") && all.contains("OUTR-01"), "{all}");
    assert_eq!(place.output(&["explain", "OUTR-9999"]).status.code(), Some(3));
}

#[test]
fn policies_are_explained_with_the_line_they_come_from() {
    let place = Place::new();
    let resource = "\
apiVersion: dapr.io/v1alpha1
kind: Resiliency
metadata: {name: shop}
spec:
  policies:
    timeouts: {patient: {attempt: 2s, overall: 10s}}
    rateLimits: {hundred: {calls: 100}}
  targets:
    apps: {cart: {timeout: patient, rateLimit: hundred}}
";
    let file = place.file("resources/policies.yaml", resource);
    let explain = |more: &[&str]| {
        let arguments = [&["policy", "explain", "cart", "-o", "json"], more].concat();
        let output = place.output(&arguments);
        (output.status.code(), stdout(&output), stderr(&output))
    };
    let (code, told, complaint) = explain(&["--call-timeout", "7s"]);
    assert_eq!(code, Some(0), "{complaint}");
    let rows: Vec<serde_json::Value> = serde_json::from_str(&told).unwrap();
    let parts: Vec<&str> = rows.iter().map(|row| row["part"].as_str().unwrap()).collect();
    assert_eq!(parts, ["end", "overall", "rate", "attempt", "reconnect"]);
    assert_eq!(rows[0]["from"], "calls.timeout: flag --call-timeout");
    let from = rows[2]["from"].as_str().unwrap();
    assert!(
        from.starts_with("rateLimits.hundred at ") && from.ends_with("policies.yaml:7:18"),
        "{from}"
    );
    assert_eq!(rows[4]["from"], "built-in default");

    std::fs::write(&file, resource.replace("calls: 100", "calls: none")).unwrap();
    let (code, _, complaint) = explain(&[]);
    assert_eq!(code, Some(2), "{complaint}");
    assert!(
        complaint.contains("OUTR-0114") && complaint.contains("policies.yaml:7:"),
        "{complaint}"
    );
}

#[test]
fn completions_help_and_versions() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(stdout(&place.output(&["completion", shell])).contains("outrigger"));
    }
    assert!(stdout(&place.output(&["version"])).contains(env!("CARGO_PKG_VERSION")));
    assert!(stdout(&place.output(&["--help"])).contains("run"));
    assert_eq!(place.output(&[]).status.code(), Some(2));
    assert_eq!(place.output(&["init"]).status.code(), Some(0));
}

#[test]
fn the_doctor_finds_what_is_wrong() {
    let place = Place::new();
    let well = place.output(&[
        "doctor",
        "-o",
        "json",
        "--data-dir",
        "data",
        "--dapr-http-port",
        "0",
        "--dapr-grpc-port",
        "0",
        "--metrics-port",
        "0",
    ]);
    assert_eq!(well.status.code(), Some(0), "{}", stdout(&well));
    place.file("resources/bad.yaml", "kind: [\n");
    let ill = place.output(&["doctor", "--data-dir", "data"]);
    assert_eq!(ill.status.code(), Some(10), "{}", stdout(&ill));
    assert!(stdout(&ill).contains("bad.yaml"), "{}", stdout(&ill));
}

#[test]
fn a_topic_is_followed_without_taking_anything() {
    let place = Place::new();
    let (_running, _) = place.sidecar(&["--ephemeral"]);
    for number in 0..3 {
        let event = format!(r#"{{"n":{number}}}"#);
        assert_eq!(place.output(&["publish", "pubsub", "orders", &event]).status.code(), Some(0));
    }
    // Twice: the first look has not used anything up.
    for _ in 0..2 {
        let tail = place.output(&["topic", "tail", "pubsub", "orders", "-n", "3"]);
        assert_eq!(tail.status.code(), Some(0), "{}", stderr(&tail));
        let lines: Vec<serde_json::Value> =
            stdout(&tail).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            lines.iter().map(|event| event["data"]["n"].clone()).collect::<Vec<_>>(),
            [0, 1, 2]
        );
    }
    assert_eq!(
        place.output(&["topic", "tail", "nobroker", "orders", "-n", "1"]).status.code(),
        Some(3)
    );
}
