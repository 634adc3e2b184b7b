//! Methods that are not served yet: each answers what its twin over HTTP answers.

use crate::errors::{Entry, Fault, catalogue};

/// The answer to `method`, which no handler knows.
pub(super) fn answer(method: &str) -> Fault {
    let (entry, missing): (&'static Entry, &str) = match method {
        "InvokeBinding" => (&catalogue::OUTPUT_BINDING, "there is no output binding"),
        _ if method.contains("Configuration") => {
            (&catalogue::CONFIGURATION_NOT_CONFIGURED, "no configuration store is configured")
        }
        "EncryptAlpha1" | "DecryptAlpha1" => {
            (&catalogue::CRYPTO_NOT_CONFIGURED, "no crypto provider is configured")
        }
        _ if method.starts_with("Subtle") => {
            (&catalogue::CRYPTO_NOT_CONFIGURED, "no crypto provider is configured")
        }
        _ if method.starts_with("Converse") => {
            (&catalogue::CONVERSATION_NOT_FOUND, "there is no conversation component")
        }
        _ if method.contains("Actor") => {
            (&catalogue::ACTOR_RUNTIME_NOT_FOUND, "the actor runtime is not there")
        }
        _ => (&catalogue::UNIMPLEMENTED, "there is no such method"),
    };
    Fault::new(entry, format!("{method} cannot be served: {missing}"))
}
