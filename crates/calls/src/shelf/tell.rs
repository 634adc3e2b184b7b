//! What a caller is told of where its answer comes from, and how a body is read that is to be kept.

use crate::{Body, BoxError, body};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use outrigger_kernel::Mono;
use outrigger_resilience::cache::{Directives, Hit};

/// What a cache on the way did (RFC 9211); each adds itself.
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");
/// Says that an answer is not what the target says now.
pub(crate) const DEGRADED: HeaderName = HeaderName::from_static("outrigger-degraded");

pub(super) fn status(answer: &mut Response<Body>, says: &str) {
    if let Ok(value) = HeaderValue::try_from(format!("outrigger; {says}")) {
        answer.headers_mut().append(CACHE_STATUS, value);
    }
}

fn answer(hit: &Hit<Bytes>) -> Response<Body> {
    let stored = &hit.stored;
    let content = if hit.not_modified { body::empty() } else { body::full(stored.body.clone()) };
    let mut answer = Response::new(content);
    *answer.status_mut() = if hit.not_modified { StatusCode::NOT_MODIFIED } else { stored.status };
    *answer.headers_mut() = stored.headers.clone();
    if hit.not_modified {
        answer.headers_mut().remove(header::CONTENT_LENGTH);
    }
    answer.headers_mut().insert(header::AGE, HeaderValue::from(hit.age.as_secs()));
    answer
}

fn ttl(hit: &Hit<Bytes>, now: Mono) -> String {
    let left = hit.stored.fresh_left(now).as_secs();
    if hit.late.is_zero() { format!("ttl={left}") } else { format!("ttl=-{}", hit.late.as_secs()) }
}

/// From the cache, and nobody was asked.
pub(super) fn hit(hit: &Hit<Bytes>, now: Mono) -> Response<Body> {
    let mut answer = answer(hit);
    status(&mut answer, &format!("hit; {}", ttl(hit, now)));
    answer
}

/// Asked for just now.
pub(super) fn loaded(
    hit: &Hit<Bytes>,
    now: Mono,
    confirmed: bool,
    collapsed: bool,
) -> Response<Body> {
    let mut answer = answer(hit);
    let fwd = if confirmed { "fwd=stale; fwd-status=304" } else { "fwd=miss; stored" };
    let collapsed = if collapsed { "; collapsed" } else { "" };
    status(&mut answer, &format!("{fwd}; {}{collapsed}", ttl(hit, now)));
    answer
}

/// From the cache, because the target failed.
pub(super) fn rescued(hit: &Hit<Bytes>, now: Mono, with: Option<StatusCode>) -> Response<Body> {
    let mut answer = answer(hit);
    let with = with.map(|with| format!("; fwd-status={}", with.as_u16())).unwrap_or_default();
    status(&mut answer, &format!("fwd=stale{with}; {}", ttl(hit, now)));
    answer.headers_mut().insert(DEGRADED, HeaderValue::from_static("stale"));
    answer
}

/// Not kept, and for all who waited.
pub(super) fn shared(whole: &Response<Bytes>, collapsed: bool) -> Response<Body> {
    let mut answer = Response::new(body::full(whole.body().clone()));
    *answer.status_mut() = whole.status();
    *answer.headers_mut() = whole.headers().clone();
    let collapsed = if collapsed { "; collapsed" } else { "" };
    status(&mut answer, &format!("fwd=miss; stored=?0{collapsed}"));
    answer
}

/// Whether the headers of an answer say that nobody is to keep it.
pub(crate) fn is_private_matter(headers: &HeaderMap) -> bool {
    Directives::of(headers).no_store
}

/// Reads a body of at most `limit` bytes into memory. One that is longer, or that ends in trailers, which belong to its
/// first reader, comes back as it was.
pub(crate) async fn gather(mut body: Body, limit: usize) -> Result<Result<Bytes, Body>, BoxError> {
    if body.size_hint().lower() > limit as u64 {
        return Ok(Err(body));
    }
    let (mut frames, mut bytes) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame?;
        bytes += frame.data_ref().map_or(limit.saturating_add(1), Bytes::len);
        frames.push(frame);
        if bytes > limit {
            let read = stream::iter(frames.into_iter().map(Ok));
            let rest = read.chain(BodyStream::new(body));
            return Ok(Err(body::streamed(StreamBody::new(rest))));
        }
    }
    Ok(Ok(joined(frames, bytes)))
}

fn joined(frames: Vec<Frame<Bytes>>, bytes: usize) -> Bytes {
    let mut pieces = frames.into_iter().filter_map(|frame| frame.into_data().ok());
    let first = pieces.next().unwrap_or_default();
    // Most bodies come in one piece, which is then kept as it is.
    if first.len() == bytes {
        return first;
    }
    let mut whole = BytesMut::with_capacity(bytes);
    whole.extend_from_slice(&first);
    pieces.for_each(|piece| whole.extend_from_slice(&piece));
    whole.freeze()
}
