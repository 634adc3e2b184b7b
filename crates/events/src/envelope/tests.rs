//! Envelopes, as tables of cases.

use super::{BulkEntry, Envelope, EnvelopeError, Names, Origin, bulk, fresh_id, is_content_type};
use bytes::Bytes;
use outrigger_kernel::Wall;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn names() -> Names {
    Names { event_type: "com.example.sent".to_owned(), source: "Example".to_owned() }
}

fn origin() -> Origin<'static> {
    Origin {
        id: "the-id",
        source: "the-app",
        topic: "orders",
        broker: "pubsub",
        trace_parent: Some(TRACE),
        trace_state: Some("vendor=1"),
        time: Wall(1_767_225_600_000),
        expires_at: None,
    }
}

fn wrap_with(content_type: &str, data: &[u8], metadata: &[(&str, &str)]) -> String {
    let owned = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    let metadata: BTreeMap<String, String> = metadata.iter().map(owned).collect();
    let data = Bytes::copy_from_slice(data);
    let envelope = names().wrap(&origin(), content_type, &data, &metadata).unwrap();
    String::from_utf8(envelope.to_vec()).unwrap()
}

fn wrap(content_type: &str, data: &[u8]) -> Value {
    serde_json::from_str(&wrap_with(content_type, data, &[])).unwrap()
}

fn parse(json: &str) -> Envelope {
    Envelope::parse(&Bytes::copy_from_slice(json.as_bytes())).unwrap()
}

#[test]
fn a_payload_is_wrapped_whole() {
    assert_eq!(
        wrap("application/json; charset=utf-8", br#"{"b":1,"a":[2]}"#),
        json!({
            "id": "the-id",
            "source": "the-app",
            "type": "com.example.sent",
            "specversion": "1.0",
            "datacontenttype": "application/json; charset=utf-8",
            "time": "2026-01-01T00:00:00Z",
            "topic": "orders",
            "pubsubname": "pubsub",
            "traceid": TRACE,
            "traceparent": TRACE,
            "tracestate": "vendor=1",
            "data": {"b": 1, "a": [2]},
        })
    );
    let bare = Origin { source: "", trace_parent: None, trace_state: None, ..origin() };
    let bare = Origin { expires_at: Some(Wall(1_767_225_660_000)), ..bare };
    let envelope = names().wrap(&bare, "", &"hi".into(), &BTreeMap::new()).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&envelope).unwrap(),
        json!({
            "id": "the-id",
            "source": "Example",
            "type": "com.example.sent",
            "specversion": "1.0",
            "datacontenttype": "text/plain",
            "time": "2026-01-01T00:00:00Z",
            "topic": "orders",
            "pubsubname": "pubsub",
            "expiration": "2026-01-01T00:01:00Z",
            "data": "hi",
        })
    );
}

#[test]
fn the_content_type_says_how_the_payload_is_kept() {
    for (content_type, data, member, expected) in [
        (
            "application/json",
            &br#" {"z":1,"a":12345678901234567890.10} "#[..],
            "data",
            json!({"z": 1, "a": 12_345_678_901_234_567_890.10_f64}),
        ),
        ("APPLICATION/JSON", b"[1,2]", "data", json!([1, 2])),
        ("application/json", b"\"text\"", "data", json!("text")),
        ("application/json", b"null", "data", json!(null)),
        ("application/json", b"{broken", "data", json!("{broken")),
        ("application/json", b"", "data", json!("")),
        ("application/json", b"{\"a\":\"\xff\"}", "data_base64", json!("eyJhIjoi/yJ9")),
        ("application/vnd.api+json", b"{}", "data", json!("{}")),
        ("text/plain", b"quote \" and \n", "data", json!("quote \" and \n")),
        ("", b"{}", "data", json!("{}")),
        ("image/png", b"\x89PNG", "data_base64", json!("iVBORw==")),
        ("application/octet-stream", b"abc", "data_base64", json!("YWJj")),
        ("application/cloudevents+protobuf", b"abc", "data_base64", json!("YWJj")),
    ] {
        let envelope = wrap(content_type, data);
        assert_eq!(envelope.get(member), Some(&expected), "{content_type} {data:?}");
        let other = if member == "data" { "data_base64" } else { "data" };
        assert_eq!(envelope.get(other), None, "{content_type} {data:?}");
    }
}

