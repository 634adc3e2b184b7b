//! Asking by `GET /dapr/subscribe`.

use super::{Asked, listing};
use crate::{deliver::answer::clip, names};
use http::{Request, StatusCode, header::ACCEPT};
use outrigger_calls::{AppChannel, body};
use outrigger_kernel::{Deadline, World, within};

/// Largest answer.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

pub(super) async fn ask(channel: &AppChannel, deadline: Deadline, world: &dyn World) -> Asked {
    let request = Request::get(names::SUBSCRIBE_PATH).header(ACCEPT, names::JSON);
    let request = match request.body(body::empty()) {
        Ok(request) => request,
        Err(error) => return Asked::Refused(error.to_string()),
    };
    // Past the concurrency limit: an app that is busy with calls is asked nevertheless.
    let exchange = async {
        let response =
            channel.probe(request, deadline).await.map_err(|e| Asked::Away(e.to_string()))?;
        let (parts, content) = response.into_parts();
        let content =
            body::collect(content, ANSWER_BYTES_MAX).await.map_err(|error| match error {
                body::CollectError::TooLong { .. } => Asked::Refused(error.to_string()),
                body::CollectError::Broken(_) => Asked::Away(error.to_string()),
            })?;
        Ok((parts.status, content))
    };
    let (status, content) = match within(world, deadline, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(asked)) => return asked,
        Err(elapsed) => return Asked::Away(elapsed.to_string()),
    };
    if status.is_success() {
        return match listing::read(&content) {
            Ok(list) => Asked::Wants(list),
            Err(reason) => {
                Asked::Refused(format!("GET {} answered {reason}", names::SUBSCRIBE_PATH))
            }
        };
    }
    let said = String::from_utf8_lossy(&content);
    let reason = format!("GET {} answered {status}: {}", names::SUBSCRIBE_PATH, clip(&said));
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Asked::Wants(Vec::new()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            Asked::Troubled(reason)
        }
        status if status.is_server_error() => Asked::Troubled(reason),
        _ => Asked::Refused(reason),
    }
}
