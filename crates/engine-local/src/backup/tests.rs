//! Backups of engines that go on working, restored to any commit, damaged in every way.

use super::{BackupError, Goal, restore, verify};
use crate::{
    Local, OpenError, Options,
    tests::{clock, get, now, open, put, put_until, text, write},
};
use bytes::Bytes;
use outrigger_keyspace::{
    CommitId, Direction, Entry, KeyRange, KeySpace, Level, ReadError, Transaction, Write,
    exam::Clock,
};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// An engine in one folder, its backups in another, and room for what is restored.
struct Site {
    folder: tempfile::TempDir,
    clock: Arc<Clock>,
    engine: Arc<Local>,
    restored: u32,
}

impl Site {
    fn new() -> Self {
        let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
        let engine = open(&folder.path().join("origin"), &clock);
        Self { folder, clock, engine, restored: 0 }
    }

    fn backup(&self) -> PathBuf {
        self.folder.path().join("backup")
    }

    async fn take(&self) -> Result<u64, ReadError> {
        self.engine.checkpoint(&self.backup()).await
    }

    fn restore(&mut self, goal: Goal) -> Result<(PathBuf, super::Restored), BackupError> {
        self.restored += 1;
        let to = self.folder.path().join(format!("restored-{}", self.restored));
        let restored = restore(&self.backup(), &to, goal, &*self.clock, &Options::default())?;
        Ok((to, restored))
    }

    async fn restored(&mut self, goal: Goal) -> Arc<Local> {
        let (to, _) = self.restore(goal).unwrap();
        open(&to, &self.clock)
    }

    /// The files of the backup, and what is in them.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let names = fs::read_dir(self.backup()).unwrap().map(|entry| entry.unwrap().file_name());
        let names = names.map(|name| name.into_string().unwrap()).filter(|name| name != "lock");
        names.map(|name| (name.clone(), fs::read(self.backup().join(name)).unwrap())).collect()
    }
}

async fn all(engine: &Local) -> Vec<Entry> {
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    snapshot.scan(&KeyRange::all(), usize::MAX, Direction::Forward).await.unwrap().entries
}

#[tokio::test]
async fn what_is_restored_is_what_was_backed_up() {
    let mut site = Site::new();
    let soon = now(&site.clock).plus(Duration::from_secs(1));
    for i in 0..100 {
        write(&site.engine, vec![put(&format!("k/{i:03}"), &"x".repeat(40_000))]).await.unwrap();
    }
    let last = write(&site.engine, vec![put_until("e", soon), put("k/050", "y")]).await.unwrap();
    let before = all(&site.engine).await;
    assert_eq!(site.take().await, Ok(last.revision));
    write(&site.engine, vec![put("k/050", "z")]).await.unwrap();

    let copy = site.restored(Goal::Latest).await;
    assert_eq!(all(&copy).await, before, "values, revisions and expiries");
    let next = write(&copy, vec![put("more", "1")]).await.unwrap();
    assert!(next.revision > last.revision);
    site.clock.advance_ms(1_000);
    assert_eq!(get(&copy, "e").await, None);
}

#[tokio::test]
async fn the_next_backup_adds_only_what_is_new_and_any_commit_can_be_restored() {
    let mut site = Site::new();
    let mut history = Vec::new();
    let mut kept = BTreeMap::new();
    for round in 0..4 {
        for step in 0..6 {
            site.clock.advance_ms(10);
            let key = format!("{}", (round * 7 + step * 5) % 9);
            let writes = match step {
                3 => vec![Write::DeleteRange { range: KeyRange::new("2", "5") }],
                4 => vec![Write::Add { key: Bytes::from("n"), delta: 2 }, put(&key, "v")],
                _ => vec![put(&key, &format!("{round}.{step}"))],
            };
            let committed = write(&site.engine, writes).await.unwrap();
            history.push((committed, all(&site.engine).await));
        }
        let (last, _) = history.last().unwrap();
        assert_eq!(site.take().await, Ok(last.revision));
        let files = site.files();
        for (name, bytes) in kept.iter().filter(|(name, _)| *name != "BACKUP") {
            assert_eq!(files.get(name), Some(bytes), "a part is never changed");
        }
        assert_eq!(files.len(), kept.len().max(1) + 1);
        assert_eq!(site.take().await, Ok(last.revision), "nothing new");
        assert_eq!(site.files(), files);
        kept = files;
    }
    for (committed, rows) in &history[5..] {
        for goal in [Goal::Revision(committed.revision), Goal::Time(committed.time)] {
            let (to, restored) = site.restore(goal).unwrap();
            assert_eq!(restored.last, *committed);
            assert_eq!(&all(&open(&to, &site.clock)).await, rows, "{goal:?}");
        }
    }
    let verified = verify(&site.backup()).unwrap();
    assert!(verified.is_backup);
    assert_eq!((verified.commits, verified.revision), (18, history.last().unwrap().0.revision));
}

