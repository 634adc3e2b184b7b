//! # Events: durable topics, shared by groups of consumers
//!
//! A topic is a log in the key space. A publish appends to it in one commit; any number of groups read it, each at its
//! own pace, and within a group every message goes to one of the consumers.
//!
//! ```text
//!   publish --> one commit: messages ++ stamp --> watch --> dispatcher of group A --> consumer, consumer
//!                                                   +-----> dispatcher of group B --> consumer
//!   verdicts --> one commit for all that came meanwhile: cursor, failed messages, dead letters
//! ```
//!
//! ## Guarantees
//!
//! - **At least once.** A message whose publish was answered is delivered to every group until a consumer of the group
//!   acknowledged or dropped it, its retries are used up, or its time ran out, whatever crashes in between.
//! - **All or nothing.** A bulk is one commit. With [`Broker::plan`] a publish is part of another block's commit.
//! - **Nothing is given up silently.** What is given up goes to the dead-letter topic in the commit that settles it, so
//!   it is never in both places nor in neither; without a dead-letter topic there is a warning with its id.
//! - **A failing message holds up nothing but itself.** Its attempts and its pause survive a restart.
//! - **A new group starts at the earliest message that is still there**, and from the moment that
//!   [`Broker::subscribe`] returned nothing is deleted that it has not handled.
//! - **Bounds everywhere** ([`limits`], [`BrokerSettings`]): going over one is an error of its own, or back-pressure.
//! - **A full store can be drained.** Publishing ends, consuming goes on, and what is consumed makes room. Failed messages
//!   are tried again out of memory then, and dead letters wait for room.
//! - **Whoever is served no more is told** ([`SubscriptionHandle::ended`]).
//! - **Nothing runs while nothing happens.** Dispatchers are woken by the key space, never by a poll.
//!
//! ## Not guaranteed
//!
//! - *Exactly once.* A verdict that was not committed before a crash is forgotten, and the message delivered again;
//!   consumers have to tolerate that. A dead letter may be published twice when the store cannot say whether a commit
//!   happened.
//! - *Order.* Messages are handed out in the order of the log, but a retried message comes later, and several in flight
//!   overtake each other. One consumer in the group, with one message in flight and no retries, sees the order.
//! - *How often a message was tried*, after a crash: an attempt that was under way then is not counted, nor those made
//!   while the store was full.
//! - *Room.* Messages are kept for a registered group until it handled them: a group that nobody serves any more keeps
//!   its topics growing until [`Broker::forget`]. A topic without groups keeps messages for the retention time; nothing
//!   bounds their number within it but the disk, whose end is [`PublishError::Full`].
//!
//! ## Several processes
//!
//! Where processes share a key space ([`Broker::open_among`]), a group may have consumers in each. All of the above
//! holds for it as for one process: one of them dispatches, and the others are members at its table. Who dispatches
//! changes when that process leaves or dies; what its consumers and members held is delivered again.
//!
//! ## What it is not
//!
//! It knows no wire: CloudEvents are built and read in [`envelope`], rules are evaluated in [`routes`], but whoever
//! publishes and whoever implements [`Consumer`] decides to use them. Partitions and ordering keys are not here yet; the
//! layout has their place (see `keys.rs`).
#![forbid(unsafe_code)]

mod ack_set;
mod broker;
pub mod dead_letter;
mod dispatch;
pub mod envelope;
mod error;
mod keys;
mod ledger;
pub mod limits;
mod member;
mod message;
mod names;
mod publish;
mod records;
pub mod routes;
mod stats;
mod subscription;
mod survey;
mod sweep;

pub use broker::{Broker, BrokerSettings};
pub use error::{IllegalName, PublishError, StoreError, SubscribeError};
pub use member::{Line, Neighbours, host};
pub use message::{Consumer, Delivery, NewMessage, Verdict};
pub use stats::{DispatchStats, GroupStats, TopicStats};
pub use subscription::{Batch, Left, SubscribeOptions, SubscriptionHandle};

#[cfg(test)]
mod tests;