#[test]
fn embedded_json_is_kept_letter_by_letter() {
    let data = r#"{"z":1.00,"a":123456789012345678901234567890, "z":2}"#;
    let envelope = wrap_with("application/json", data.as_bytes(), &[]);
    assert!(envelope.ends_with(&format!("\"data\":{data}}}")), "{envelope}");
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let envelope = wrap_with("application/json", deep.as_bytes(), &[]);
    assert!(envelope.ends_with(&format!("\"data\":{deep}}}")));
    // Too deep for a tree, but neither an error nor a crash.
    assert_eq!(parse(&envelope).to_value().get("data"), None);
}

#[test]
fn metadata_overrides_attributes() {
    let other = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00";
    let envelope = wrap_with(
        "text/plain",
        b"x",
        &[
            ("cloudevent.id", "mine"),
            ("CloudEvent.Source", "me"),
            ("cloudevent.type", "t"),
            ("cloudevent.subject", "s"),
            ("cloudevent.traceid", "ignored, because of the next"),
            ("cloudevent.traceparent", other),
            ("cloudevent.tracestate", "v=2"),
            ("cloudevent.datacontenttype", "cannot/be"),
            ("rawPayload", "true"),
        ],
    );
    let envelope = parse(&envelope);
    for (name, expected) in [
        ("id", "mine"),
        ("source", "me"),
        ("type", "t"),
        ("subject", "s"),
        ("traceid", other),
        ("traceparent", other),
        ("tracestate", "v=2"),
        ("datacontenttype", "text/plain"),
    ] {
        assert_eq!(envelope.text(name).as_deref(), Some(expected), "{name}");
    }
    let envelope = parse(&wrap_with(
        "text/plain",
        b"x",
        &[("cloudevent.traceid", other), ("cloudevent.id", "")],
    ));
    assert_eq!(envelope.text("traceparent").as_deref(), Some(other));
    assert_eq!(envelope.id(), "the-id", "nothing overrides nothing");
}

