//! Certificates are followed by others in time: after two thirds of their life, and at once when the roots or the files
//! that they come from change. What is in use stays in use until the next one is there.

use super::{
    Identities, files,
    joining::{self, NotJoined, address},
    source::{Source, named},
};
use outrigger_identity::{Authority, AuthorityError, Enrolled, Workload};
use outrigger_kernel::BoxFuture;
use std::{sync::Arc, time::Duration};

/// How often the authority here looks after its roots.
const MAINTAIN_EVERY: Duration = Duration::from_secs(60 * 60);
/// How often files are looked at.
const FILES_EVERY: Duration = Duration::from_secs(5);
/// The shortest time between two renewals.
const SOONEST: Duration = Duration::from_secs(1);
/// The pauses after a renewal that failed: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

impl Identities {
    /// Keeps every certificate fresh until the end.
    pub(super) fn keep_fresh(self: &Arc<Self>) {
        if let Source::Local(authority) = &self.source {
            let (identities, authority) = (Arc::clone(self), authority.clone());
            self.spawn("authority", async move {
                tokio::select! {
                    () = identities.stop.cancelled() => {}
                    () = identities.maintain(&authority) => {}
                }
            });
        }
        for hosted in self.hosted.load().iter() {
            let (identities, workload) = (Arc::clone(self), Arc::clone(&hosted.workload));
            let stop = self.stop.clone();
            let follow: BoxFuture<'static, ()> = match &self.source {
                Source::Local(authority) => {
                    let authority = authority.clone();
                    Box::pin(async move { identities.follow(authority, workload).await })
                }
                Source::Joined { .. } => {
                    Box::pin(async move { identities.renew_elsewhere(workload).await })
                }
                Source::Files { .. } => Box::pin(async move { identities.reread(workload).await }),
            };
            self.spawn("identity", async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = follow => {}
                }
            });
        }
    }

    async fn maintain(&self, authority: &Authority) {
        loop {
            match authority.maintain().await {
                Ok(true) => tracing::info!("the roots of the certificate authority changed"),
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(%error, "the certificate authority is not looked after")
                }
            }
            self.world.sleep(MAINTAIN_EVERY).await;
        }
    }

    /// How long until `workload` should be renewed; a little earlier than another one would, so that not all ask at once.
    fn until_due(&self, workload: &Workload) -> Duration {
        let now = self.world.wall();
        let left = workload.renew_at().since(now);
        let step = u32::try_from(self.world.random() % 1_000).unwrap_or(0);
        let early = left / 20 * step / 1_000;
        // Also where the clocks of two hosts differ so much that it is due when it comes.
        let least = (workload.expires().since(now) / 4).max(SOONEST);
        left.saturating_sub(early).max(least)
    }

    /// Renews with the authority here, also when its roots change.
    async fn follow(&self, authority: Authority, workload: Arc<Workload>) {
        let mut watch = authority.watch();
        let mut roots = roots_of(&authority).await;
        let mut pause = PAUSES.0;
        loop {
            let due = self.until_due(&workload);
            tokio::select! {
                () = self.world.sleep(due) => {}
                _ = watch.changed() => {
                    let now = roots_of(&authority).await;
                    if now == roots {
                        continue;
                    }
                    roots = now;
                }
            }
            let identity = workload.identity();
            loop {
                let issued = authority.issue(identity.namespace(), identity.app_id()).await;
                let replaced = issued.and_then(|new| Ok(workload.replace(new)?));
                let Err(error) = replaced else {
                    pause = PAUSES.0;
                    told_of(&workload);
                    break;
                };
                self.complain(&workload, &error, &mut pause).await;
            }
        }
    }

    async fn renew_elsewhere(&self, workload: Arc<Workload>) {
        let Source::Joined { at, kept, .. } = &self.source else { return };
        let mut pause = PAUSES.0;
        loop {
            self.world.sleep(self.until_due(&workload)).await;
            loop {
                let renewed = joining::renew(at, &workload, &self.world).await;
                let replaced = renewed.and_then(|new| {
                    workload.replace(new.clone())?;
                    Ok(new)
                });
                match replaced {
                    Ok(credentials) => {
                        pause = PAUSES.0;
                        told_of(&workload);
                        let enrolled = Enrolled { authority: address(at), credentials };
                        if let Err(error) = kept.put(&enrolled).await {
                            tracing::warn!(
                                error,
                                "a new certificate was not kept for the next start"
                            );
                        }
                        break;
                    }
                    Err(error @ (NotJoined::Away(_) | NotJoined::Refused(_))) => {
                        self.complain(&workload, &error, &mut pause).await;
                    }
                }
            }
        }
    }

    async fn complain(
        &self,
        workload: &Workload,
        error: &(dyn std::fmt::Display + Sync),
        pause: &mut Duration,
    ) {
        let left = workload.expires().since(self.world.wall()).as_secs();
        let app = workload.identity();
        tracing::warn!(%error, "the certificate of {app}, which holds for {left} s more, was not renewed");
        let jitter = u32::try_from(self.world.random() % 500).unwrap_or(0);
        self.world.sleep(*pause + *pause * jitter / 1_000).await;
        *pause = (*pause * 2).min(PAUSES.1);
    }

    async fn reread(&self, workload: Arc<Workload>) {
        let Source::Files { folder, skew } = &self.source else { return };
        let identity = workload.identity();
        let place = files::place(folder, identity.app_id());
        let (mut used, mut told) = (files::read(&place).ok(), None);
        loop {
            self.world.sleep(FILES_EVERY).await;
            let Ok(read) = files::read(&place) else { continue };
            if used.as_ref() == Some(&read) {
                if workload.renew_at() < self.world.wall() && told.as_ref() != Some(&read) {
                    told = Some(read);
                    let left = workload.expires().since(self.world.wall()).as_secs();
                    tracing::warn!(
                        "the certificate of {identity} ends in {left} s, and its files are still the same"
                    );
                }
                continue;
            }
            let new = named(&read, *skew, identity.namespace(), identity.app_id());
            // Key and certificate may be written one after the other, and clocks differ: they are tried again.
            match new.and_then(|new| workload.replace(new).map_err(|refused| refused.to_string())) {
                Ok(()) => {
                    used = Some(read);
                    told_of(&workload);
                }
                Err(error) if told.as_ref() != Some(&read) => {
                    tracing::warn!(error, "new files of {identity} are not used");
                    told = Some(read);
                }
                Err(_) => {}
            }
        }
    }
}

/// The fingerprints of the roots that are trusted.
pub(super) async fn roots_of(authority: &Authority) -> Result<Vec<String>, AuthorityError> {
    Ok(authority.status().await?.roots.iter().map(|root| root.hex()).collect())
}

fn told_of(workload: &Workload) {
    tracing::info!("{} has a new certificate", workload.identity());
}
