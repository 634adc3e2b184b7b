//! The way out: from topics to apps.
//!
//! ```text
//!   resource files --.
//!   the app's answer +--> merge --> keeper --> events::Broker::subscribe --> Consumer
//!                                                                              |  HttpApp    POST the envelope
//!   the app's streams ----------> register --> events::Broker::subscribe --------+  GrpcApp    OnTopicEvent
//!                                                                              |  StreamConsumer
//!                                                     answer --> Verdict <-----'
//! ```
//!
//! One [`Subscriptions`] per app. It learns what the app wants, subscribes as the consumer group of the component, hands
//! the app its events in the shape it speaks, and turns each answer into a verdict. Retries, pauses, dead letters and
//! what survives a restart are the block's (`outrigger_events`); what an answer means is this folder's.
//!
//! | file | what |
//! |---|---|
//! | `manager.rs`, `keeper.rs` | the door, and the task behind it that makes what is what should be |
//! | `subscription.rs`, `terms.rs` | what an app wants, and under which terms it is served |
//! | `discovery/` | asking the app |
//! | `reading.rs` | from a message to an event and its path |
//! | `outlet.rs`, `hand_over.rs` | what all ways out share: the app, numbers, spans, headers; and the order of things |
//! | `http_app.rs`, `grpc_app.rs`, `grpc_wire.rs`, `portion.rs` | calling the app, one event or many |
//! | `reach.rs` | patience with an app that is away |
//! | `answer.rs` | what an answer means |
//! | `stream/` | apps that call us |
//!
//! The invariants: an event is acknowledged only because the app said so; whatever is no event is given up with a reason
//! and never reaches the app; an app that cannot be reached costs a message no attempt; leaving a group comes before
//! giving its messages back, so that stopping costs no attempt either.
//!
//! It is not: a queue. Nothing waits here but what the app was handed.

mod answer;
mod discovery;
mod grpc_app;
mod grpc_wire;
mod hand_over;
mod http_app;
mod keeper;
mod manager;
mod outlet;
mod portion;
mod reach;
mod reading;
mod stream;
mod subscription;
mod terms;
#[cfg(test)]
mod tests;

pub use manager::Subscriptions;
pub use outlet::Outlet;
pub(crate) use stream::{Events, Judge, StreamOpening, StreamRefused};
