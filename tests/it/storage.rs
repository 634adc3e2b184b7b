//! The data folder in every state a disk can be in. Mounting needs root; without it these tests fail rather than skip.

use anyhow::{Result, ensure};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::Signal,
};
use outrigger_tests::{Folder, Node, Start, eventually, patience, tools};
use serde_json::json;
use std::path::Path;

/// A small file system that is unmounted when dropped.
struct Small(Folder);

impl Small {
    fn new(size: &str) -> Result<Self> {
        ensure!(tools::is_root(), "this test mounts a small file system and must run as root");
        let folder = Folder::new("small")?;
        let options = format!("size={size}");
        mount(
            Some("tmpfs"),
            folder.path(),
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn read_only(&self) -> Result<()> {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        Ok(mount(None::<&str>, self.path(), None::<&str>, flags, None::<&str>)?)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        umount2(self.path(), MntFlags::MNT_DETACH).ok();
    }
}

fn start(data: &Path) -> Start {
    Start::sidecar("storage").components().data(data)
}

/// A start that must be refused; answers the log.
fn refused(start: Start) -> Result<String> {
    let mut node = start.launch()?;
    let status = node.wait(patience::SOON)?;
    let log = node.log();
    ensure!(!status.success(), "it started\n{log}");
    node.assert_calm();
    ensure!(log.contains("OUTR-"), "no code in\n{log}");
    Ok(log)
}

fn save(node: &Node, key: &str, bytes: usize) -> Result<u16> {
    let value = "x".repeat(bytes);
    Ok(node.post("/v1.0/state/statestore", &json!([{ "key": key, "value": value }]))?.status)
}

#[test]
fn a_folder_whose_holder_does_not_answer_is_refused_and_names_it() -> Result<()> {
    let data = Folder::new("in-use")?;
    let holder = start(data.path()).ready()?;
    holder.signal(Signal::SIGSTOP)?;
    let refused = refused(start(data.path()));
    holder.signal(Signal::SIGCONT)?;
    let log = refused?;
    ensure!(log.contains(&holder.pid().to_string()), "the holder is not named in\n{log}");
    let answer = holder.get("/v1.0/healthz")?;
    ensure!(answer.status == 204, "the holder suffered");
    Ok(())
}

#[test]
fn a_killed_holder_leaves_the_folder_free() -> Result<()> {
    let data = Folder::new("free")?;
    let mut holder = start(data.path()).ready()?;
    ensure!(save(&holder, "k", 10)? == 204, "could not save");
    holder.kill()?;
    let node = start(data.path()).ready()?;
    ensure!(node.get("/v1.0/state/statestore/k")?.status == 200, "the key is gone");
    Ok(())
}

#[test]
fn a_read_only_folder_is_refused() -> Result<()> {
    let small = Small::new("64m")?;
    small.read_only()?;
    let log = refused(start(small.path()))?;
    ensure!(log.to_lowercase().contains("read-only"), "not said in\n{log}");
    Ok(())
}

#[test]
fn a_folder_of_a_newer_version_is_refused_and_untouched() -> Result<()> {
    let data = Folder::new("newer")?;
    let mut node = start(data.path()).ready()?;
    ensure!(save(&node, "k", 10)? == 204, "could not save");
    ensure!(node.stop()?.success(), "not a clean end\n{}", node.log());
    let marker = format_file(data.path())?;
    let original = std::fs::read_to_string(&marker)?;
    // The name of the format, its version, the store's id.
    let version = original.split_whitespace().nth(1).unwrap_or_default();
    let newer = original.replacen(&format!(" {version} "), " 999 ", 1);
    std::fs::write(&marker, &newer)?;
    let log = refused(start(data.path()))?;
    ensure!(log.contains("999") || log.to_lowercase().contains("newer"), "not said in\n{log}");
    ensure!(std::fs::read_to_string(&marker)? == newer, "the refused start changed the folder");
    std::fs::write(&marker, original)?;
    let node = start(data.path()).ready()?;
    ensure!(node.get("/v1.0/state/statestore/k")?.status == 200, "the key is gone");
    Ok(())
}

/// The file in which the data folder says its format.
fn format_file(data: &Path) -> Result<std::path::PathBuf> {
    let mut open = vec![data.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            if path.is_dir() {
                open.push(path);
            } else if name.contains("format") {
                return Ok(path);
            }
        }
    }
    anyhow::bail!("the data folder does not say its format anywhere in {}", data.display())
}

const HALF_MEBIBYTE: usize = 512 * 1024;

/// Everything acknowledged is there, whole.
fn all_there(node: &Node, saved: &[String]) -> Result<()> {
    for key in saved {
        let answer = node.get(&format!("/v1.0/state/statestore/{key}"))?;
        let whole = answer.status == 200 && answer.body.len() == HALF_MEBIBYTE + 2;
        ensure!(whole, "{key}: {} and {} bytes", answer.status, answer.body.len());
    }
    Ok(())
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_the_rest() -> Result<()> {
    let small = Small::new("160m")?;
    let mut node = start(small.path()).ready()?;
    let mut saved = Vec::new();
    let refused = loop {
        let key = format!("k{}", saved.len());
        match save(&node, &key, HALF_MEBIBYTE)? {
            204 => saved.push(key),
            status => break status,
        }
        ensure!(saved.len() < 1000, "160 MB took 500 MB");
    };
    ensure!((500..600).contains(&refused), "a full disk answered {refused}");
    ensure!(!saved.is_empty(), "an empty disk of 160 MB was full at once");
    all_there(&node, &saved)?;
    let removed = saved.remove(0);
    let answer = node.send("DELETE", &format!("/v1.0/state/statestore/{removed}"), &[], b"")?;
    ensure!(answer.status == 204, "a delete on a full disk answered {}", answer.status);
    node.assert_calm();

    // With room again it goes on, without a restart and after one.
    mount(None::<&str>, small.path(), None::<&str>, MsFlags::MS_REMOUNT, Some("size=512m"))?;
    eventually("a write with room again", || {
        save(&node, "after", 10).ok().filter(|status| *status == 204)
    });
    node.kill()?;
    let node = start(small.path()).ready()?;
    all_there(&node, &saved)?;
    ensure!(
        node.get(&format!("/v1.0/state/statestore/{removed}"))?.status == 204,
        "{removed} is back"
    );
    Ok(())
}

#[test]
fn two_components_of_one_name_are_refused_with_both_places() -> Result<()> {
    let one = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: twice\nspec:\n  \
               type: state.in-memory\n  version: v1\n  metadata: []\n";
    let data = Folder::new("twice")?;
    let start = Start::sidecar("twice").data(data.path());
    let log = refused(start.resource("a.yaml", one).resource("b.yaml", one))?;
    ensure!(log.contains("a.yaml") && log.contains("b.yaml"), "not both places in\n{log}");
    Ok(())
}

#[test]
fn a_type_that_cannot_be_served_is_refused_with_its_place() -> Result<()> {
    let kafka = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: broker\nspec:\n  \
                 type: pubsub.kafka\n  version: v1\n  metadata:\n    - name: brokers\n      value: 127.0.0.1:1\n";
    let data = Folder::new("kafka")?;
    let log = refused(Start::sidecar("kafka").data(data.path()).resource("kafka.yaml", kafka))?;
    ensure!(log.contains("pubsub.kafka") && log.contains("kafka.yaml"), "not named in\n{log}");
    ensure!(log.contains("--components"), "no remedy in\n{log}");
    Ok(())
}
