//! Today's format, for later releases: a store as this one wrote it, opened as any other.
//!
//! The fixture is text, so that a change of it can be read: each file of the folder by name and length, then its bytes in
//! rows of 32 that are not all zero. It was copied from a running store, so the log holds commits that the index has not.
//! A release that changes the format adds a fixture of its own and keeps these opening. The second was added when large
//! values came to stand apart in the index.

use super::{clock, get, key, now, open, put, text, write};
use crate::Local;
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, KeyRange, KeySpace, Level, Write};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

const FIXTURE: &str = include_str!("../../tests/fixtures/format-2.txt");
const FIXTURE_WITH_VALUES_APART: &str = include_str!("../../tests/fixtures/format-2-values.txt");
/// So many values stand apart in a store: more than stay with their rows.
const APART: u8 = 20;
const ROW_BYTES: usize = 32;
/// Far later than any test's clock.
const LATE: Wall = Wall(7_000_000_000_000);

/// A large value that takes few lines of the fixture.
fn apart(n: u8) -> Vec<u8> {
    let mut value = vec![0; 16 << 10];
    value[usize::from(n) * 100] = n + 1;
    value
}

/// What is in the store: some of it merged, some in runs of the index, some only in the log.
async fn fill(dir: &Path) -> Arc<Local> {
    let clock = clock();
    let large = "large ".repeat(1_700);
    for round in 0..3 {
        let engine = open(dir, &clock);
        let numbers = (round * 10..round * 10 + 20)
            .map(|n| put(&format!("row/{n:02}"), &format!("{n} of {round}")));
        write(&engine, numbers.collect()).await.unwrap();
        let range = KeyRange::new(key("row/12"), key("row/15"));
        write(&engine, vec![Write::DeleteRange { range }]).await.unwrap();
        if round == 0 {
            write(&engine, vec![put("large", &large)]).await.unwrap();
            let put = |n| Write::Put {
                key: key(&format!("apart/{n:02}")),
                value: apart(n).into(),
                expires_at: None,
            };
            write(&engine, (0..APART).map(put).collect()).await.unwrap();
        }
        let expires_at = Some(LATE);
        let lease = Write::Put { key: key("lease"), value: key("held"), expires_at };
        write(&engine, vec![lease, Write::Add { key: key("count"), delta: 2 }]).await.unwrap();
        engine.close().await;
    }
    let engine = open(dir, &clock);
    let soon = Some(now(&clock).plus(Duration::from_secs(60)));
    let brief = Write::Put { key: key("brief"), value: key("v"), expires_at: soon };
    let stamped = Write::PutStamped {
        prefix: key("log/"),
        suffix: key(""),
        value: key("stamped"),
        expires_at: None,
    };
    write(&engine, vec![put("row/00", "newest"), brief, stamped]).await.unwrap();
    write(&engine, vec![Write::Delete { key: key("row/39") }]).await.unwrap();
    engine
}

fn to_text(dir: &Path) -> String {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap()).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let mut into = String::new();
    for entry in names {
        let name = entry.file_name().into_string().unwrap();
        if name == "lock" {
            continue;
        }
        let bytes = fs::read(entry.path()).unwrap();
        writeln!(into, "file {name} {}", bytes.len()).unwrap();
        for (row, bytes) in bytes.chunks(ROW_BYTES).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                writeln!(into, "{:x} {hex}", row * ROW_BYTES).unwrap();
            }
        }
    }
    into
}

fn to_folder(text: &str, dir: &Path) {
    let mut file: Option<(PathBuf, Vec<u8>)> = None;
    let end = |file: Option<(PathBuf, Vec<u8>)>| {
        if let Some((path, bytes)) = file {
            fs::write(path, bytes).unwrap();
        }
    };
    for line in text.lines() {
        if let Some((name, length)) = line.strip_prefix("file ").and_then(|l| l.split_once(' ')) {
            end(file.replace((dir.join(name), vec![0; length.parse().unwrap()])));
            continue;
        }
        let (at, hex) = line.split_once(' ').unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        let bytes = &mut file.as_mut().unwrap().1;
        for (index, pair) in hex.as_bytes().chunks(2).enumerate() {
            let pair = std::str::from_utf8(pair).unwrap();
            bytes[at + index] = u8::from_str_radix(pair, 16).unwrap();
        }
    }
    end(file);
}

async fn check_apart(engine: &Local) {
    for n in 0..APART {
        let value = get(engine, &format!("apart/{n:02}")).await.unwrap();
        assert_eq!(value.bytes[..], apart(n)[..]);
    }
}

async fn check(engine: &Local) {
    for n in 0..40 {
        let expected = match n {
            0 => Some("newest".to_owned()),
            12..15 | 39 => None,
            30.. => Some(format!("{n} of 2")),
            _ => Some(format!("{n} of {}", n / 10)),
        };
        assert_eq!(text(engine, &format!("row/{n:02}")).await, expected, "{n}");
    }
    assert_eq!(text(engine, "large").await.unwrap().len(), 6 * 1_700);
    assert_eq!(get(engine, "lease").await.unwrap().expires_at, Some(LATE));
    assert_eq!(get(engine, "count").await.unwrap().bytes, 6_i64.to_le_bytes()[..]);
    let snapshot = engine.snapshot(Level::Linearizable).await.unwrap();
    let range = KeyRange::prefix("log/");
    let stamped = snapshot.scan(&range, 9, Direction::Forward).await.unwrap();
    assert_eq!(stamped.entries.len(), 1);
    let [entry] = &stamped.entries[..] else { return };
    assert_eq!(entry.key[4..12], entry.value.revision.to_be_bytes());
}

#[tokio::test]
async fn a_store_of_format_2_is_opened_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    to_folder(FIXTURE, folder.path());
    let clock = clock();
    let engine = open(folder.path(), &clock);
    check(&engine).await;
    assert_eq!(text(&engine, "brief").await.as_deref(), Some("v"));
    clock.advance_ms(60_000);
    assert_eq!(get(&engine, "brief").await, None);
    write(&engine, vec![put("after", "the fixture")]).await.unwrap();
    engine.close().await;

    let engine = open(folder.path(), &clock);
    check(&engine).await;
    assert_eq!(text(&engine, "after").await.as_deref(), Some("the fixture"));
    engine.close().await;
}

#[tokio::test]
async fn a_store_of_format_2_with_values_apart_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    to_folder(FIXTURE_WITH_VALUES_APART, folder.path());
    assert!(FIXTURE_WITH_VALUES_APART.contains("file values-"));
    let engine = open(folder.path(), &clock());
    check(&engine).await;
    check_apart(&engine).await;
    engine.close().await;
}

#[tokio::test]
async fn what_is_written_today_reads_like_the_fixture() {
    let (folder, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = fill(folder.path()).await;
    to_folder(&to_text(folder.path()), copy.path());
    check(&engine).await;
    engine.close().await;
    let engine = open(copy.path(), &clock());
    check(&engine).await;
    check_apart(&engine).await;
    engine.close().await;
}

#[tokio::test]
#[ignore = "writes the fixture of a new format; the fixtures of released formats stay as they are"]
async fn write_the_fixture() {
    let folder = tempfile::tempdir().unwrap();
    let engine = fill(folder.path()).await;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-new.txt");
    fs::write(path, to_text(folder.path())).unwrap();
    engine.close().await;
}
