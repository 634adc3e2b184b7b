//! The two directions of a connection, each of them by itself.
//!
//! A Unix socket tells whoever waits at it also when the other side has *read*: there is room again. A socket that is
//! registered for both directions is woken twice per exchange for nothing, in the middle of it, on a processor that the
//! other side needs just then. So the way in is registered for what comes in, and the way out not at all until it is full.

use outrigger_kernel::BoxFuture;
use std::{
    io::{self, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net},
    sync::{Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::net::{UnixStream, unix::pipe};

/// What comes in. Read like a pipe, which is a thing that is only read from.
pub(crate) type Ear = pipe::Receiver;

/// What goes out.
pub(crate) struct Mouth {
    socket: net::UnixStream,
    /// Waits for room, when there is none.
    room: Mutex<Option<BoxFuture<'static, io::Result<()>>>>,
}

/// Takes a connection apart.
pub(crate) fn split(stream: UnixStream) -> io::Result<(Ear, Mouth)> {
    // Stays one that never blocks.
    let socket = stream.into_std()?;
    let ear = Ear::from_owned_fd_unchecked(OwnedFd::from(socket.try_clone()?))?;
    Ok((ear, Mouth { socket, room: Mutex::default() }))
}

impl Mouth {
    /// Writes what there is room for; [`io::ErrorKind::WouldBlock`] where there is none.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&self.socket).write(bytes)
    }

    /// Waits until there may be room. For one task at a time.
    pub(crate) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = match &mut *room {
            Some(waiting) => waiting,
            none => {
                let socket = OwnedFd::from(self.socket.try_clone()?);
                // Told at once if there is some by now.
                let sender = pipe::Sender::from_owned_fd_unchecked(socket)?;
                none.insert(Box::pin(async move { sender.writable().await }))
            }
        };
        let ready = waiting.as_mut().poll(cx);
        if ready.is_ready() {
            *room = None;
        }
        ready
    }

    /// Ends the connection for both sides, whoever still holds an end of it here.
    pub(crate) fn hang_up(&self) {
        // One that has ended already needs no end.
        let _ended: io::Result<()> = self.socket.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use super::split;
    use futures_util::poll;
    use std::{future::poll_fn, io::ErrorKind, pin::pin, task::Poll};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    #[tokio::test]
    async fn what_is_said_is_heard_and_a_full_socket_is_waited_for() {
        let (one, mut other) = UnixStream::pair().unwrap();
        let (mut ear, mouth) = split(one).unwrap();
        other.write_all(b"hello").await.unwrap();
        let mut heard = [0; 5];
        ear.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        for _ in 0..3 {
            let mut said = 0;
            loop {
                match mouth.try_write(&[7; 10_000]) {
                    Ok(bytes) => said += bytes,
                    Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
                }
            }
            let mut room = pin!(poll_fn(|cx| mouth.poll_room(cx)));
            assert!(matches!(poll!(&mut room), Poll::Pending));
            let mut read = vec![0; said];
            other.read_exact(&mut read).await.unwrap();
            room.await.unwrap();
        }
        mouth.hang_up();
        assert_eq!(other.read(&mut heard).await.unwrap(), 0);
        assert_eq!(ear.read(&mut heard).await.unwrap(), 0);
        assert!(mouth.try_write(b"x").is_err());
    }
}
