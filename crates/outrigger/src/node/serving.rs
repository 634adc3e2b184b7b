//! Who serves a component: decided from its type, its address and the mode, before anything is opened.
//!
//! | type | `real` | `auto` | `embedded` |
//! |---|---|---|---|
//! | ours, in-memory, SQLite, local secret stores | served | served | served |
//! | outside store, broker or lock store, something listens there | fails | fails | embedded store |
//! | outside store, broker or lock store, silent loopback address | fails | embedded store, and says so | embedded store, and says so |
//! | outside store, broker or lock store elsewhere | fails | fails | embedded store, and says so |
//! | a block this build does not have | fails | left out, and says so | left out, and says so |
//!
//! "Fails" is not final: `ignoreErrors: true` turns it into "left out, and says so".

use crate::{
    failure::{Exit, Failure},
    settings::node::ComponentsMode,
};
use outrigger_resources::{
    Component,
    type_catalog::{self, Block, HostPort, Provision},
};

/// Who serves a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Serving {
    /// The durable engine.
    Engine,
    /// The memory engine.
    Memory,
    /// Something on this machine: a file of secrets, the environment.
    Local,
    /// Nobody; calls answer "not configured".
    Nobody,
}

/// A decision, with a line for the user where it is not what the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) serving: Serving,
    pub(crate) notice: Option<String>,
}

/// Decides. `listens` tells whether something takes connections at an address; it is asked only when that matters.
pub(crate) fn decide(
    component: &Component,
    mode: ComponentsMode,
    listens: &dyn Fn(&HostPort) -> bool,
) -> Result<Decision, Failure> {
    let as_written = |serving| Ok(Decision { serving, notice: None });
    let known = type_catalog::find(&component.type_name);
    let block = Block::of(&component.type_name);
    let has_block =
        matches!(block, Some(Block::State | Block::Pubsub | Block::Lock | Block::SecretStores));
    match (known.map(|known| known.provision), block) {
        (Some(Provision::Engine | Provision::SingleFile), _) if has_block => {
            as_written(Serving::Engine)
        }
        (Some(Provision::Memory), _) if has_block => as_written(Serving::Memory),
        (Some(Provision::Local), Some(Block::SecretStores)) => as_written(Serving::Local),
        (_, Some(Block::State | Block::Pubsub | Block::Lock)) => outside(component, mode, listens),
        _ => absent(component, mode),
    }
}

fn outside(
    component: &Component,
    mode: ComponentsMode,
    listens: &dyn Fn(&HostPort) -> bool,
) -> Result<Decision, Failure> {
    let (name, kind) = (&component.head.name, &component.type_name);
    let embedded = |why: &str| Decision {
        serving: Serving::Engine,
        notice: Some(format!("{name} ({kind}) is served from the embedded store: {why}")),
    };
    match mode {
        ComponentsMode::Embedded => Ok(embedded("--components=embedded")),
        ComponentsMode::Real => {
            Err(refused(component, "this build has no connection to that system yet"))
        }
        ComponentsMode::Auto => {
            let addresses = type_catalog::addresses(component);
            let Some(first) = addresses.first() else {
                return Err(refused(
                    component,
                    "its address is not written in the file, and this build has no connection to that system yet",
                ));
            };
            if let Some(away) = addresses.iter().find(|address| !address.is_loopback()) {
                return Err(refused(
                    component,
                    &format!(
                        "it points at {away}, and this build has no connection to that system yet"
                    ),
                ));
            }
            if let Some(taken) = addresses.iter().find(|address| listens(address)) {
                return Err(refused(
                    component,
                    &format!(
                        "something listens at {taken}, and this build has no connection to that system yet"
                    ),
                ));
            }
            Ok(embedded(&format!("nothing listens at {first}")))
        }
    }
}

fn absent(component: &Component, mode: ComponentsMode) -> Result<Decision, Failure> {
    let (name, kind) = (&component.head.name, &component.type_name);
    match mode {
        ComponentsMode::Real => Err(refused(component, "this build does not serve that type")),
        ComponentsMode::Auto | ComponentsMode::Embedded => Ok(Decision {
            serving: Serving::Nobody,
            notice: Some(format!(
                "{name} ({kind}) is left out: this build does not serve that type"
            )),
        }),
    }
}

fn refused(component: &Component, why: &str) -> Failure {
    let what = format!(
        "component {} has the type {}, which is not available",
        component.head.name, component.type_name
    );
    let failure = Failure::new("OUTR-0012", Exit::Usage, what).at(&component.origin).why(why);
    let failure = match Block::of(&component.type_name) {
        Some(Block::State | Block::Pubsub) => {
            failure.help("serve it from the embedded store with --components=embedded")
        }
        _ => failure,
    };
    failure.help("or go without it: spec.ignoreErrors: true")
}

#[cfg(test)]
mod tests {
    use super::{Serving, decide};
    use crate::settings::node::ComponentsMode::{self, Auto, Embedded, Real};
    use outrigger_resources::{Body, Component};
    use std::path::Path;

    fn component(kind: &str, setting: &str, value: &str) -> Component {
        let text = format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: c\nspec:\n  type: {kind}\n  version: v1\n  \
             metadata:\n  - name: {setting}\n    value: {value}\n"
        );
        let (found, issues) = outrigger_resources::parse(Path::new("c.yaml"), text.as_bytes());
        assert!(issues.is_empty(), "{issues:?}");
        match found.into_iter().next().map(|resource| resource.body) {
            Some(Body::Component(component)) => *component,
            other => panic!("{other:?}"),
        }
    }

    fn serving(
        kind: &str,
        host: &str,
        mode: ComponentsMode,
        listens: bool,
    ) -> Result<(Serving, bool), &'static str> {
        let setting = if kind.ends_with("kafka") { "brokers" } else { "redisHost" };
        let decided = decide(&component(kind, setting, host), mode, &|_| listens);
        decided
            .map(|decision| (decision.serving, decision.notice.is_some()))
            .map_err(|failure| failure.code())
    }

    #[test]
    fn the_table() {
        let here = "localhost:6379";
        let away = "redis.example.com:6379";
        assert_eq!(serving("state.in-memory", here, Real, false), Ok((Serving::Memory, false)));
        assert_eq!(serving("state.sqlite", here, Real, false), Ok((Serving::Engine, false)));
        assert_eq!(
            serving("secretstores.local.env", here, Real, false),
            Ok((Serving::Local, false))
        );
        assert_eq!(serving("state.redis", here, Real, false), Err("OUTR-0012"));
        assert_eq!(serving("state.redis", here, Auto, false), Ok((Serving::Engine, true)));
        assert_eq!(serving("state.redis", here, Auto, true), Err("OUTR-0012"));
        assert_eq!(
            serving("pubsub.kafka", "127.0.0.1:9092", Auto, false),
            Ok((Serving::Engine, true))
        );
        assert_eq!(serving("state.redis", away, Auto, false), Err("OUTR-0012"));
        assert_eq!(serving("state.redis", away, Embedded, true), Ok((Serving::Engine, true)));
        assert_eq!(serving("bindings.cron", here, Real, false), Err("OUTR-0012"));
        assert_eq!(serving("bindings.cron", here, Auto, false), Ok((Serving::Nobody, true)));
    }
}
