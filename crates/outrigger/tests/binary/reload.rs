//! Changed files are in force a moment later.

use crate::harness::{Place, eventually, http, set};
use nix::sys::signal::Signal;

fn store(name: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: {name}\nspec:\n  type: state.in-memory\n  version: v1\n"
    )
}

fn write(port: u16, store: &str) -> u16 {
    http(port, "POST", &format!("/v1.0/state/{store}"), r#"[{"key":"k","value":1}]"#).status
}

#[test]
fn components_come_change_and_go() {
    let place = Place::new();
    place.file("resources/a.yaml", &store("statestore"));
    let (mut running, port) = place.sidecar(&["--ephemeral", "--resources-path", "resources"]);
    assert_eq!(set(port, "k", "1"), 204);
    assert_eq!(write(port, "other"), 400);
    place.file("resources/b.yaml", &store("other"));
    running.until("component other added");
    assert_eq!(write(port, "other"), 204);
    assert_eq!(crate::harness::get(port, "k"), "1", "what did not change keeps its data");
    std::fs::remove_file(place.path().join("resources/b.yaml")).unwrap();
    running.until("component other removed");
    assert_eq!(write(port, "other"), 400);
}

#[test]
fn a_bad_file_keeps_the_old_ones() {
    let place = Place::new();
    place.file("resources/a.yaml", &store("statestore"));
    let (mut running, port) = place.sidecar(&["--ephemeral", "--resources-path", "resources"]);
    place.file("resources/a.yaml", "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: [\n");
    running.until("the old ones stay in force");
    assert_eq!(set(port, "k", "1"), 204);
    place.file("resources/a.yaml", &store("renamed"));
    running.until("component renamed added");
    eventually("the new name works", || write(port, "renamed") == 204);
}

#[test]
fn a_hangup_reads_everything_again() {
    let place = Place::new();
    place.file("resources/a.yaml", &store("statestore"));
    let (mut running, port) =
        place.sidecar(&["--ephemeral", "--resources-path", "resources", "--hot-reload=false"]);
    place.file("resources/b.yaml", &store("other"));
    running.signal(Signal::SIGHUP);
    running.until("component other added");
    assert_eq!(write(port, "other"), 204);
}
