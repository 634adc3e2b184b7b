//! What is refused at the door, with a reason and a remedy.

use super::{clock, open, put, refused, text, write};
use crate::{Local, OpenError, Options, error::from_io};
use outrigger_keyspace::{CommitError, KeySpace, Transaction, Write};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path};

#[tokio::test]
async fn a_folder_in_use_names_its_holder() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let engine = open(folder.path(), &clock);
    let error = refused(folder.path());
    let me = std::process::id();
    assert!(matches!(error, OpenError::InUse { holder: Some(pid), .. } if pid == me), "{error}");
    assert!(error.to_string().contains(&format!("process {me}; stop that process")), "{error}");
    engine.close().await;
    open(folder.path(), &clock).close().await;
}

#[tokio::test]
async fn a_folder_is_private() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let dir = folder.path().join("a/b");
    let engine = open(&dir, &clock);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(dir.parent().unwrap())), (0o700, 0o700));
    for file in fs::read_dir(&dir).unwrap() {
        let file = file.unwrap().path();
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    engine.close().await;
}

#[tokio::test]
async fn newer_early_and_damaged_folders_are_left_alone() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    open(folder.path(), &clock).close().await;
    let format = folder.path().join("FORMAT");
    let right = fs::read_to_string(&format).unwrap();
    fs::write(&format, "outrigger-local 3 0\n").unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::NewerFormat { found: 3, known: 2, .. }), "{error}");
    fs::write(&format, "outrigger-local 1\n").unwrap();
    let error = refused(folder.path());
    assert!(matches!(error, OpenError::EarlyFormat { found: 1, .. }), "{error}");
    assert!(error.to_string().contains("move the folder away"), "{error}");
    for wrong in ["", "something else", "outrigger-local 2", "outrigger-local 2 xyz"] {
        fs::write(&format, wrong).unwrap();
        assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }), "{wrong:?}");
    }
    fs::remove_file(&format).unwrap();
    assert!(matches!(refused(folder.path()), OpenError::Damaged { .. }));
    fs::write(&format, right).unwrap();
    open(folder.path(), &clock).close().await;
}

#[tokio::test]
async fn a_store_that_was_never_finished_is_made_anew() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    // What a crash in the middle of the first opening leaves.
    for unfinished in ["NEW", "index.new", "log-00000000000000000001", "stranger"] {
        fs::write(folder.path().join(unfinished), "half").unwrap();
    }
    let engine = open(folder.path(), &clock);
    write(&engine, vec![put("a", "1")]).await.unwrap();
    assert_eq!(text(&engine, "a").await.as_deref(), Some("1"));
    assert_eq!(fs::read(folder.path().join("stranger")).unwrap(), b"half", "not ours");
    assert!(!folder.path().join("NEW").exists());
}

#[test]
fn what_the_system_says_is_sorted_by_remedy() {
    let said = |kind: io::ErrorKind| from_io(Path::new("d"), kind.into());
    assert!(matches!(said(io::ErrorKind::PermissionDenied), OpenError::ReadOnly { .. }));
    assert!(matches!(said(io::ErrorKind::ReadOnlyFilesystem), OpenError::ReadOnly { .. }));
    assert!(matches!(said(io::ErrorKind::StorageFull), OpenError::Full { .. }));
    assert!(matches!(said(io::ErrorKind::NotADirectory), OpenError::Io { .. }));
}

#[test]
fn a_file_in_the_way_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(matches!(refused(&file), OpenError::Io { .. }));
    assert!(matches!(refused(&file.join("below")), OpenError::Io { .. }));
}

#[tokio::test]
async fn a_full_disk_takes_deletes_only_and_recovers() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    open(folder.path(), &clock).close().await;
    let engine = open(folder.path(), &clock);
    write(&engine, vec![put("a", "1"), put("b", "1")]).await.unwrap();
    engine.close().await;

    // A reserve that no disk has stands for a disk without room.
    let full = Options { reserve_bytes: Some(u64::MAX / 2), ..Options::default() };
    let engine = Local::open(folder.path(), clock.clone(), full).unwrap();
    let refusal = write(&engine, vec![put("c", "1")]).await;
    assert!(matches!(&refusal, Err(CommitError::Full(why)) if why.contains("free some space")));
    let mixed = vec![Write::Delete { key: super::key("b") }, put("c", "1")];
    assert!(matches!(write(&engine, mixed).await, Err(CommitError::Full(_))));
    write(&engine, vec![Write::Delete { key: super::key("a") }]).await.unwrap();
    assert_eq!(text(&engine, "a").await, None);
    assert_eq!(text(&engine, "b").await.as_deref(), Some("1"));
    assert_eq!(engine.status().failed, None);
    engine.close().await;
    let engine = open(folder.path(), &clock);
    write(&engine, vec![put("c", "1")]).await.unwrap();
}

#[tokio::test]
async fn a_full_store_can_be_drained() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let system = nix::sys::statvfs::statvfs(folder.path()).unwrap();
    let free = system.blocks_available() * system.fragment_size();
    // (the reserve, whether what makes room is taken)
    for (reserve_bytes, taken) in [(free / 2 * 3, true), (free * 4, false)] {
        let full = Options { reserve_bytes: Some(reserve_bytes), ..Options::default() };
        let engine = Local::open(folder.path(), clock.clone(), full).unwrap();
        assert!(matches!(write(&engine, vec![put("a", "1")]).await, Err(CommitError::Full(_))));
        for _ in 0..3 {
            let writes = vec![put("cursor", "1"), Write::Delete { key: super::key("message") }];
            let drain = Transaction { writes, makes_room: true, ..Transaction::default() };
            let answer = engine.commit(drain).await;
            match answer {
                Ok(_) => assert!(taken),
                Err(error) => assert!(!taken && matches!(error, CommitError::Full(_)), "{error}"),
            }
        }
        assert!(matches!(write(&engine, vec![put("a", "1")]).await, Err(CommitError::Full(_))));
        engine.close().await;
    }
}

#[tokio::test]
async fn a_store_that_has_lost_a_part_is_damaged_not_empty() {
    for lost in ["FORMAT", "index", "log-"] {
        let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
        let engine = open(folder.path(), &clock);
        write(&engine, vec![put("a", "1")]).await.unwrap();
        engine.close().await;
        let files = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
        let is_lost = |path: &Path| path.file_name().unwrap().to_str().unwrap().starts_with(lost);
        for file in files.filter(|path| is_lost(path)) {
            fs::remove_file(file).unwrap();
        }
        let error = refused(folder.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{lost}: {error}");
    }
}

#[tokio::test]
async fn files_of_two_stores_do_not_mix() {
    let clock = clock();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for folder in &folders {
        open(folder.path(), &clock).close().await;
    }
    let format = |i: usize| folders[i].path().join("FORMAT");
    fs::copy(format(0), format(1)).unwrap();
    let error = refused(folders[1].path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
