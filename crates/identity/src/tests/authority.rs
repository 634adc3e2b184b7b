//! What an authority promises: tokens for one use, rotation that nobody notices, keys that are sealed.

use super::{HOUR, House, code};
use crate::{
    Authority, AuthorityError, AuthoritySettings, Credentials, EnrolRequest, Enrolled, Enrolments,
    KeyRequest, RootState, SealKey, Trust, Usage, tls,
};
use outrigger_kernel::World;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Chain and bundle of what was given.
fn parts(credentials: &Credentials) -> [Vec<CertificateDer<'static>>; 2] {
    let [_, chain, bundle] = credentials.to_pem();
    [chain, bundle].map(|pem| {
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap()
    })
}

/// Whether who has `believer` believes `shown`.
fn believes(house: &House, believer: &Credentials, shown: &Credentials) -> bool {
    let ([_, bundle], [chain, _]) = (parts(believer), parts(shown));
    let trust = Trust::new("public", &bundle, Duration::from_secs(900)).unwrap();
    let (now, algorithms) = (house.world.wall(), tls::algorithms());
    let judged =
        [Usage::Client, Usage::Server].map(|usage| trust.app(&chain, usage, now, &algorithms));
    assert_eq!(judged[0].is_ok(), judged[1].is_ok());
    judged[0].is_ok()
}

#[tokio::test]
async fn there_is_one_authority_and_it_stays() {
    let house = House::new("public").await;
    let before = house.authority.status().await.unwrap();
    assert!(!house.authority.init("other").await.unwrap());
    assert_eq!(house.authority.status().await.unwrap(), before);
    assert_eq!(before.trust_domain, "public");
    assert_eq!(before.roots.len(), 1);
    assert_eq!(before.roots[0].state, RootState::Signing);
    assert_eq!(
        before.roots[0].not_after.since(before.roots[0].not_before).as_secs() / 60,
        365 * 24 * 60 + 1
    );

    let given = house.authority.issue("prod", "shop").await.unwrap();
    assert_eq!(given.identity().to_string(), "spiffe://public/ns/prod/shop");
    let (from, to) = given.span().unwrap();
    assert_eq!(to.since(from), DAY + Duration::from_secs(60));
    let workload = house.own(given);
    assert_eq!(workload.renew_at().since(from), (DAY + Duration::from_secs(60)) / 3 * 2);
}

#[tokio::test]
async fn a_store_without_its_seal_signs_nothing() {
    let house = House::new("public").await;
    let settings = AuthoritySettings::default();
    let stranger = Authority::new(house.space.clone(), SealKey::new().unwrap(), settings);
    assert_eq!(stranger.issue("", "shop").await.unwrap_err(), AuthorityError::Sealed);
    assert_eq!(stranger.rotate().await.unwrap_err(), AuthorityError::Sealed);
    assert!(stranger.status().await.is_ok());
    let empty = Authority::new(
        outrigger_keyspace::Space::new(
            outrigger_keyspace::memory::Memory::new(house.world.clone()),
            house.world.clone(),
        ),
        house.seal.clone(),
        settings,
    );
    assert_eq!(empty.issue("", "shop").await.unwrap_err(), AuthorityError::Absent);
    assert_eq!(empty.token("", "shop").await.unwrap_err(), AuthorityError::Absent);
    assert_eq!(empty.rotate().await.unwrap_err(), AuthorityError::Absent);
    assert!(!empty.maintain().await.unwrap());
}

#[tokio::test]
async fn of_two_who_use_a_token_at_once_one_joins() {
    let house = House::new("public").await;
    for _ in 0..10 {
        let token = house.authority.token("", "shop").await.unwrap();
        let (one, other) = tokio::join!(
            house.join(token.secret(), "", "shop"),
            house.join(token.secret(), "", "shop")
        );
        let refused: Vec<String> = [one, other].into_iter().filter_map(Result::err).collect();
        assert_eq!(refused, ["ERR_IDENTITY_TOKEN_USED"]);
    }
}

#[tokio::test]
async fn who_has_joined_renews_by_what_it_got() {
    let house = House::new("public").await;
    let token = house.authority.token("prod", "shop").await.unwrap();
    let mut held = house.join(token.secret(), "prod", "shop").await.unwrap();
    for _ in 0..5 {
        house.pass(HOUR * 16);
        let key = KeyRequest::new(Some(held.identity())).unwrap();
        let request = EnrolRequest {
            key_request: key.request().to_vec(),
            namespace: "prod".to_owned(),
            app_id: "shop".to_owned(),
            ..EnrolRequest::default()
        };
        let answer = house.authority.enrol(&request, Some(held.identity())).await.unwrap();
        let next = key.answered(answer, "prod", "shop").unwrap();
        house.own(held).replace(next.clone()).unwrap();
        held = next;
    }
    // Somebody else's is not taken, and what was there stays.
    let (own, other) = (house.own(held), house.authority.issue("prod", "bank").await.unwrap());
    let before = own.expires();
    assert_eq!(own.replace(other).unwrap_err().code(), "ERR_IDENTITY_SOMEBODY_ELSE");
    assert_eq!(own.expires(), before);
    house.pass(DAY + HOUR);
    assert_eq!(own.replace(own.credentials()).unwrap_err().code(), "ERR_IDENTITY_EXPIRED");
}

