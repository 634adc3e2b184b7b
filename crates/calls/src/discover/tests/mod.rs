//! Discovery against sources that a test owns: a list of answers in simulated time, and a small DNS server on loopback.

mod dns;
mod dns_server;
mod keep;

use super::{At, FixedList, LocalApps, Source};
use crate::Directory;
use futures_util::FutureExt;
use std::sync::Arc;

#[test]
fn a_list_is_read_or_refused() {
    let text = "10.0.0.1:80, shop-1.Example:8080 weight=5 zone=a\n[::1]:9 zone=b\n\n";
    let list = FixedList::parse(text).unwrap();
    let found = list.find().now_or_never().unwrap().unwrap();
    assert_eq!(found.valid_for, None);
    let names: Vec<&str> = found.places.iter().map(|place| &*place.name).collect();
    assert_eq!(names, ["10.0.0.1:80", "shop-1.example:8080", "[::1]:9"]);
    let second = &found.places[1];
    assert!(matches!(&second.at, At::Host(host, 8080) if host == "shop-1.example"));
    assert_eq!((second.weight, second.zone.as_deref()), (5, Some("a")));
    for bad in [
        "shop",
        "shop:",
        "shop:0",
        "shop:80 weight=x",
        "shop:80 zone=",
        "a b:1",
        "http://a:1",
        ":80",
        "a:1 b",
    ] {
        assert_eq!(FixedList::parse(bad).unwrap_err().0, bad);
    }
}

#[test]
fn apps_of_this_machine_are_places() {
    let directory = Directory::new();
    let apps = LocalApps::new(Arc::clone(&directory), "shop", "");
    let find = || apps.find().now_or_never().unwrap();
    assert_eq!(find().unwrap().places, []);
    let _here = directory.register_without_port("shop", "");
    assert_eq!(find().unwrap().places, [], "an app without a port has no place");
    assert!(find().unwrap().valid_for.is_some());
}
