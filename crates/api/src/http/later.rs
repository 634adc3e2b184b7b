//! Families of the API that are not served yet: each answers the error its clients expect of a runtime without it.

use super::{path::decode, route::Op};
use crate::errors::{Fault, catalogue};

pub(super) fn answer(op: Op, name: &str) -> Fault {
    let name = decode(name, "the name").unwrap_or_default();
    let (entry, message) = match op {
        Op::Bindings => (&catalogue::OUTPUT_BINDING, format!("there is no output binding {name}")),
        Op::Configuration => (
            &catalogue::CONFIGURATION_NOT_CONFIGURED,
            "no configuration store is configured".into(),
        ),
        Op::Crypto | Op::SubtleCrypto => {
            (&catalogue::CRYPTO_NOT_CONFIGURED, "no crypto provider is configured".into())
        }
        Op::Conversation => (
            &catalogue::CONVERSATION_NOT_FOUND,
            format!("there is no conversation component {name}"),
        ),
        Op::Actors => {
            (&catalogue::ACTOR_RUNTIME_NOT_FOUND, "the actor runtime is not there".into())
        }
        other => (&catalogue::UNIMPLEMENTED, format!("{} is not there yet", other.name())),
    };
    Fault::new(entry, message)
}