#[tokio::test]
async fn a_rotation_separates_nobody() {
    let house = House::new("public").await;
    let mut all = vec![house.authority.issue("", "a").await.unwrap()];
    for round in 1..=3 {
        let status = house.authority.rotate().await.unwrap();
        assert_eq!(status.roots.len(), round + 1);
        all.push(house.authority.issue("", "a").await.unwrap());
        // Those who have not heard of it believe those who have, and the other way round.
        for one in &all {
            assert!(all.iter().all(|other| believes(&house, one, other)), "round {round}");
        }
    }
    // As many as can be trusted.
    assert!(matches!(house.authority.rotate().await, Err(AuthorityError::Roots(_))));
    house.pass(DAY + HOUR);
    assert!(house.authority.maintain().await.unwrap());
    let status = house.authority.status().await.unwrap();
    assert_eq!(status.roots.len(), 1);
    let last = house.authority.issue("", "a").await.unwrap();
    assert!(believes(&house, &last, &last));
    assert!(!all.iter().any(|old| believes(&house, &last, old)), "their time is over");
    let [chain, bundle] = parts(&last);
    assert_eq!((chain.len(), bundle.len()), (1, 1));
}

#[tokio::test]
async fn a_root_is_trusted_for_as_long_as_its_longest_leaf() {
    let house = House::new("public").await;
    let long = house.authority.issue_for("", "a", DAY * 30).await.unwrap();
    house.authority.rotate().await.unwrap();
    house.pass(DAY * 29);
    let new = house.authority.issue("", "b").await.unwrap();
    assert!(believes(&house, &new, &long) && believes(&house, &long, &new));
    house.pass(DAY + HOUR);
    assert!(house.authority.maintain().await.unwrap());
    assert_eq!(house.authority.status().await.unwrap().roots.len(), 1);
}

#[tokio::test]
async fn a_root_that_is_retired_is_believed_no_more() {
    let house = House::new("public").await;
    let before = house.authority.issue("", "a").await.unwrap();
    let first = house.authority.status().await.unwrap().roots[0].hex();
    for wrong in ["", "ffffffff", &first[..7]] {
        assert!(house.authority.retire(wrong).await.is_err());
    }
    let error = house.authority.retire(&first).await.unwrap_err();
    assert!(error.to_string().contains("that root signs"), "{error}");
    house.authority.rotate().await.unwrap();
    assert_eq!(house.authority.retire(&first[..12].to_uppercase()).await.unwrap().roots.len(), 1);
    let after = house.authority.issue("", "a").await.unwrap();
    assert!(believes(&house, &after, &after) && !believes(&house, &after, &before));
}

#[tokio::test]
async fn an_old_root_is_followed_by_itself() {
    let house = House::new("public").await;
    assert!(!house.authority.maintain().await.unwrap());
    house.pass(DAY * 200);
    assert!(!house.authority.maintain().await.unwrap());
    house.pass(DAY * 50);
    assert!(house.authority.maintain().await.unwrap());
    assert_eq!(house.authority.status().await.unwrap().roots.len(), 2);
    assert!(!house.authority.maintain().await.unwrap());
}

#[tokio::test]
async fn what_was_got_is_kept_sealed() {
    let house = House::new("public").await;
    let kept = Enrolments::new(house.space.clone(), house.seal.clone());
    assert!(kept.get("", "shop").await.unwrap().is_none());
    let credentials = house.authority.issue("", "shop").await.unwrap();
    let enrolled = Enrolled { authority: "https://a:1".to_owned(), credentials };
    kept.put(&enrolled).await.unwrap();
    let read = kept.get("default", "shop").await.unwrap().unwrap();
    assert_eq!(read.authority, "https://a:1");
    assert_eq!(read.credentials.to_pem(), enrolled.credentials.to_pem());
    let stranger = Enrolments::new(house.space.clone(), SealKey::new().unwrap());
    assert!(stranger.get("", "shop").await.unwrap().is_none());
}

#[tokio::test]
async fn files_hold_what_was_given() {
    let house = House::new("public").await;
    let given = house.authority.issue("", "shop").await.unwrap();
    let [key, chain, bundle] = given.to_pem();
    let skew = Duration::from_secs(900);
    let read = Credentials::from_pem(key.as_bytes(), chain.as_bytes(), bundle.as_bytes(), skew);
    assert_eq!(house.own(read.unwrap()).identity(), *given.identity());
    let name = house.authority.issue("", "a/b").await.unwrap_err();
    assert_eq!(code(&name), "ERR_IDENTITY_BAD_NAME");
}
