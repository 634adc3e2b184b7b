//! Who is let in, and what happens to those who speak nonsense.

use super::{connect, put, serve, text, write};
use crate::{
    Remote, ShareError,
    bounds::{CONNECTIONS_MAX, FRAME_BYTES_MAX},
    place::Place,
    wire::{GREETING_BYTES, VERSION, greeting},
};
use outrigger_kernel::World;
use outrigger_keyspace::memory::Memory;
use outrigger_sim::SimWorld;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

fn served() -> (TempDir, Arc<dyn World>, Place) {
    let folder = tempfile::tempdir().unwrap();
    let world: Arc<dyn World> = SimWorld::new(1);
    serve(folder.path(), Memory::new(world.clone()), &world);
    let place = Place::of_folder(folder.path());
    (folder, world, place)
}

/// What the server says to `bytes` until it hangs up.
async fn said(place: &Place, bytes: &[u8]) -> Vec<u8> {
    let mut stream = place.connect().await.unwrap();
    // A server that hangs up before all is written has made up its mind.
    let _hung_up = stream.write_all(bytes).await;
    let mut said = Vec::new();
    let _reset = stream.read_to_end(&mut said).await;
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_version_is_refused_by_both_sides() {
    let (_folder, world, place) = served();
    let answer = said(&place, &greeting(VERSION + 1)).await;
    assert_eq!(answer, greeting(VERSION), "the version, and nothing else");

    let folder = tempfile::tempdir().unwrap();
    let listener = Place::of_folder(folder.path()).listen().unwrap();
    let newer = async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        stream.write_all(&greeting(VERSION + 1)).await.unwrap();
    };
    let (refused, ()) = tokio::join!(Remote::connect(folder.path(), world), newer);
    let refused = refused.unwrap_err();
    assert!(matches!(refused, ShareError::Version { theirs } if theirs == VERSION + 1));
    assert!(refused.to_string().contains("version 2"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_speaks_nonsense_is_hung_up_on_and_others_go_on() {
    let (folder, world, place) = served();
    let remote = connect(folder.path(), &world).await;
    assert_eq!(said(&place, b"GET / HTTP/1.1\r\n\r\n").await, greeting(VERSION));
    let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap().to_le_bytes();
    for nonsense in [&too_long[..], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 4, 0x80], &[0; 4]] {
        let mut bytes = greeting(VERSION).to_vec();
        bytes.extend_from_slice(nonsense);
        let answer = said(&place, &bytes).await;
        assert!(answer.starts_with(&greeting(VERSION)), "{nonsense:?}");
    }
    write(&*remote, vec![put("a", "1")]).await.unwrap();
    assert_eq!(text(&*remote, "a").await.as_deref(), Some(&b"1"[..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_bounded() {
    let (folder, world, place) = served();
    let mut streams: Vec<UnixStream> = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = place.connect().await.unwrap();
        stream.write_all(&greeting(VERSION)).await.unwrap();
        stream.read_exact(&mut [0; GREETING_BYTES]).await.unwrap();
        streams.push(stream);
    }
    let refused = Remote::connect(folder.path(), world.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("256 connections"), "{refused}");
    drop(streams);
    // The server takes a moment to notice.
    while Remote::connect(folder.path(), world.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
}
