//! Rules over events.

use super::{Routes, RuleError, compile};
use crate::limits::{RULE_BYTES_MAX, RULE_DEPTH_MAX};
use serde_json::{Value, json};

fn event() -> Value {
    json!({
        "id": "1",
        "type": "order.created",
        "source": "shop",
        "data": {"amount": 150, "rate": 1.5, "tags": ["a", "b"], "big": 18_446_744_073_709_551_615_u64, "customer": {"vip": true}, "none": null},
    })
}

fn holds(rule: &str) -> bool {
    let routes = Routes::compile([(rule, "yes")], None).unwrap();
    routes.pick(&event()) == Some("yes")
}

#[test]
fn conditions() {
    for (rule, expected) in [
        ("event.type == 'order.created'", true),
        ("event.type == \"order.deleted\"", false),
        ("event.data.amount > 100", true),
        ("event.data.amount > 100.5", true),
        ("event.data.amount >= 150 && event.data.customer.vip", true),
        ("event.data.rate < 2", true),
        ("event.data['amount'] == 150", true),
        ("'a' in event.data.tags", true),
        ("event.data.tags.exists(t, t == 'b')", true),
        ("size(event.data.tags) == 3", false),
        ("event.type.startsWith('order.')", true),
        ("event.type.endsWith('.created')", true),
        ("event.type.contains('der')", true),
        ("event.type.matches('^order\\\\.[a-z]+$')", true),
        ("has(event.data.amount) && !has(event.data.nothing)", true),
        ("event.data.none == null", true),
        ("event.data.big == 18446744073709551615u", true),
        ("true", true),
        ("false", false),
        // What cannot be evaluated does not hold.
        ("event.missing == 'x'", false),
        ("event.data.amount == 'x'", false),
        ("event.data.amount", false),
        ("event.data.amount / 0 == 1", false),
        ("event.type + 1 == 2", false),
        ("event.type.matches('(')", false),
    ] {
        assert_eq!(holds(rule), expected, "{rule}");
    }
}

#[test]
fn the_first_match_wins_and_the_default_is_last() {
    let rules = [
        ("event.data.missing == 1", "broken"),
        ("event.type == 'order.deleted'", "deleted"),
        ("event.data.amount > 100", "large"),
        ("event.type == 'order.created'", "created"),
    ];
    let routes = Routes::compile(rules, Some("other".to_owned())).unwrap();
    assert_eq!(routes.pick(&event()), Some("large"));
    assert_eq!(routes.pick(&json!({"type": "order.created"})), Some("created"));
    assert_eq!(routes.pick(&json!({})), Some("other"));
    assert_eq!(routes.pick(&json!("no object")), Some("other"));
    let routes = Routes::compile(rules, None).unwrap();
    assert_eq!(routes.pick(&json!({})), None);
    assert!(routes.depend_on_event());
    let plain = Routes::to("path");
    assert!(!plain.depend_on_event());
    assert_eq!(plain.pick(&json!({})), Some("path"));
    let always = Routes::compile([("", "all"), ("true", "never")], None).unwrap();
    assert_eq!(always.pick(&json!({})), Some("all"));
}

#[test]
fn bad_rules_say_what_is_wrong() {
    assert_eq!(compile("  ").unwrap_err(), RuleError::Empty);
    let long = format!("event.type == '{}'", "x".repeat(RULE_BYTES_MAX));
    let bytes = long.len();
    assert_eq!(compile(&long).unwrap_err(), RuleError::TooLong { bytes });
    let error = compile("evnt.type == 'x'").unwrap_err().to_string();
    assert_eq!(error, "the rule `evnt.type == 'x'` uses `evnt`; the only variable is `event`");
    for bad in [
        "event.type ==",
        "event.type = 'x'",
        "'open",
        "((",
        "event.[",
        "event.type == 'x' and true",
    ] {
        let error = compile(bad).unwrap_err();
        assert!(matches!(error, RuleError::Syntax { .. }), "{bad}: {error}");
        assert!(error.to_string().contains(bad), "{error}");
    }
}

/// The longest rules of the worst shapes, on a thread with the stack of a worker: neither compiling nor evaluating may
/// run out of it.
#[test]
fn the_longest_rules_do_not_exhaust_the_stack() {
    let longest =
        |piece: &str, end: &str| piece.repeat((RULE_BYTES_MAX - end.len()) / piece.len()) + end;
    let depth = RULE_BYTES_MAX / 2;
    let shapes = [
        "1+".repeat(RULE_DEPTH_MAX - 3) + "1 == 2",
        "event".to_owned() + &"[0]".repeat(RULE_DEPTH_MAX - 2),
        "[1]".to_owned() + &".map(x,x)".repeat(RULE_DEPTH_MAX - 2),
        "[1].all(x,".repeat(5) + "true" + &")".repeat(5),
        longest("1+", "1 == 2"),
        longest("!", "true"),
        longest("-", "1 == 1"),
        longest("true && ", "true"),
        longest("true ? true : ", "false"),
        "(".repeat(depth) + &")".repeat(depth),
        "[".repeat(depth) + &"]".repeat(depth),
        "event".to_owned() + &".a".repeat((RULE_BYTES_MAX - 5) / 2),
        "event".to_owned() + &"[0]".repeat((RULE_BYTES_MAX - 5) / 3),
        "[1]".to_owned() + &".map(x,x)".repeat((RULE_BYTES_MAX - 3) / 9),
        longest("[1].all(x,", ""),
        "[1].all(x,".repeat(80) + "true" + &")".repeat(80),
    ];
    for shape in shapes {
        let start = shape.chars().take(12).collect::<String>();
        let body = move || {
            if let Ok(predicate) = compile(&shape) {
                predicate.holds(&super::Event::new(&event()));
            }
        };
        let thread = std::thread::Builder::new().stack_size(2 * 1024 * 1024);
        let thread = thread.spawn(body).unwrap();
        assert!(thread.join().is_ok(), "{start}");
    }
}
