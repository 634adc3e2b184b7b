//! Where the certificates of this process come from, and the first one of an app.

use super::{
    Identities,
    files::{self, Texts},
    joining::{self, At, NotJoined, address},
};
use crate::{
    failure::{Exit, Failure},
    settings::node::{IdentitySettings, IdentitySource},
};
use outrigger_identity::{
    Authority, AuthorityError, AuthoritySettings, Credentials, Enrolled, Enrolments, KeyRequest,
    SealKey, Workload,
};
use outrigger_kernel::Deadline;
use outrigger_keyspace::Space;
use std::{path::PathBuf, sync::Arc, time::Duration};

/// How long the start waits for an authority on another host that does not answer.
const AUTHORITY_WITHIN: Duration = Duration::from_secs(30);
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Where certificates come from.
pub(super) enum Source {
    /// The authority in the data folder.
    Local(Authority),
    /// One on another host.
    Joined { at: At, token: Option<String>, kept: Enrolments },
    /// Files.
    Files { folder: PathBuf, skew: Duration },
}

impl Source {
    pub(super) async fn open(
        settings: &IdentitySettings,
        authority: AuthoritySettings,
        space: Space,
        seal: SealKey,
    ) -> Result<Self, Failure> {
        match &settings.source {
            IdentitySource::Files(folder) => {
                Ok(Self::Files { folder: folder.clone(), skew: authority.skew })
            }
            IdentitySource::Joined { at, token } => {
                let kept = Enrolments::new(space, seal);
                Ok(Self::Joined { at: at.clone(), token: token.clone(), kept })
            }
            IdentitySource::Unsaid | IdentitySource::Local => {
                let authority = Authority::new(space, seal, authority);
                let made = authority.init(&settings.trust_domain).await.map_err(failed)?;
                if made {
                    let domain = &settings.trust_domain;
                    tracing::info!("made a certificate authority for the trust domain {domain}");
                }
                Ok(Self::Local(authority))
            }
        }
    }
}

/// An authority that does not do it, as a failure.
pub(crate) fn failed(error: AuthorityError) -> Failure {
    let exit = match &error {
        AuthorityError::Refused(_) => Exit::Usage,
        AuthorityError::Absent => Exit::NotFound,
        _ => Exit::Failed,
    };
    let failure = Failure::new("OUTR-0034", exit, error.to_string());
    match error {
        AuthorityError::Refused(refused) => failure.why(refused.code()).help(refused.remedy()),
        AuthorityError::Absent => failure.help("make one: outrigger ca init"),
        AuthorityError::Sealed => failure.help(
            "put back the file identity.seal that belongs to this data; `outrigger explain OUTR-0034` says more",
        ),
        _ => failure,
    }
}

impl Identities {
    /// The first certificate of an app.
    pub(super) async fn first(
        &self,
        namespace: &str,
        app_id: &str,
    ) -> Result<Arc<Workload>, String> {
        let credentials = match &self.source {
            Source::Local(authority) => {
                authority.issue(namespace, app_id).await.map_err(|error| error.to_string())?
            }
            Source::Files { folder, skew } => {
                let read = files::read(&files::place(folder, app_id))?;
                named(&read, *skew, namespace, app_id)?
            }
            Source::Joined { at, token, kept } => {
                self.joined(at, token.as_deref(), kept, (namespace, app_id)).await?
            }
        };
        Workload::new(credentials, Arc::clone(&self.world))
            .map_err(|refused| format!("{refused} ({}); {}", refused.code(), refused.remedy()))
    }

    /// What was got before and still holds, or what a token leads to.
    async fn joined(
        &self,
        at: &At,
        token: Option<&str>,
        kept: &Enrolments,
        app: (&str, &str),
    ) -> Result<Credentials, String> {
        let before = kept.get(app.0, app.1).await?;
        let holds = |enrolled: &Enrolled| {
            let made = Workload::new(enrolled.credentials.clone(), Arc::clone(&self.world));
            enrolled.authority == address(at) && made.is_ok()
        };
        if let Some(enrolled) = before.filter(holds) {
            return Ok(enrolled.credentials);
        }
        let token = token.ok_or(
            "this host has not joined that authority yet, or its certificate has expired: pass --join-token with what \
             `outrigger ca token` prints there",
        )?;
        let deadline = Deadline::after(&*self.world, AUTHORITY_WITHIN);
        let key = KeyRequest::new(None).map_err(|refused| refused.to_string())?;
        loop {
            match joining::join(at, token, key.clone(), app, &self.world).await {
                Ok(credentials) => {
                    let enrolled = Enrolled { authority: address(at), credentials };
                    kept.put(&enrolled).await?;
                    return Ok(enrolled.credentials);
                }
                Err(NotJoined::Away(_)) if !deadline.expired(self.world.mono()) => {
                    self.world.sleep(PAUSE).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

/// What files say, if they are those of the app.
pub(super) fn named(
    texts: &Texts,
    skew: Duration,
    namespace: &str,
    app_id: &str,
) -> Result<Credentials, String> {
    let credentials = texts.credentials(skew)?;
    let identity = credentials.identity();
    if identity.is_app(namespace, app_id) {
        return Ok(credentials);
    }
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    Err(format!(
        "the certificate is that of {identity}, not of the app {app_id} of the namespace {namespace}"
    ))
}
