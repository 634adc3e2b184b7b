//! `config`: every value with its origin.

use crate::harness::{Place, stderr, stdout};

#[test]
fn each_layer_beats_the_one_below() {
    let place = Place::new();
    place.file(
        "outrigger.yaml",
        "http:\n  port: 3601\ngrpc:\n  port: 3602\nmetrics:\n  port: 3603\n",
    );
    let mut command = place.command(&["config", "-o", "json", "--metrics-port", "3605"]);
    let output = command
        .env("OUTRIGGER__GRPC__PORT", "3604")
        .env("OUTRIGGER__METRICS__PORT", "1")
        .output()
        .unwrap();
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();
    let row = |key: &str| {
        let row = rows.iter().find(|row| row["key"] == key).unwrap();
        format!("{} {}", row["value"], row["origin"].as_str().unwrap())
    };
    assert_eq!(row("http.port"), "3601 file outrigger.yaml");
    assert_eq!(row("grpc.port"), "3604 variable OUTRIGGER__GRPC__PORT");
    assert_eq!(row("metrics.port"), "3605 flag --metrics-port");
    assert_eq!(row("app.protocol"), "\"http\" default");
}

#[test]
fn secrets_are_hidden_and_env_form_is_for_shells() {
    let place = Place::new();
    let mut command = place.command(&["config", "-o", "env"]);
    let output = command.env("DAPR_API_TOKEN", "s3cret").output().unwrap();
    let out = stdout(&output);
    assert!(out.contains("OUTRIGGER__HTTP__PORT=3500"), "{out}");
    assert!(!out.contains("s3cret"), "{out}");
}

#[test]
fn what_nobody_knows_is_refused() {
    let place = Place::new();
    let output = place.command(&["config"]).env("OUTRIGGER__HTTP__PROT", "1").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("OUTR-0002"), "{}", stderr(&output));
    place.file("outrigger.yaml", "http: [\n");
    let output = place.output(&["config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("outrigger.yaml"), "{}", stderr(&output));
}