#[tokio::test]
async fn what_the_backup_does_not_hold_is_refused_with_what_it_holds() {
    let mut site = Site::new();
    write(&site.engine, vec![put("a", "1")]).await.unwrap();
    let first = write(&site.engine, vec![put("a", "2")]).await.unwrap();
    site.take().await.unwrap();
    site.clock.advance_ms(10);
    let last = write(&site.engine, vec![put("a", "3")]).await.unwrap();
    site.take().await.unwrap();
    for goal in [
        Goal::Revision(first.revision - 1),
        Goal::Revision(last.revision + 1),
        Goal::Time(outrigger_kernel::Wall(first.time.0 - 1)),
    ] {
        match site.restore(goal) {
            Err(BackupError::NotHeld { held, .. }) => {
                assert!(held.contains(&format!("revisions {}", first.revision)), "{held}");
                assert!(held.contains(&format!("to {}", last.revision)), "{held}");
            }
            other => panic!("{goal:?}: {other:?}"),
        }
        assert!(!site.folder.path().join(format!("restored-{}", site.restored)).exists());
    }
    let between = Goal::Time(outrigger_kernel::Wall(last.time.0 - 1));
    assert_eq!(site.restore(between).unwrap().1.last, first);
}

/// Without the log since the last backup, the map is written again, and what came in between is told to be unknown.
#[tokio::test]
async fn a_log_that_is_gone_is_made_up_for() {
    let mut site = Site::new();
    let options = Options { log_bytes_kept: 0, layer_bytes_max: 64 * 1024, ..Options::default() };
    site.engine.close().await;
    let origin = site.folder.path().join("origin");
    site.engine = Local::open(&origin, site.clock.clone(), options).unwrap();
    let first = write(&site.engine, vec![put("a", "1")]).await.unwrap();
    site.take().await.unwrap();
    for i in 0..200 {
        write(&site.engine, vec![put(&format!("{}", i % 10), &"x".repeat(60_000))]).await.unwrap();
    }
    let rows = || site.files().keys().filter(|name| name.starts_with("rows")).count();
    let mut rounds = 0;
    while rows() < 2 {
        // The checkpoint lets go of the log in its own time.
        write(&site.engine, vec![put("b", &"x".repeat(60_000))]).await.unwrap();
        site.take().await.unwrap();
        rounds += 1;
        assert!(rounds < 10_000, "the log is kept for ever");
    }
    assert_eq!(site.restore(Goal::Revision(first.revision)).unwrap().1.last, first);
    let copy = site.restored(Goal::Latest).await;
    assert_eq!(all(&copy).await, all(&site.engine).await);
}