#[test]
fn a_cloudevent_is_taken_as_it_is() {
    let event = r#"{"specversion":"1.0","id":"i","source":"s","type":"t","x":{"n":1.00},"traceparent":"theirs","time":"2020-01-01T00:00:00Z","data":{"a":1.0}}"#;
    let envelope = wrap_with(
        "application/cloudevents+json; charset=utf-8",
        event.as_bytes(),
        &[("cloudevent.id", "no")],
    );
    let (kept, added) = envelope.split_at(event.len() - 1);
    assert_eq!(kept, &event[..event.len() - 1]);
    assert_eq!(added, r#","topic":"orders","pubsubname":"pubsub"}"#);
}

#[test]
fn only_what_is_missing_is_added() {
    let event = r#"{"id":null,"type":7,"traceparent":12345,"topic":"elsewhere","data":"x"}"#;
    let envelope: Value =
        serde_json::from_str(&wrap_with("application/cloudevents+json", event.as_bytes(), &[]))
            .unwrap();
    assert_eq!(
        envelope,
        json!({
            "id": "the-id",
            "type": 7,
            "traceparent": 12345,
            "topic": "orders",
            "pubsubname": "pubsub",
            "source": "the-app",
            "specversion": "1.0",
            "time": "2026-01-01T00:00:00Z",
            "data": "x",
        })
    );
    let envelope = parse(&wrap_with("application/cloudevents+json", b"{}", &[]));
    assert_eq!(envelope.trace_parent().as_deref(), Some(TRACE));
    assert_eq!(envelope.trace_state().as_deref(), Some("vendor=1"));
}

#[test]
fn what_is_no_object_is_no_cloudevent() {
    for bad in ["", "[]", "1", "\"x\"", "null", "{", "{\"a\":}", "{} x", "{1:2}", "{\"a\":\"\\x\"}"]
    {
        let data = Bytes::copy_from_slice(bad.as_bytes());
        let error = names().wrap(&origin(), super::CONTENT_TYPE, &data, &BTreeMap::new());
        assert!(matches!(error, Err(EnvelopeError::NotAnObject(_))), "{bad}");
        assert!(Envelope::parse(&data).is_err(), "{bad}");
    }
}

#[test]
fn fields_of_the_wrong_type_are_no_accident() {
    let envelope = parse(
        r#"{"id":1,"source":[],"type":null,"traceparent":5,"traceid":{},"expiration":9,"datacontenttype":true,"data":{"a":1}}"#,
    );
    assert_eq!((envelope.id(), envelope.source(), envelope.event_type()), Default::default());
    assert_eq!((envelope.trace_parent(), envelope.trace_state()), (None, None));
    assert!(!envelope.is_expired(Wall(u64::MAX)));
    assert_eq!(envelope.payload().unwrap(), r#"{"a":1}"#);
    assert_eq!(envelope.raw("traceparent"), Some("5"));
    assert_eq!(envelope.to_value()["expiration"], json!(9));
    assert!(!envelope.has("type") && envelope.has("id"));
}

#[test]
fn payloads_come_out_as_they_went_in() {
    for (content_type, data) in [
        ("application/json", &br#"{"a":1.00}"#[..]),
        ("application/json", b"\"text\""),
        ("application/json", b"17"),
        ("text/plain", b"quote \" and \n"),
        ("text/plain", b""),
        ("application/octet-stream", b"\x00\xff"),
        ("image/png", b"\x89PNG"),
        ("application/xml", b"<a/>"),
    ] {
        let envelope = parse(&wrap_with(content_type, data, &[]));
        assert_eq!(&envelope.payload().unwrap()[..], data, "{content_type}");
        assert_eq!(envelope.content_type(), content_type);
    }
    assert_eq!(parse(r#"{"data_base64":"%"}"#).payload(), Err(EnvelopeError::NotBase64));
    assert_eq!(parse("{}").payload().unwrap(), "");
    assert_eq!(parse(r#"{"data":null}"#).payload().unwrap(), "");
}

#[test]
fn expiration_is_an_instant() {
    let expired =
        |text: &str, now| parse(&json!({"expiration": text}).to_string()).is_expired(Wall(now));
    assert!(expired("2026-01-01T00:00:00Z", 1_767_225_600_001));
    assert!(!expired("2026-01-01T00:00:00Z", 1_767_225_600_000));
    assert!(expired("2026-01-01T01:00:00+01:00", 1_767_225_600_001));
    assert!(!expired("soon", u64::MAX));
    assert!(!parse("{}").is_expired(Wall(u64::MAX)));
}

#[test]
fn raw_payloads_become_bytes_in_an_envelope() {
    let envelope = names().wrap_raw("000a0001", "orders", "pubsub", b"\x00raw");
    assert_eq!(
        serde_json::from_slice::<Value>(&envelope).unwrap(),
        json!({
            "id": "000a0001",
            "source": "Example",
            "type": "com.example.sent",
            "specversion": "1.0",
            "datacontenttype": "application/octet-stream",
            "topic": "orders",
            "pubsubname": "pubsub",
            "data_base64": "AHJhdw==",
        })
    );
}

#[test]
fn extensions_are_what_is_not_ours() {
    let envelope = parse(&wrap_with(
        "application/cloudevents+json",
        br#"{"id":"i","mine":{"a":1},"subject":"s"}"#,
        &[],
    ));
    let extensions: BTreeMap<&str, &str> = envelope.extensions().collect();
    assert_eq!(extensions["mine"], r#"{"a":1}"#);
    assert_eq!(extensions["subject"], "\"s\"");
    assert_eq!(extensions["traceparent"], format!("\"{TRACE}\""));
    assert!(!extensions.contains_key("id") && !extensions.contains_key("topic"));
}

#[test]
fn the_last_of_two_members_counts() {
    let envelope = parse(r#"{"id":"a","id":"b"}"#);
    assert_eq!(envelope.id(), "b");
    assert_eq!(envelope.to_value(), json!({"id": "b"}));
    let mut envelope = envelope;
    envelope.set_text("id", "c");
    assert_eq!(envelope.to_json(), r#"{"id":"c"}"#);
}

#[test]
fn several_events_in_one() {
    let entry = |id: &str, event: &str, content_type: &str| BulkEntry {
        entry_id: id.to_owned(),
        event: Bytes::copy_from_slice(event.as_bytes()),
        content_type: content_type.to_owned(),
        metadata: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
    };
    let entries = [
        entry("1", r#"{"id":"i"}"#, "application/cloudevents+json"),
        entry("2", "raw", "application/octet-stream"),
        entry("3", "{broken", "application/cloudevents+json"),
    ];
    let metadata =
        BTreeMap::from([("a".to_owned(), "b\"".to_owned()), ("c".to_owned(), "d".to_owned())]);
    let got = bulk("bulk-id", "com.example.bulk", "orders", "pubsub", &metadata, &entries);
    assert_eq!(
        serde_json::from_slice::<Value>(&got).unwrap(),
        json!({
            "id": "bulk-id",
            "type": "com.example.bulk",
            "topic": "orders",
            "pubsubname": "pubsub",
            "metadata": {"a": "b\"", "c": "d"},
            "entries": [
                {"entryId": "1", "event": {"id": "i"}, "contentType": "application/cloudevents+json", "metadata": {"k": "v"}},
                {"entryId": "2", "event": "cmF3", "contentType": "application/octet-stream", "metadata": {"k": "v"}},
                {"entryId": "3", "event": "e2Jyb2tlbg==", "contentType": "application/cloudevents+json", "metadata": {"k": "v"}},
            ],
        })
    );
    let none = bulk("i", "t", "o", "p", &BTreeMap::new(), &[]);
    assert_eq!(serde_json::from_slice::<Value>(&none).unwrap()["entries"], json!([]));
}

#[test]
fn content_types_are_compared_without_parameters_and_case() {
    assert!(is_content_type("Application/JSON ; charset=utf-8", "application/json"));
    assert!(!is_content_type("application/json2", "application/json"));
    assert!(!is_content_type("", "application/json"));
}

#[tokio::test]
async fn fresh_ids_are_uuids() {
    let world = outrigger_sim::SimWorld::new(3);
    let (one, two) = (fresh_id(&*world), fresh_id(&*world));
    assert_ne!(one, two);
    for id in [one, two] {
        let parts: Vec<&str> = id.split('-').collect();
        assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
        assert!(parts[2].starts_with('4') && parts[3].starts_with(['8', '9', 'a', 'b']), "{id}");
    }
}

proptest! {
    /// Whatever is published, in whatever words, consumers can read the envelope, and the payload is what went in.
    #[test]
    fn anything_can_be_wrapped(content_type in "[a-z/+; =]{0,30}", data: Vec<u8>, text: String, id: String) {
        for payload in [data, text.into_bytes()] {
            let event = Bytes::from(payload);
            let origin = Origin { id: &id, ..origin() };
            let wrapped = names().wrap(&origin, &content_type, &event, &BTreeMap::new()).unwrap();
            let envelope = Envelope::parse(&wrapped).unwrap();
            prop_assert_eq!(envelope.id(), &id[..]);
            prop_assert_eq!(envelope.payload().unwrap(), event);
            prop_assert_eq!(Envelope::parse(&envelope.to_json()).unwrap(), envelope);
        }
    }

    /// Whatever arrives as an envelope, looking into it panics nowhere.
    #[test]
    fn anything_can_be_looked_into(json in "\\{(\"(id|data|type|traceparent)\":(null|1|\"[a-z\\\\]{0,3}\"|\\[\\]|\\{\\}),){0,3}\"x\":1\\}") {
        if let Ok(envelope) = Envelope::parse(&Bytes::from(json)) {
            drop((envelope.id(), envelope.payload(), envelope.trace_parent(), envelope.to_value()));
            prop_assert!(!envelope.is_expired(Wall(0)));
            let json = envelope.to_json();
            let completed = names().wrap(&origin(), super::CONTENT_TYPE, &json, &BTreeMap::new());
            prop_assert!(completed.is_ok());
        }
    }
}
