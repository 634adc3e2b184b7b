//! Backup, restore and verification, as somebody does them who runs a service.

use anyhow::{Result, ensure};
use outrigger_tests::{Folder, Node, Start, tools};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

fn outrigger(arguments: &[&str]) -> Result<Output> {
    Ok(Command::new(tools::binary()?).args(arguments).output()?)
}

/// What the command says on stdout, as JSON.
fn told(arguments: &[&str]) -> Result<Value> {
    let output = outrigger(&[arguments, &["-o", "json"]].concat())?;
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{arguments:?} failed:\n{complaint}");
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The report of a command that must fail with `exit`.
fn refused(arguments: &[&str], exit: i32) -> Result<String> {
    let output = outrigger(arguments)?;
    let report = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(exit), "{arguments:?}: {:?}\n{report}", output.status);
    // What the command line itself refuses has the exit code for that and no other.
    ensure!(exit == 2 || report.contains("OUTR-"), "no code in\n{report}");
    Ok(report)
}

fn start(data: &Path) -> Result<Node> {
    Start::sidecar("keeper").components().data(data).ready()
}

fn save(node: &Node, key: &str, value: u64) -> Result<()> {
    let body = json!([{ "key": key, "value": value }]);
    let status = node.post("/v1.0/state/statestore", &body)?.status;
    ensure!(status == 204, "saving {key}: {status}");
    Ok(())
}

fn read(node: &Node, key: &str) -> Result<Option<u64>> {
    let answer = node.get(&format!("/v1.0/state/statestore/{key}"))?;
    Ok(answer.json().as_u64())
}

#[test]
fn a_backup_is_taken_beside_a_running_service_and_restored_to_any_point() -> Result<()> {
    let folder = Folder::new("backup")?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (data, backup) = (path("data"), path("backup"));
    let mut node = start(data.as_ref())?;
    for i in 0..20 {
        save(&node, &format!("k{i}"), i)?;
    }
    let first = told(&["backup", &backup, "--data-dir", &data])?;
    save(&node, "k0", 100)?;
    save(&node, "late", 1)?;
    let second = told(&["backup", &backup, "--data-dir", &data])?;
    ensure!(second["revision"].as_u64() > first["revision"].as_u64(), "{first} then {second}");
    ensure!(fs::metadata(folder.join("backup/plans-000002"))?.len() < 1_000, "it is incremental");
    save(&node, "later", 1)?;

    // The data is in use: it is the backup that is verified.
    let report = refused(&["verify", "--data-dir", &data], 1)?;
    ensure!(report.contains("outrigger backup"), "no remedy in\n{report}");
    let verified = told(&["verify", &backup])?;
    ensure!(verified["kind"] == "backup" && verified["revision"] == second["revision"]);
    node.kill()?;

    let revision = first["revision"].to_string();
    let (whole, earlier) = (path("whole"), path("earlier"));
    told(&["restore", &backup, "--data-dir", &whole])?;
    told(&["restore", &backup, "--data-dir", &earlier, "--revision", &revision])?;
    told(&["verify", &whole])?;
    let node = start(whole.as_ref())?;
    ensure!((read(&node, "k0")?, read(&node, "late")?) == (Some(100), Some(1)));
    ensure!(read(&node, "later")?.is_none(), "it was saved after the backup");
    save(&node, "k1", 5)?;
    let node = start(earlier.as_ref())?;
    ensure!((read(&node, "k0")?, read(&node, "late")?) == (Some(0), None));
    ensure!((1..20).all(|i| read(&node, &format!("k{i}")).ok().flatten() == Some(i)));
    Ok(())
}

#[test]
fn what_cannot_be_done_is_told_and_leaves_nothing() -> Result<()> {
    let folder = Folder::new("backup-refused")?;
    let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (data, backup, target) = (path("data"), path("backup"), path("target"));
    refused(&["backup", &backup, "--data-dir", &data], 3)?;
    ensure!(!folder.join("data").exists() && !folder.join("backup").exists());
    let node = start(data.as_ref())?;
    save(&node, "k", 1)?;
    told(&["backup", &backup, "--data-dir", &data])?;

    let report = refused(&["restore", &backup, "--data-dir", &data], 1)?;
    ensure!(report.contains("not empty"), "{report}");
    let far = refused(&["restore", &backup, "--data-dir", &target, "--revision", "999999999"], 3)?;
    ensure!(far.contains("which holds"), "{far}");
    let early = ["restore", &backup, "--data-dir", &target, "--time", "2001-01-01T00:00:00Z"];
    refused(&early, 3)?;
    refused(&["restore", &backup, "--data-dir", &target, "--time", "yesterday"], 2)?;
    refused(&["restore", &path("none"), "--data-dir", &target], 3)?;

    let part = folder.join("backup/rows-000001");
    let mut bytes = fs::read(&part)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&part, &bytes)?;
    let damaged = refused(&["restore", &backup, "--data-dir", &target], 1)?;
    ensure!(damaged.contains("rows-000001"), "the file is not named in\n{damaged}");
    refused(&["verify", &backup], 1)?;
    ensure!(!folder.join("target").exists(), "something was restored");
    Ok(())
}
