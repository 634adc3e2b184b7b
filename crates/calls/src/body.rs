//! Bodies: what flows through a call, both ways, without ever being held whole.
//!
//! One erased type for all of them, so that a body can come from a socket, from memory or from a test and nobody on the
//! way has to care. Data and trailers pass; back-pressure is the pull of whoever polls.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty, Full, combinators::UnsyncBoxBody};

/// An error of unknown origin.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request or response body.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body without content.
#[must_use]
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of known content, which can be sent again if the first attempt fails.
#[must_use]
pub fn full(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body that comes from somewhere else, piece by piece.
#[must_use]
pub fn streamed<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// It is longer than allowed.
    #[error("the body is longer than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// It ended in an error.
    #[error("the body ended early: {0}")]
    Broken(BoxError),
}

/// Reads a body of at most `limit` bytes into memory; trailers are dropped.
///
/// # Errors
/// [`CollectError`] when it is longer or ends in an error.
pub async fn collect(mut body: Body, limit: usize) -> Result<Bytes, CollectError> {
    let too_long = || CollectError::TooLong { limit };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_long());
    }
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(CollectError::Broken)?.into_data() else { continue };
        if data.len() > limit.saturating_sub(first.len() + rest.len()) {
            return Err(too_long());
        }
        // Most bodies come in one piece, which is then handed on as it is.
        if first.is_empty() && rest.is_empty() {
            first = data;
        } else {
            if !first.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

#[cfg(test)]
mod tests {
    use super::{CollectError, collect, empty, full, streamed};
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn pieces(pieces: &'static [&'static str]) -> super::Body {
        let frames = pieces.iter().map(|p| Ok::<_, std::io::Error>(Frame::data(Bytes::from(*p))));
        streamed(StreamBody::new(futures_util::stream::iter(frames)))
    }

    #[tokio::test]
    async fn collects_what_fits_and_nothing_more() {
        assert_eq!(collect(empty(), 0).await.unwrap(), "");
        assert_eq!(collect(full("whole"), 5).await.unwrap(), "whole");
        assert_eq!(collect(pieces(&["a", "", "bc", "d"]), 4).await.unwrap(), "abcd");
        assert!(matches!(collect(full("whole"), 4).await, Err(CollectError::TooLong { .. })));
        let body = pieces(&["ab", "cd"]);
        assert!(matches!(collect(body, 3).await, Err(CollectError::TooLong { limit: 3 })));
    }
}
