//! Reading, listing, deleting by prefix, and regions that keep to themselves.

use super::{apply, fresh, set, soon, text};
use crate::{ApplyError, Change, IllegalKey, Set, Store};
use outrigger_keyspace::Level;

async fn fill(store: &Store, keys: &[&'static str]) {
    let changes = keys.iter().map(|key| Change::Set(Set::new(*key, *key))).collect();
    apply(store, changes).await.unwrap();
}

async fn listed(store: &Store, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    let listing = store.list(prefix, after, limit).await.unwrap();
    listing.entries.into_iter().map(|entry| entry.key).collect()
}

#[tokio::test(start_paused = true)]
async fn an_item_is_what_was_set() {
    let (_world, store) = fresh();
    let json = Set {
        content_type: Some("application/json".to_owned()),
        ..Set::new("k", &b"\x00\xff{}"[..])
    };
    let committed = set(&store, json).await.unwrap();
    let item = store.get("k").await.unwrap().unwrap();
    assert_eq!(&item.data[..], b"\x00\xff{}");
    assert_eq!(item.content_type.as_deref(), Some("application/json"));
    assert_eq!(item.etag, committed.revision.to_string());
    assert_eq!(item.expires_at, None);
    set(&store, Set::new("k", "")).await.unwrap();
    let item = store.get_at("k", Level::Local).await.unwrap().unwrap();
    assert_eq!((item.data.len(), item.content_type), (0, None));
}

#[tokio::test(start_paused = true)]
async fn many_keys_come_back_in_their_order() {
    let (_world, store) = fresh();
    fill(&store, &["a", "b", "c"]).await;
    let keys = ["c", "nope", "a", "c"].map(str::to_owned);
    let items = store.get_many(&keys).await.unwrap();
    let texts: Vec<_> = items.iter().map(|i| i.as_ref().map(|i| i.data.to_vec())).collect();
    assert_eq!(texts, [Some(b"c".to_vec()), None, Some(b"a".to_vec()), Some(b"c".to_vec())]);
    assert_eq!(store.get_many(&[]).await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn regions_never_see_each_other() {
    let (_world, store) = fresh();
    let stores = ["a", "a\0", "ab", ""].map(|name| Store::new(store.space().clone(), name));
    for (number, store) in stores.iter().enumerate() {
        set(store, Set::new("k", number.to_string())).await.unwrap();
    }
    stores[0].delete_with_prefix("k", soon(&store)).await.unwrap();
    assert_eq!(text(&stores[0], "k").await, None);
    for (number, store) in stores.iter().enumerate().skip(1) {
        assert_eq!(text(store, "k").await, Some(number.to_string()));
        assert_eq!(listed(store, "", None, 10).await, ["k"]);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let (_world, store) = fresh();
    let keys = ["app||a", "app||b", "app||c", "app||d", "app||e", "other||a"];
    fill(&store, &keys).await;
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let listing = store.list("app||", after.as_deref(), 2).await.unwrap();
        assert!(listing.entries.len() <= 2);
        seen.extend(listing.entries.into_iter().map(|entry| entry.key));
        after = listing.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, keys[..5]);
}

#[tokio::test(start_paused = true)]
async fn after_never_leads_out_of_the_prefix() {
    let (_world, store) = fresh();
    fill(&store, &["a1", "b1", "b2", "c1"]).await;
    assert_eq!(listed(&store, "b", Some("a"), 10).await, ["b1", "b2"]);
    assert_eq!(listed(&store, "b", Some("b1"), 10).await, ["b2"]);
    assert_eq!(listed(&store, "b", Some("c"), 10).await, [""; 0]);
    assert_eq!(listed(&store, "b", None, 0).await, ["b1"], "a page holds at least one");
}

#[tokio::test(start_paused = true)]
async fn a_prefix_goes_and_nothing_else() {
    let (_world, store) = fresh();
    fill(&store, &["app||a", "app||b", "app", "b"]).await;
    let before = store.space().snapshot(Level::Linearizable).await.unwrap().revision();
    let committed = store.delete_with_prefix("app||", soon(&store)).await.unwrap();
    assert!(committed.revision > before);
    assert_eq!(listed(&store, "", None, 10).await, ["app", "b"]);
    let refused = store.delete_with_prefix("", soon(&store)).await;
    assert_eq!(refused, Err(ApplyError::Key(IllegalKey::Empty)));
}
