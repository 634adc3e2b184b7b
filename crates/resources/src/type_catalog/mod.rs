//! Component types: which block they belong to, who serves them, and where an outside system is to be found.
//!
//! The table knows the types people use so that three questions have an answer before anything is connected: is this a
//! type at all, or a slip of the pen; does it need a system outside; and is that system supposed to run on this very
//! machine, so that a missing one may be replaced by what Outrigger brings along.

mod address;
mod table;

pub use address::{HostPort, addresses, addresses_in};
pub use table::ALL;

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

impl Block {
    /// All blocks.
    pub const ALL: [Self; 11] = [
        Self::State,
        Self::Pubsub,
        Self::Bindings,
        Self::SecretStores,
        Self::Configuration,
        Self::Lock,
        Self::Crypto,
        Self::Conversation,
        Self::Middleware,
        Self::NameResolution,
        Self::Workflow,
    ];

    /// What a type name of this block begins with.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Pubsub => "pubsub",
            Self::Bindings => "bindings",
            Self::SecretStores => "secretstores",
            Self::Configuration => "configuration",
            Self::Lock => "lock",
            Self::Crypto => "crypto",
            Self::Conversation => "conversation",
            Self::Middleware => "middleware",
            Self::NameResolution => "nameresolution",
            Self::Workflow => "workflow",
        }
    }

    /// The block of a type name such as `state.redis`, whether the type is known or not.
    #[must_use]
    pub fn of(type_name: &str) -> Option<Self> {
        let (prefix, rest) = type_name.split_once('.')?;
        let block = Self::ALL.into_iter().find(|b| b.prefix().eq_ignore_ascii_case(prefix));
        block.filter(|_| !rest.is_empty())
    }
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
    /// The settings that hold addresses of servers; any of them may be given.
    pub address_settings: &'static [&'static str],
    /// The port when an address gives none.
    pub port: u16,
}

impl ComponentType {
    /// Whether using it means talking to a system that Outrigger does not bring along.
    #[must_use]
    pub fn is_outside(&self) -> bool {
        matches!(self.provision, Provision::Server | Provision::Cloud)
    }
}

/// The known type called `type_name`, in any case.
#[must_use]
pub fn find(type_name: &str) -> Option<&'static ComponentType> {
    ALL.iter().find(|known| known.name.eq_ignore_ascii_case(type_name))
}

#[cfg(test)]
mod tests {
    use super::{ALL, Block, Provision, find};
    use std::collections::BTreeSet;

    #[test]
    fn the_table_is_consistent() {
        let names: BTreeSet<&str> = ALL.iter().map(|known| known.name).collect();
        assert_eq!(names.len(), ALL.len());
        for known in ALL {
            assert_eq!(Block::of(known.name), Some(known.block), "{}", known.name);
            assert_eq!(known.name, known.name.to_lowercase());
            let has_address = !known.address_settings.is_empty();
            assert!(!has_address || known.provision == Provision::Server, "{}", known.name);
        }
    }

    #[test]
    fn known_and_unknown() {
        assert_eq!(find("State.Redis").unwrap().block, Block::State);
        assert!(find("state.redis").unwrap().is_outside());
        assert!(!find("state.in-memory").unwrap().is_outside());
        assert!(find("state.mine").is_none());
        assert_eq!(Block::of("state.mine"), Some(Block::State));
        assert_eq!(Block::of("state."), None);
        assert_eq!(Block::of("sate.redis"), None);
    }
}
