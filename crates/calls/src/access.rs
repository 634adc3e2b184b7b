//! Who may call what: the access list of an app, decided without I/O.
//!
//! ```text
//!   caller proved? --no--> the list's default
//!     | yes
//!   a policy for it? --no--> the list's default
//!     | yes
//!   first operation whose name and verb match --> its action
//!     | none
//!   the policy's default, else the list's
//! ```
//!
//! A list that has policies but names no default denies by default; an empty list allows. The path that is judged is a
//! [`CanonicalPath`], the same that is sent.
//!
//! A rule for GET is one for HEAD too, which servers answer from the same handler: the head of an answer tells nearly as
//! much as its body.
//!
//! Names are patterns over segments: `*` within a segment stands for any characters, as a whole segment for one segment
//! (or, at the end, for none), and a final `**` for everything below. Names of HTTP operations are compared without
//! regard to case.

use crate::CanonicalPath;
use http::Method;
use std::borrow::Cow;

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it through.
    Allow,
    /// Refuse it.
    Deny,
}

/// Who calls, as far as it has been proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its app id.
    pub app_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Its trust domain.
    pub trust_domain: String,
}

/// One operation of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// The pattern; a leading slash is added when missing.
    pub name: String,
    /// HTTP verbs in upper case; empty or `*` for all.
    pub verbs: Vec<String>,
    /// What to do.
    pub action: Action,
}

/// What one caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerPolicy {
    /// Whom it is for; all three must be equal.
    pub caller: Caller,
    /// For operations not listed; `None` follows the list's default.
    pub default: Option<Action>,
    /// In the order in which they are tried.
    pub operations: Vec<Operation>,
}

/// How the callee is called, which decides how names and verbs are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over<'a> {
    /// HTTP with this verb.
    Http(&'a Method),
    /// gRPC, which has no verbs.
    Grpc,
}

/// The access list of one app.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    default: Option<Action>,
    policies: Vec<CallerPolicy>,
}

/// The callee's access list says no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("access control policy has denied access to {caller} operation: {operation}")]
pub struct Refusal {
    /// Who was refused; empty when the caller is not proved.
    pub caller: String,
    /// What it wanted.
    pub operation: String,
}

impl AccessList {
    /// A list with these policies and this default.
    #[must_use]
    pub fn new(default: Option<Action>, policies: Vec<CallerPolicy>) -> Self {
        let default = default.or((!policies.is_empty()).then_some(Action::Deny));
        Self { default, policies }
    }

    /// Whether `caller` may do this.
    ///
    /// # Errors
    /// [`Refusal`] when it may not.
    pub fn check(
        &self,
        caller: Option<&Caller>,
        over: Over<'_>,
        path: &CanonicalPath,
    ) -> Result<(), Refusal> {
        // What could be read in two ways is not judged in one of them.
        let judged =
            path.ambiguity().map_or_else(|| self.decide(caller, over, path), |_| Action::Deny);
        match judged {
            Action::Allow => Ok(()),
            Action::Deny => Err(Refusal {
                caller: caller
                    .map(|caller| format!("appid: {}", caller.app_id))
                    .unwrap_or_default(),
                operation: path.as_str().to_owned(),
            }),
        }
    }

    fn decide(&self, caller: Option<&Caller>, over: Over<'_>, path: &CanonicalPath) -> Action {
        let otherwise = self.default.unwrap_or(Action::Allow);
        let policy = caller.and_then(|c| self.policies.iter().find(|policy| policy.caller == *c));
        let Some(policy) = policy else { return otherwise };
        let otherwise = policy.default.unwrap_or(otherwise);
        let plain = path.plain();
        // Some servers take `;parameters` off a segment before they route, others do not. Whichever reading is the
        // stricter one holds.
        let readings = [Some(Cow::Borrowed(&*plain)), without_parameters(&plain)];
        let verdicts = readings.iter().flatten().map(|reading| {
            let matching = policy.operations.iter().find(|rule| rule.matches(over, reading));
            matching.map_or(otherwise, |rule| rule.action)
        });
        if verdicts.into_iter().any(|verdict| verdict == Action::Deny) {
            Action::Deny
        } else {
            Action::Allow
        }
    }
}

impl Operation {
    fn matches(&self, over: Over<'_>, path: &str) -> bool {
        match over {
            Over::Grpc => matches_path(&self.name, path),
            Over::Http(verb) => {
                let meant = |listed: &str| {
                    listed == "*"
                        || listed == verb.as_str()
                        || (*verb == Method::HEAD && listed == Method::GET.as_str())
                };
                let verb = self.verbs.is_empty() || self.verbs.iter().any(|v| meant(v));
                verb && matches_path(&self.name.to_lowercase(), &path.to_lowercase())
            }
        }
    }
}

fn without_parameters(path: &str) -> Option<Cow<'_, str>> {
    path.contains(';').then(|| {
        let names = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
        Cow::Owned(names.collect::<Vec<_>>().join("/"))
    })
}

fn matches_path(pattern: &str, path: &str) -> bool {
    let pattern = pattern.strip_prefix('/').unwrap_or(pattern);
    let pattern = pattern.strip_suffix('/').unwrap_or(pattern);
    let mut segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut patterns = pattern.split('/').peekable();
    while let Some(pattern) = patterns.next() {
        let last = patterns.peek().is_none();
        match (pattern, segments.next()) {
            ("**", _) if last => return true,
            ("*", None) if last => return true,
            (_, None) => return false,
            (pattern, Some(segment)) => {
                if !matches_segment(pattern, segment) {
                    return false;
                }
            }
        }
    }
    segments.next().is_none()
}

