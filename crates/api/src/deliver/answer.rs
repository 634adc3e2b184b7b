//! What an app's answer means for the message it was given.
//!
//! | HTTP answer | verdict |
//! |---|---|
//! | 2xx without a body, or with one that is no JSON object | done |
//! | 2xx with `status` absent, empty or `SUCCESS` | done |
//! | 2xx with `status` `DROP` | given up |
//! | 2xx with `status` `RETRY` or any other word | again |
//! | 404 | given up: nobody will ever listen there |
//! | anything else | again, unless the policy's status list leaves it out: then given up |
//!
//! | gRPC answer | verdict |
//! |---|---|
//! | `SUCCESS`, `DROP` | done, given up |
//! | `RETRY` or an unknown number | again |
//! | `UNIMPLEMENTED` | given up |
//! | any other error | again, unless the policy's status list leaves it out |
//!
//! In a bulk a missing or empty status means "again": an app that says nothing of a message has not handled it.

use http::StatusCode;
use outrigger_events::Verdict;
use outrigger_proto::runtime::v1::{
    self as pb, topic_event_response::TopicEventResponseStatus as Status,
};
use outrigger_resilience::{Class, Matching};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Largest answer to one event; what is longer is not a status, and counts as no JSON.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Largest answer to a bulk.
pub(crate) const BULK_ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

const SUCCESS: &str = "SUCCESS";
const RETRY: &str = "RETRY";
const DROP: &str = "DROP";

/// The verdict on one event that was posted.
pub(crate) fn of_http(status: StatusCode, body: &[u8], matching: Option<&Matching>) -> Verdict {
    if !status.is_success() {
        return of_refusal(status, matching);
    }
    let Ok(Value::Object(answer)) = serde_json::from_slice(body) else { return Verdict::Ack };
    match field(&answer, "status") {
        None | Some(Value::Null) => Verdict::Ack,
        Some(Value::String(word)) => of_word(word),
        // Not a status of ours, so the body is whatever the app answers to everybody.
        Some(_) => Verdict::Ack,
    }
}

/// The verdict that an HTTP status other than 2xx is.
fn of_refusal(status: StatusCode, matching: Option<&Matching>) -> Verdict {
    if status == StatusCode::NOT_FOUND {
        return Verdict::drop("the app answered 404: it has no such path");
    }
    let reason = format!("the app answered {status}");
    again_if_allowed(matching, Class::Http(status.as_u16()), reason)
}

fn of_word(word: &str) -> Verdict {
    match word {
        "" | SUCCESS => Verdict::Ack,
        RETRY => Verdict::retry("the app answered RETRY"),
        DROP => Verdict::drop("the app answered DROP"),
        other => {
            Verdict::retry(format!("the app answered with the unknown status {:?}", clip(other)))
        }
    }
}

/// The verdicts on a bulk that was posted, one for each of `ids`.
pub(crate) fn of_http_bulk(
    status: StatusCode,
    body: &[u8],
    ids: &[String],
    matching: Option<&Matching>,
) -> Vec<Verdict> {
    if !status.is_success() {
        return vec![of_refusal(status, matching); ids.len()];
    }
    let statuses = match serde_json::from_slice(body) {
        Ok(Value::Object(answer)) => field(&answer, "statuses").and_then(Value::as_array).cloned(),
        _ => None,
    };
    let Some(statuses) = statuses else {
        return vec![Verdict::retry("the app's answer has no list of statuses"); ids.len()];
    };
    let entry = |entry: &Value| {
        let entry = entry.as_object()?;
        let id = field(entry, "entryId")?.as_str()?.to_owned();
        Some((id, field(entry, "status").and_then(Value::as_str).unwrap_or_default().to_owned()))
    };
    let said: HashMap<String, String> = statuses.iter().filter_map(entry).collect();
    let verdict = |id: &String| match said.get(id).map(String::as_str) {
        None | Some("") => Verdict::retry("the app's answer has no status for this event"),
        Some(word) => of_word(word),
    };
    ids.iter().map(verdict).collect()
}

/// The verdict that a number of a gRPC answer is.
pub(crate) fn of_grpc(status: i32) -> Verdict {
    match Status::try_from(status) {
        Ok(Status::Success) => Verdict::Ack,
        Ok(Status::Retry) => Verdict::retry("the app answered RETRY"),
        Ok(Status::Drop) => Verdict::drop("the app answered DROP"),
        Err(_) => Verdict::retry(format!("the app answered with the unknown status {status}")),
    }
}

/// The verdict that a gRPC error is.
pub(crate) fn of_grpc_error(error: &tonic::Status, matching: Option<&Matching>) -> Verdict {
    let reason = format!("the app answered {:?}: {}", error.code(), clip(error.message()));
    if error.code() == tonic::Code::Unimplemented {
        return Verdict::drop(reason);
    }
    let code = u16::try_from(i32::from(error.code())).unwrap_or_default();
    again_if_allowed(matching, Class::Grpc(code), reason)
}

