//! Random histories against a naive model of what the API promises: a map, changed one request at a time.

use super::fresh;
use crate::{ApplyError, Change, Concurrency, Delete, Item, Set, Store, Ttl};
use outrigger_kernel::{Deadline, Wall, World};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

const KEYS: [&str; 5] = ["a", "a\0", "ab", "b", "\u{ff}"];

/// Which etag a change carries, relative to what its key has had so far.
#[derive(Clone, Copy, Debug)]
enum Tag {
    None,
    Empty,
    Current,
    Past(usize),
    Malformed,
}

#[derive(Clone, Copy, Debug)]
struct Planned {
    key: usize,
    set: bool,
    tag: Tag,
    first_write: bool,
    ttl_ms: u64,
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Planned>),
    DeletePrefix(usize),
    Wait { ms: u64 },
}

fn planned() -> impl Strategy<Value = Planned> {
    let tag = prop_oneof![
        4 => Just(Tag::None),
        1 => Just(Tag::Empty),
        4 => Just(Tag::Current),
        1 => any::<usize>().prop_map(Tag::Past),
        1 => Just(Tag::Malformed),
    ];
    let ttl_ms = prop_oneof![2 => Just(0), 1 => 1..200_u64];
    (0..KEYS.len(), any::<bool>(), tag, any::<bool>(), ttl_ms).prop_map(
        |(key, set, tag, first_write, ttl_ms)| Planned { key, set, tag, first_write, ttl_ms },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(planned(), 0..4).prop_map(Step::Apply),
        1 => (0..KEYS.len()).prop_map(Step::DeletePrefix),
        3 => (0..150_u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// The naive store.
#[derive(Default)]
struct Model {
    items: BTreeMap<String, Item>,
    /// Every etag ever given out, so that stale ones can be offered.
    etags: Vec<String>,
    written: usize,
}

impl Model {
    fn expire(&mut self, now: Wall) {
        self.items.retain(|_, item| item.expires_at.is_none_or(|at| at > now));
    }

    fn change(&mut self, planned: Planned) -> Change {
        let key = KEYS[planned.key].to_owned();
        let etag = match planned.tag {
            Tag::None => None,
            Tag::Empty => Some(String::new()),
            // Nothing there: an etag of something else will do.
            Tag::Current => self.items.get(&key).map(|item| item.etag.clone()),
            Tag::Past(_) if self.etags.is_empty() => Some("3".to_owned()),
            Tag::Past(which) => Some(self.etags[which % self.etags.len()].clone()),
            Tag::Malformed => Some("x".to_owned()),
        };
        let concurrency =
            if planned.first_write { Concurrency::FirstWrite } else { Concurrency::LastWrite };
        if !planned.set {
            return Change::Delete(Delete { key, etag, concurrency });
        }
        self.written += 1;
        let ttl = Ttl::After(Duration::from_millis(planned.ttl_ms));
        Change::Set(Set { etag, concurrency, ttl, ..Set::new(key, self.written.to_string()) })
    }

    /// What the request must be answered with, looked at before it changes anything.
    fn refusal(&self, changes: &[Change]) -> Option<ApplyError> {
        let given = |change: &Change| match change {
            Change::Set(Set { etag, concurrency, .. })
            | Change::Delete(Delete { etag, concurrency, .. }) => {
                (etag.clone().filter(|etag| !etag.is_empty()), *concurrency)
            }
        };
        for change in changes {
            if let (Some(etag), _) = given(change)
                && etag.parse::<u64>().is_err()
            {
                return Some(ApplyError::EtagMalformed { key: change.key().to_owned(), etag });
            }
        }
        changes.iter().find_map(|change| {
            let present = self.items.get(change.key()).map(|item| item.etag.clone());
            let holds = match given(change) {
                (Some(etag), _) => present == Some(etag),
                (None, Concurrency::FirstWrite) => present.is_none(),
                (None, Concurrency::LastWrite) => true,
            };
            (!holds).then(|| ApplyError::EtagMismatch { key: change.key().to_owned() })
        })
    }

    fn apply(&mut self, changes: Vec<Change>, revision: u64, now: Wall) {
        self.etags.push(revision.to_string());
        for change in changes {
            match change {
                Change::Delete(delete) => {
                    self.items.remove(&delete.key);
                }
                Change::Set(set) => {
                    let expires_at = match set.ttl {
                        Ttl::After(ttl) if !ttl.is_zero() => Some(now.plus(ttl)),
                        _ => None,
                    };
                    let etag = revision.to_string();
                    let item =
                        Item { data: set.data, content_type: set.content_type, etag, expires_at };
                    self.items.insert(set.key, item);
                }
            }
        }
    }
}

async fn check(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    let keys = KEYS.map(str::to_owned);
    let expected = keys.clone().map(|key| model.items.get(&key).cloned());
    prop_assert_eq!(&store.get_many(&keys).await.unwrap()[..], &expected[..]);
    for (key, expected) in keys.iter().zip(expected) {
        prop_assert_eq!(store.get(key).await.unwrap(), expected);
    }
    let listing = store.list("", None, 100).await.unwrap();
    let listed: BTreeMap<_, _> = listing.entries.into_iter().map(|e| (e.key, e.item)).collect();
    prop_assert_eq!(&listed, &model.items);
    Ok(())
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (world, store) = fresh();
    let mut model = Model::default();
    for step in steps {
        model.expire(world.wall());
        let deadline = Deadline::after(&*world, Duration::from_secs(5));
        match step {
            Step::Wait { ms } => world.sleep(Duration::from_millis(ms)).await,
            Step::DeletePrefix(prefix) => {
                store.delete_with_prefix(KEYS[prefix], deadline).await.unwrap();
                model.items.retain(|key, _| !key.starts_with(KEYS[prefix]));
            }
            Step::Apply(planned) => {
                let changes: Vec<Change> = planned.into_iter().map(|p| model.change(p)).collect();
                let answer = store.apply(changes.clone(), deadline).await;
                match model.refusal(&changes) {
                    Some(refusal) => prop_assert_eq!(answer, Err(refusal)),
                    None => model.apply(changes, answer.unwrap().revision, world.wall()),
                }
            }
        }
        model.expire(world.wall());
        check(&store, &model).await?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn agrees_with_the_naive_store(steps in proptest::collection::vec(step(), 0..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(play(steps))?;
    }
}
