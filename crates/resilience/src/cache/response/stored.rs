//! A kept response: how it stands, whom it fits, and what it is as an answer.

use super::RequestHead;
use crate::cache::{Directives, Early, Lifetime, Standing, rules};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use outrigger_kernel::Mono;
use std::{sync::Arc, time::Duration};

/// A kept response. `B` is its body, cheap to clone.
#[derive(Debug)]
pub struct Stored<B> {
    /// The status.
    pub status: StatusCode,
    /// The headers, without those that were for the connection only.
    pub headers: HeaderMap,
    /// The body.
    pub body: B,
    pub(super) bytes: usize,
    pub(super) varied: Vec<(HeaderName, Vec<HeaderValue>)>,
    pub(super) age: Duration,
    pub(super) lifetime: Lifetime,
    pub(super) always_ask: bool,
    pub(super) never_stale: bool,
}

/// A response from the cache.
#[derive(Debug)]
pub struct Hit<B> {
    /// It.
    pub stored: Arc<Stored<B>>,
    /// How old it is: the `Age` header of the answer.
    pub age: Duration,
    /// By how much it is stale; zero for fresh.
    pub late: Duration,
    /// The client has it already: 304 without the body.
    pub not_modified: bool,
    /// It should be refreshed behind the answer.
    pub is_due: bool,
}

impl<B> Stored<B> {
    /// The headers that make a request conditional on this response being out of date.
    pub fn conditions(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        let condition =
            |validator, name| self.headers.get(validator).map(|value| (name, value.clone()));
        let tag = condition(header::ETAG, header::IF_NONE_MATCH);
        let date = condition(header::LAST_MODIFIED, header::IF_MODIFIED_SINCE);
        tag.into_iter().chain(date)
    }

    /// Whether it has anything that a request can be made conditional on.
    #[must_use]
    pub fn can_be_confirmed(&self) -> bool {
        rules::has_validator(&self.headers)
    }

    /// It as the answer to a request.
    #[must_use]
    pub fn answer(self: &Arc<Self>, request: &RequestHead<'_>, now: Mono) -> Hit<B> {
        Arc::clone(self).hit(request, now, false)
    }

    /// How old it is.
    #[must_use]
    pub fn age(&self, now: Mono) -> Duration {
        self.age.saturating_add(now.since(self.lifetime.stored))
    }

    /// For how much longer it is fresh.
    #[must_use]
    pub fn fresh_left(&self, now: Mono) -> Duration {
        self.lifetime.fresh_for.saturating_sub(now.since(self.lifetime.stored))
    }

    pub(super) fn body_bytes(&self) -> usize {
        let head: usize = self.headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 32).sum();
        self.bytes - head
    }

    pub(super) fn late(&self, now: Mono) -> Duration {
        now.since(self.lifetime.stored).saturating_sub(self.lifetime.fresh_for)
    }

    /// Whether it is the answer to a request with these headers, as far as it varies with them. Whoever waited for the call
    /// of somebody else has to ask: what the answer varies with was not known when they joined.
    #[must_use]
    pub fn fits(&self, request: &HeaderMap) -> bool {
        self.varied.iter().all(|(name, values)| request.get_all(name).iter().eq(values))
    }

    /// Whether it may be used unasked, and if so whether a refresh is due.
    pub(super) fn usable(
        &self,
        asked: &Directives,
        now: Mono,
        early: Early,
        random: u64,
    ) -> Option<bool> {
        let age = self.age(now);
        if self.always_ask || asked.no_cache || asked.max_age.is_some_and(|most| age > most) {
            return None;
        }
        let left = self.lifetime.fresh_for.saturating_sub(now.since(self.lifetime.stored));
        if asked.min_fresh.is_some_and(|least| left < least) {
            return None;
        }
        match self.lifetime.standing(now, early, random) {
            Standing::Fresh => Some(false),
            Standing::Early => Some(true),
            Standing::Stale => Some(true),
            Standing::OnError | Standing::Gone => {
                let late = self.late(now);
                let tolerated = asked.max_stale.is_some_and(|most| late <= most);
                (tolerated && !self.never_stale).then_some(true)
            }
        }
    }

    pub(super) fn hit(
        self: Arc<Self>,
        request: &RequestHead<'_>,
        now: Mono,
        is_due: bool,
    ) -> Hit<B> {
        let not_modified =
            self.status == StatusCode::OK && rules::client_has_it(request.headers, &self.headers);
        Hit { age: self.age(now), late: self.late(now), not_modified, is_due, stored: self }
    }
}