/// The verdicts on a bulk sent by gRPC, one for each of `ids`.
pub(crate) fn of_grpc_bulk(answer: pb::TopicEventBulkResponse, ids: &[String]) -> Vec<Verdict> {
    let said: HashMap<String, i32> =
        answer.statuses.into_iter().map(|entry| (entry.entry_id, entry.status)).collect();
    let verdict = |id: &String| match said.get(id) {
        Some(status) => of_grpc(*status),
        None => Verdict::retry("the app's answer has no status for this event"),
    };
    ids.iter().map(verdict).collect()
}

fn again_if_allowed(matching: Option<&Matching>, class: Class, reason: String) -> Verdict {
    if matching.is_none_or(|matching| matching.has(class)) {
        return Verdict::retry(reason);
    }
    Verdict::drop(format!("{reason}, which the policy does not retry"))
}

/// A member of a JSON object; letter case does not matter, as it does not for the clients' own readers.
pub(crate) fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).or_else(|| {
        object.iter().find(|(member, _)| member.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    })
}

/// The beginning of a text of unknown length, for a reason that people read.
pub(crate) fn clip(text: &str) -> &str {
    let end = text.char_indices().nth(200).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::{of_grpc, of_grpc_error, of_http, of_http_bulk};
    use http::StatusCode;
    use outrigger_events::Verdict;
    use outrigger_resilience::Matching;

    fn word(verdict: &Verdict) -> &'static str {
        match verdict {
            Verdict::Ack => "done",
            Verdict::Retry { .. } => "again",
            Verdict::Drop { .. } => "given up",
        }
    }

    #[test]
    fn http_answers() {
        for (status, body, expected) in [
            (200, "", "done"),
            (204, "", "done"),
            (299, "OK", "done"),
            (200, "[1]", "done"),
            (200, "{\"status\":", "done"),
            (200, "{}", "done"),
            (200, r#"{"status":""}"#, "done"),
            (200, r#"{"status":null}"#, "done"),
            (200, r#"{"status":7}"#, "done"),
            (200, r#"{"status":"SUCCESS"}"#, "done"),
            (200, r#"{"Status":"RETRY"}"#, "again"),
            (200, r#"{"status":"DROP"}"#, "given up"),
            (200, r#"{"status":"drop"}"#, "again"),
            (200, r#"{"status":"WHAT"}"#, "again"),
            (404, "", "given up"),
            (302, "", "again"),
            (400, "", "again"),
            (500, r#"{"status":"SUCCESS"}"#, "again"),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            let verdict = of_http(code, body.as_bytes(), None);
            assert_eq!(word(&verdict), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_policy_names_what_is_worth_another_attempt() {
        let matching = Matching::parse("500-599", "14").unwrap();
        for (status, expected) in [(503, "again"), (400, "given up"), (404, "given up")] {
            let code = StatusCode::from_u16(status).unwrap();
            assert_eq!(word(&of_http(code, b"", Some(&matching))), expected, "{status}");
        }
        let unavailable = tonic::Status::unavailable("busy");
        assert_eq!(word(&of_grpc_error(&unavailable, Some(&matching))), "again");
        let refused = tonic::Status::invalid_argument("no");
        assert_eq!(word(&of_grpc_error(&refused, Some(&matching))), "given up");
    }

    #[test]
    fn grpc_answers() {
        for (status, expected) in [(0, "done"), (1, "again"), (2, "given up"), (9, "again")] {
            assert_eq!(word(&of_grpc(status)), expected, "{status}");
        }
        assert_eq!(word(&of_grpc_error(&tonic::Status::unimplemented(""), None)), "given up");
        assert_eq!(word(&of_grpc_error(&tonic::Status::internal(""), None)), "again");
    }

    #[test]
    fn bulk_answers() {
        let ids: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        let body = r#"{"statuses":[{"entryId":"a","status":"SUCCESS"},{"entryId":"b","status":"DROP"},
            {"entryId":"c","status":""},{"entryId":"e"},{"entryId":7},"x",{"entryId":"z","status":"DROP"}]}"#;
        let verdicts = of_http_bulk(StatusCode::OK, body.as_bytes(), &ids, None);
        let words: Vec<_> = verdicts.iter().map(word).collect();
        assert_eq!(words, ["done", "given up", "again", "again", "again"]);
        for (status, body, expected) in [
            (200, "", "again"),
            (200, "{}", "again"),
            (200, r#"{"statuses":{}}"#, "again"),
            (404, "", "given up"),
            (500, "", "again"),
        ] {
            let code = StatusCode::from_u16(status).unwrap();
            let verdicts = of_http_bulk(code, body.as_bytes(), &ids, None);
            assert!(verdicts.iter().all(|v| word(v) == expected), "{status} {body}");
        }
    }
}
