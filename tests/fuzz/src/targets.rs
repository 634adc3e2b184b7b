//! The targets: what each parser promises about any bytes.

#[cfg(test)]
mod tests {
    use crate::run;
    use bytes::Bytes;
    use outrigger_calls::{CanonicalPath, split_invocation};
    use outrigger_events::{envelope::Envelope, routes};
    use outrigger_kernel::{TraceContext, Wall};
    use outrigger_keyspace::{KeyReader, KeyTuple, Stamp};
    use outrigger_resilience::Matching;
    use outrigger_resources::{duration, multi_app, parse, quantity, render};
    use std::path::Path;

    fn fuzz(name: &str, target: fn(&[u8]), dictionary: &[&str]) {
        let seen =
            run(name, target, dictionary).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        assert!(seen > 0, "{name}: no input was tried");
    }

    const YAML: &[&str] = &[
        "---\n",
        "kind: Component\n",
        "apiVersion: ",
        "metadata:\n  name: x\n",
        "spec:\n",
        "- ",
        "  ",
        "&a ",
        "*a",
        "<<: *a\n",
        "!!binary ",
        "|\n",
        ">-\n",
        "{a: b}",
        "[[[[",
        "\"\\u0000\"",
        "secretKeyRef:\n",
        "scopes: [x]\n",
        "maxRetries: -1\n",
        "1e309",
        "0x7f",
        "~",
        "null",
        "? ",
        "# c\n",
        "\t",
        "\u{feff}",
        "%YAML 1.2\n",
    ];

    /// What processes that share a data folder say to each other.
    #[test]
    fn frames() {
        fuzz("frame", outrigger_engine_remote::read_anything, &["\u{1}", "\0\0\0", "\u{7f}"]);
    }

    #[test]
    fn resource_files() {
        fuzz(
            "resource",
            |bytes| {
                let (_, issues) = parse(Path::new("fuzz.yaml"), bytes);
                let source = String::from_utf8_lossy(bytes);
                for issue in &issues {
                    assert!(!issue.message.is_empty(), "an issue without a message");
                    assert!(!render(issue, &source).is_empty(), "an issue that shows nothing");
                }
            },
            YAML,
        );
    }

    #[test]
    fn run_files() {
        fuzz(
            "run_file",
            |bytes| {
                let home = Some(Path::new("/home/you"));
                let (file, issues) =
                    multi_app::parse(Path::new("run.yaml"), bytes, &|_| true, home);
                assert!(file.is_some() || !issues.is_empty(), "refused without a reason");
            },
            YAML,
        );
    }

    #[test]
    fn envelopes() {
        fuzz(
            "envelope",
            |bytes| {
                let Ok(mut envelope) = Envelope::parse(&Bytes::copy_from_slice(bytes)) else {
                    return;
                };
                drop(envelope.payload());
                drop((envelope.id(), envelope.source(), envelope.event_type()));
                drop((envelope.content_type(), envelope.trace_parent(), envelope.trace_state()));
                let _ = envelope.is_expired(Wall(1_767_225_600_000));
                let _ = envelope.extensions().count();
                envelope.set_text("id", "ours");
                let again = Envelope::parse(&envelope.to_json());
                let id = again.expect("what was written can be read").id();
                assert_eq!(id, "ours");
            },
            &[
                "\"specversion\":\"1.0\"",
                "\"data\":",
                "\"data_base64\":\"AA==\"",
                "\"traceparent\":7",
                "\"id\":null",
                "\"time\":\"2026-11-21T00:00:00Z\"",
                "\"expiration\":\"",
                "\\u0000",
                "\\ud800",
                "1e400",
                "[[[[[[[[",
            ],
        );
    }

    #[test]
    fn route_rules() {
        fuzz(
            "rule",
            |bytes| {
                let Ok(text) = std::str::from_utf8(bytes) else { return };
                if let Ok(rule) = routes::compile(text) {
                    let event = serde_json::json!({ "type": "t", "data": { "id": 7, "list": [1, 2], "text": "x" } });
                    let _ = rule.holds(&routes::Event::new(&event));
                }
            },
            &[
                "event.",
                "event.data.id",
                " == ",
                " && ",
                " || ",
                "!",
                "has(event.x)",
                ".startsWith(\"",
                ".matches(\"(a+)+",
                "size(",
                " in [",
                "? 1 : 2",
                "int(",
                "9223372036854775807",
                "-1",
                "\"",
                "event[\"a\"]",
                ".exists(x, x > 1)",
            ],
        );
    }

    type Key = (u16, String, Bytes, Stamp, u64);

    #[test]
    fn stored_keys() {
        fuzz(
            "key",
            |bytes| {
                let mut reader = KeyReader::new(bytes);
                let Ok(key) = Key::read(&mut reader) else { return };
                let mut written = Vec::new();
                key.write(&mut written);
                if reader.is_done() {
                    assert_eq!(written, bytes, "one key has two encodings");
                } else {
                    assert!(bytes.starts_with(&written));
                }
            },
            &["\0\u{1}", "\0\u{ff}", "\0\0"],
        );
    }

    #[test]
    fn paths_of_calls() {
        fuzz(
            "path",
            |bytes| {
                let text = String::from_utf8_lossy(bytes);
                let _ = split_invocation(&text);
                if let Ok(path) = CanonicalPath::parse(&text) {
                    let again =
                        CanonicalPath::parse(path.as_str()).expect("canonical is canonical");
                    assert_eq!(again.as_str(), path.as_str());
                    let hidden = path.as_str().split('/').any(|part| part == "." || part == "..");
                    let judged = path.ambiguity().is_none();
                    assert!(!(judged && hidden), "a dot segment is left in {}", path.as_str());
                    assert!(path.as_str().is_ascii(), "not percent-encoded: {}", path.as_str());
                }
                drop(CanonicalPath::parse_grpc(&text));
            },
            &[
                "%2F", "%2e%2e", "..", "/./", "%23", "%3F", "%", "%00", "//", "\\", "/method/",
                "http://", "%5c", "%c0%af",
            ],
        );
    }

    #[test]
    fn words_in_headers_and_settings() {
        fuzz(
            "words",
            |bytes| {
                let text = String::from_utf8_lossy(bytes);
                if let Some(context) = TraceContext::parse(&text) {
                    let again = TraceContext::parse(&context.to_string());
                    assert_eq!(again, Some(context));
                }
                let _ = duration::parse(&text).is_ok();
                let _ = quantity::parse(&text).is_ok();
                let _ = Matching::parse(&text, &text).is_ok();
            },
            &[
                "00-",
                "-01",
                "PT1H",
                "1h2m3s",
                "500ms",
                "-1",
                "4Mi",
                "9999999999999999999",
                "429,500-599",
                "R5/",
                "P1Y",
                "1e9",
            ],
        );
    }
}
