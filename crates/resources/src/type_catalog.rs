//! Component types: which block they belong to, who serves them, and where an outside system is to be found.

use crate::component::Component;
use std::fmt;

/// A block of the API, by the first part of a component's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Block {
    /// `state`.
    State,
    /// `pubsub`.
    Pubsub,
    /// `bindings`.
    Bindings,
    /// `secretstores`.
    SecretStores,
    /// `configuration`.
    Configuration,
    /// `lock`.
    Lock,
    /// `crypto`.
    Crypto,
    /// `conversation`.
    Conversation,
    /// `middleware`.
    Middleware,
    /// `nameresolution`.
    NameResolution,
    /// `workflow`.
    Workflow,
}

/// Who serves a component type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provision {
    /// Outrigger, durably, from its own engine (`state.outrigger`).
    Engine,
    /// Outrigger, from memory: gone when the process ends (`state.in-memory`).
    Memory,
    /// Outrigger, from what is on this machine: a file, the environment, a clock (`secretstores.local.file`).
    Local,
    /// A database in one file of this machine (`state.sqlite`): no server to reach, so Outrigger's engine can stand in.
    SingleFile,
    /// A server somewhere, whose address the component gives.
    Server,
    /// A cloud's service, reached by account rather than by address.
    Cloud,
}

/// A known component type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComponentType {
    /// `state.redis`.
    pub name: &'static str,
    /// Its block.
    pub block: Block,
    /// Who serves it.
    pub provision: Provision,
}

/// Where a server is to be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Whether this names the machine we run on.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        false
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Block {
    /// The block of a type name such as `state.redis`, whether the type is known or not.
    #[must_use]
    pub fn of(type_name: &str) -> Option<Self> {
        let _ = type_name;
        None
    }
}

/// The known type called `type_name`, in any case.
#[must_use]
pub fn find(type_name: &str) -> Option<&'static ComponentType> {
    let _ = type_name;
    None
}

/// The servers a component points at, as far as its file gives them in the clear. Empty for types that have none, and
/// when the address is a secret or an environment variable: then nobody can tell without resolving it first.
#[must_use]
pub fn addresses(component: &Component) -> Vec<HostPort> {
    let _ = component;
    Vec::new()
}
