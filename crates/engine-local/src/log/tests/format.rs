//! The bytes on disk are those of docs/reference/storage-format.md, to the last one: a change here is a new version of the
//! format.

use super::{STORE, shared, small};
use crate::log::{
    Frame, Log, Position,
    segment::{FRAMES_START, name},
};
use bytes::Bytes;
use outrigger_kernel::Wall;
use outrigger_keyspace::{
    CommitId, Committed, KeyRange, Value,
    sequencer::{Change, Plan},
};
use outrigger_sim::disk::SimDisk;

fn hex(bytes: &[u8]) -> String {
    bytes.chunks(8).map(|word| word.iter().map(|byte| format!("{byte:02x}")).collect()).fold(
        String::new(),
        |text: String, word: String| if text.is_empty() { word } else { text + " " + &word },
    )
}

/// The two commits of the document's example.
fn example() -> [Plan; 2] {
    let time = 1_790_000_000_000;
    [
        Plan {
            committed: Committed { revision: 1, time: Wall(time) },
            id: None,
            clears: Vec::new(),
            changes: vec![Change {
                key: Bytes::from_static(b"a"),
                value: Some(Value {
                    bytes: Bytes::from_static(b"one"),
                    revision: 1,
                    expires_at: None,
                }),
            }],
        },
        Plan {
            committed: Committed { revision: 2, time: Wall(time + 5) },
            id: Some(CommitId(*b"0123456789abcdef")),
            clears: vec![KeyRange::new("b", "c")],
            changes: vec![
                Change { key: Bytes::from_static(b"a"), value: None },
                Change {
                    key: Bytes::from_static(b"d"),
                    value: Some(Value {
                        bytes: Bytes::from_static(b"x"),
                        revision: 2,
                        expires_at: Some(Wall(time + 65)),
                    }),
                },
            ],
        },
    ]
}

#[test]
fn the_bytes_are_those_of_the_document() {
    let disk = SimDisk::new(1);
    let mut log = Log::create(shared(&disk), STORE, small(8_192, 8_192)).unwrap();
    let mut frame = Frame::default();
    for plan in &example() {
        frame.push(plan);
    }
    log.append(&mut frame).unwrap();
    log.close().unwrap();
    let bytes = disk.bytes(&name(1)).unwrap();
    let start = FRAMES_START as usize;
    let written = [&bytes[..64], &bytes[start..start + 88], &bytes[start + 88..start + 128]];
    let document = include_str!("../../../../../docs/reference/storage-format.md");
    for part in written {
        for line in part.chunks(16) {
            assert!(document.contains(&hex(line)), "{} is in the document", hex(line));
        }
    }
    assert!(bytes[64..start].iter().chain(&bytes[start + 128..]).all(|byte| *byte == 0));
    let mut read = Vec::new();
    Log::open(shared(&disk), STORE, Position::START, 1, small(8_192, 8_192), &mut |plan| {
        read.push(plan);
        Ok::<_, crate::log::LogError>(())
    })
    .unwrap();
    assert_eq!(read, example());
}
