//! A real file system that somebody else has filled: writes are refused, deletes and reads go on, and the store does not end.
//!
//! The file system is a tmpfs of a few megabytes in a mount namespace of its own, so nothing of it is left whatever happens.
//! A machine that does not allow that says so.
#![expect(clippy::unwrap_used, reason = "a test")]

use bytes::Bytes;
use outrigger_engine_local::{Local, Options};
use outrigger_keyspace::{CommitError, KeySpace, Level, Transaction, Write};
use outrigger_sim::SimWorld;
use std::{fs::File, io::Write as _, path::Path, process::Command};

const DIR: &str = "OUTRIGGER_FULL_DIR";

#[test]
#[ignore = "the child of `others_fill_the_file_system`"]
#[expect(clippy::print_stdout, reason = "its parent reads what it says")]
fn on_a_small_file_system() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let dir = Path::new(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // No reserve, so that it is the log that finds the disk full.
        let options = Options { reserve_bytes: Some(0), ..Options::default() };
        let engine = Local::open(&dir.join("store"), SimWorld::new(1), options.clone()).unwrap();
        let put = async |number: usize| {
            let key = Bytes::from(format!("k/{number:06}"));
            let write = Write::Put { key, value: vec![7; 1_000].into(), expires_at: None };
            engine.commit(Transaction { writes: vec![write], ..Transaction::default() }).await
        };
        put(0).await.unwrap();
        let filler = dir.join("filler");
        fill(&filler);
        let mut taken = 1;
        let refusal = loop {
            match put(taken).await {
                Ok(_) => taken += 1,
                Err(refusal) => break refusal,
            }
            assert!(taken < 100_000, "never full");
        };
        assert!(matches!(refusal, CommitError::Full(_)), "{refusal:?}");
        assert_eq!(engine.failed(), None);
        for number in 0..taken {
            let key = Bytes::from(format!("k/{number:06}"));
            let writes = vec![Write::Delete { key }];
            engine.commit(Transaction { writes, ..Transaction::default() }).await.unwrap();
        }
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        assert_eq!(snapshot.get(b"k/000000").await.unwrap(), None);
        drop(snapshot);
        std::fs::remove_file(&filler).unwrap();
        for number in 0..taken {
            put(number).await.unwrap();
        }
        engine.close().await;
        let engine = Local::open(&dir.join("store"), SimWorld::new(1), options).unwrap();
        let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
        assert!(snapshot.get(b"k/000000").await.unwrap().is_some());
        println!("{taken} commits were taken by a full disk, and as many deletes");
    });
}

/// Takes all room there is.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for piece in [1 << 16, 1 << 12, 1] {
        let zeros = vec![0; piece];
        while file.write_all(&zeros).is_ok() {}
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "a machine that cannot do it says so")]
fn others_fill_the_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().to_str().unwrap();
    let own = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--map-root-user", "sh", "-c", script]).env(DIR, dir);
        command
    };
    let mount = format!("mount -t tmpfs -o size=12m none '{dir}'");
    if !own(&mount).output().is_ok_and(|output| output.status.success()) {
        println!("no disk was filled on this machine: it allows no mount namespaces");
        return;
    }
    let test = std::env::current_exe().unwrap();
    let test = test.to_str().unwrap();
    let child = "--exact --ignored --nocapture --test-threads=1";
    let output = own(&format!("{mount} && exec '{test}' on_a_small_file_system {child}"));
    let output = { output }.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.contains("taken by a full disk"), "{said}");
}