/// `*` stands for any run of characters, also none. Greedy with one point to fall back to: linear for one star, at worst
/// quadratic, never exponential.
fn matches_segment(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else if let Some((at, taken)) = star {
            star = Some((at, taken + 1));
            p = at + 1;
            t = taken + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::{AccessList, Action, Caller, CallerPolicy, Operation, Over, matches_path};
    use crate::CanonicalPath;
    use http::Method;

    fn caller(app_id: &str) -> Caller {
        Caller {
            app_id: app_id.to_owned(),
            namespace: "default".to_owned(),
            trust_domain: "public".to_owned(),
        }
    }

    fn operation(name: &str, verbs: &[&str], action: Action) -> Operation {
        let verbs = verbs.iter().map(|verb| (*verb).to_owned()).collect();
        Operation { name: name.to_owned(), verbs, action }
    }

    fn list() -> AccessList {
        AccessList::new(
            None,
            vec![CallerPolicy {
                caller: caller("shop"),
                default: Some(Action::Deny),
                operations: vec![
                    operation("/orders/secret", &["*"], Action::Deny),
                    operation("Orders/*", &["GET", "POST"], Action::Allow),
                    operation("/files/**", &[], Action::Allow),
                    operation("/pay.Api/Charge", &[], Action::Allow),
                ],
            }],
        )
    }

    fn allowed(list: &AccessList, app: Option<&str>, over: Over<'_>, path: &str) -> bool {
        let caller = app.map(caller);
        list.check(caller.as_ref(), over, &CanonicalPath::parse(path).unwrap()).is_ok()
    }

    #[test]
    fn operations_by_name_and_verb() {
        let list = list();
        let http = |verb: &Method, path| allowed(&list, Some("shop"), Over::Http(verb), path);
        assert!(http(&Method::GET, "/orders/1"));
        assert!(http(&Method::GET, "/ORDERS/1/"), "names are compared without case");
        assert!(http(&Method::GET, "/%6Frders/1"), "in canonical form");
        assert!(http(&Method::GET, "/orders"), "a final star may stand for nothing");
        assert!(!http(&Method::DELETE, "/orders/1"), "a verb not listed");
        assert!(!http(&Method::GET, "/orders/1/lines"), "one star is one segment");
        assert!(!http(&Method::GET, "/orders/secret"), "the first match decides");
        assert!(!http(&Method::GET, "//orders//secret"));
        assert!(!http(&Method::GET, "/orders/secret;x=1"), "the stricter reading holds");
        assert!(http(&Method::HEAD, "/orders/1") && !http(&Method::OPTIONS, "/orders/1"));
        assert!(http(&Method::PUT, "/files/a/b/c"));
        assert!(!http(&Method::GET, "/elsewhere"));
    }

    #[test]
    fn what_may_not_be_read_may_not_be_looked_at() {
        let hidden = CallerPolicy {
            caller: caller("shop"),
            default: Some(Action::Allow),
            operations: vec![
                operation("/hidden", &["HEAD"], Action::Allow),
                operation("/*", &["GET"], Action::Deny),
            ],
        };
        let list = AccessList::new(None, vec![hidden]);
        let http = |verb: &Method, path| allowed(&list, Some("shop"), Over::Http(verb), path);
        assert!(!http(&Method::GET, "/orders") && !http(&Method::HEAD, "/orders"));
        assert!(http(&Method::POST, "/orders"));
        assert!(http(&Method::HEAD, "/hidden"), "unless a rule before it says so");
    }

    #[test]
    fn grpc_names_have_case_and_no_verbs() {
        let list = list();
        assert!(allowed(&list, Some("shop"), Over::Grpc, "/pay.Api/Charge"));
        assert!(!allowed(&list, Some("shop"), Over::Grpc, "/pay.api/charge"));
    }

    #[test]
    fn defaults() {
        let get = Over::Http(&Method::GET);
        assert!(!allowed(&list(), Some("stranger"), get, "/orders/1"), "policies, no default");
        assert!(!allowed(&list(), None, get, "/orders/1"), "nobody proved");
        let open = AccessList::new(Some(Action::Allow), list().policies);
        assert!(allowed(&open, None, get, "/x"));
        assert!(!allowed(&open, Some("shop"), get, "/x"), "the policy's default comes first");
        assert!(allowed(&AccessList::default(), None, get, "/x"));
        let refusal = list().check(None, get, &CanonicalPath::parse("/x").unwrap()).unwrap_err();
        assert_eq!(refusal.operation, "/x");
        let mut elsewhere = caller("shop");
        elsewhere.namespace = "other".to_owned();
        let path = CanonicalPath::parse("/orders/1").unwrap();
        assert!(list().check(Some(&elsewhere), get, &path).is_err(), "another namespace");
    }

    #[test]
    fn patterns() {
        for (pattern, path, expected) in [
            ("/a", "/a", true),
            ("/a", "/ab", false),
            ("/a/*", "/a/b", true),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a", true),
            ("/a/**", "/a/b/c", true),
            ("/*/b", "/a/b", true),
            ("/*/b", "/b", false),
            ("/a*c", "/abbc", true),
            ("/a*c*", "/abcbcd", true),
            ("/a*c", "/abcb", false),
            ("/*", "/", true),
            ("/", "/", true),
            ("/**", "/x/y", true),
        ] {
            assert_eq!(matches_path(pattern, path), expected, "{pattern} {path}");
        }
    }
}