#[tokio::test]
async fn every_flipped_byte_of_a_backup_is_found() {
    let mut site = Site::new();
    write(&site.engine, vec![put("a", "1"), put("b", "two")]).await.unwrap();
    site.take().await.unwrap();
    let id = Some(CommitId([7; 16]));
    let named = Transaction { id, writes: vec![put("c", "3")], ..Transaction::default() };
    site.engine.commit(named).await.unwrap();
    site.take().await.unwrap();
    let files = site.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["BACKUP", "plans-000002", "rows-000001"]);
    for (name, bytes) in &files {
        let path = site.backup().join(name);
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            fs::write(&path, &flipped).unwrap();
            let found = verify(&site.backup());
            assert!(found.is_err(), "{name} byte {at}: {found:?}");
            let target = site.folder.path().join("never");
            let restored =
                restore(&site.backup(), &target, Goal::Latest, &*site.clock, &Options::default());
            assert!(restored.is_err(), "{name} byte {at}");
            assert!(!target.join("FORMAT").exists());
        }
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert!(verify(&site.backup()).is_err(), "{name} cut short");
        fs::remove_file(&path).unwrap();
        assert!(verify(&site.backup()).is_err(), "{name} gone");
        fs::write(&path, bytes).unwrap();
    }
    assert!(verify(&site.backup()).is_ok());
    let copy = site.restored(Goal::Latest).await;
    assert_eq!(text(&copy, "c").await.as_deref(), Some("3"));
}

#[tokio::test]
async fn folders_for_something_else_are_left_alone() {
    let site = Site::new();
    write(&site.engine, vec![put("a", "1")]).await.unwrap();
    let unavailable = |taken: Result<u64, ReadError>, why: &str| match taken {
        Err(ReadError::Unavailable(told)) => assert!(told.contains(why), "{told}"),
        other => panic!("{other:?}"),
    };
    let busy = site.folder.path().join("busy");
    fs::create_dir(&busy).unwrap();
    fs::write(busy.join("letter"), "dear").unwrap();
    unavailable(site.engine.checkpoint(&busy).await, "letter");
    assert!(!busy.join("lock").exists());

    site.take().await.unwrap();
    let other = open(&site.folder.path().join("other"), &site.clock);
    unavailable(other.checkpoint(&site.backup()).await, "another store");

    let occupied = restore(&site.backup(), &busy, Goal::Latest, &*site.clock, &Options::default());
    assert!(matches!(occupied, Err(BackupError::Folder(OpenError::Occupied { .. }))));
    let nothing = site.folder.path().join("nothing");
    assert!(matches!(verify(&nothing), Err(BackupError::Absent { .. })));
    assert!(!nothing.exists());
    for (name, _) in site.files() {
        let mode = fs::metadata(site.backup().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    assert_eq!(fs::metadata(site.backup()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn a_newer_backup_is_refused() {
    let site = Site::new();
    write(&site.engine, vec![put("a", "1")]).await.unwrap();
    site.take().await.unwrap();
    let path = site.backup().join("BACKUP");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("outrigger-backup 1 ", "outrigger-backup 2 ")).unwrap();
    assert!(matches!(verify(&site.backup()), Err(BackupError::Newer { found: 2, known: 1 })));
}

#[tokio::test]
async fn a_store_is_verified_to_the_last_byte() {
    let site = Site::new();
    write(&site.engine, vec![put("a", "1"), put("b", &"x".repeat(100_000))]).await.unwrap();
    let origin = site.folder.path().join("origin");
    assert!(matches!(verify(&origin), Err(BackupError::Folder(OpenError::InUse { .. }))));
    site.engine.close().await;
    let verified = verify(&origin).unwrap();
    assert_eq!((verified.is_backup, verified.rows), (false, 2));
    for name in names(&origin).iter().filter(|name| name.starts_with("run-")) {
        let path = origin.join(name);
        let bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len()).step_by(997) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, flipped).unwrap();
            assert!(verify(&origin).is_err(), "{name} byte {at}");
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(verify(&origin).unwrap(), verified);
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

/// A backup that was being restored when it was interrupted is no store yet, and whoever asks about it finds it as it was.
#[test]
fn verifying_what_was_never_finished_changes_nothing() {
    let disk = outrigger_sim::disk::SimDisk::new(1);
    let parts = ["NEW", "log-00000000000000000001", "index.new", "run-00000000000000000001"];
    for name in parts {
        let file = outrigger_kernel::disk::Disk::create(&disk, name).unwrap();
        file.write_at(b"half", 0).unwrap();
    }
    let before = (disk.steps(), disk.fingerprint());
    let error = crate::Local::verify_by_hand(std::sync::Arc::new(disk.clone())).unwrap_err();
    assert!(error.to_string().contains("never finished"), "{error}");
    assert_eq!((disk.steps(), disk.fingerprint()), before);
}
