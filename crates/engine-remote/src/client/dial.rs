//! Finding out who holds the folder, and greeting them.

use super::Line;
use crate::{
    bounds::TEXT_BYTES_MAX,
    place::{self, Place},
    socket::Ear,
    wire::{self, Answer, Pulse},
};
use outrigger_kernel::{Deadline, World, within};
use std::{io, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// Longest first frame: some numbers and a text.
const FIRST_BYTES_MAX: usize = TEXT_BYTES_MAX + 128;

/// What became of an attempt to reach a holder.
pub(crate) enum Dialed {
    Line(Arc<Line>, Ear, Pulse),
    /// Nobody listens, or whoever does has no time.
    Nobody(io::Error),
    /// The holder is another release.
    Version(u32),
    /// The holder is another user.
    Stranger(u32),
}

/// Connects to whoever serves `place`.
pub(crate) async fn dial(place: &Place, world: &dyn World, until: Deadline) -> Dialed {
    let dialed = async {
        let mut stream = place.connect().await?;
        if let Some(uid) = place::stranger(&stream)? {
            return Ok(Dialed::Stranger(uid));
        }
        stream.write_all(&wire::greeting(wire::VERSION)).await?;
        let mut theirs = [0; wire::GREETING_BYTES];
        stream.read_exact(&mut theirs).await?;
        Ok(match wire::greeted(theirs).map_err(io::Error::other)? {
            wire::VERSION => {
                let pulse = first_frame(&mut stream).await?;
                let (line, ear) = Line::new(stream)?;
                Dialed::Line(line, ear, pulse)
            }
            version => Dialed::Version(version),
        })
    };
    match within(world, until, dialed).await {
        Ok(Ok(dialed)) => dialed,
        Ok(Err(error)) => Dialed::Nobody(error),
        Err(elapsed) => Dialed::Nobody(io::Error::other(elapsed)),
    }
}

/// The first thing a holder says after its greeting.
async fn first_frame(stream: &mut UnixStream) -> io::Result<Pulse> {
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    let mut frame = vec![0; length.min(FIRST_BYTES_MAX)];
    stream.read_exact(&mut frame).await?;
    match Answer::take(&frame).map_err(io::Error::other)? {
        Answer::Pulse(pulse) => Ok(pulse),
        Answer::Refused { why } => Err(io::Error::other(why)),
        _ => Err(io::Error::other("the connection begins with an answer to nothing")),
    }
}
