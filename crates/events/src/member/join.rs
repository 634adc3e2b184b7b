//! The member's end of a line: what comes goes to the consumer here, and its verdicts go back.

use super::{
    Held, Line, Neighbours,
    wire::{self, Frame, Hello, Judged, Parcel},
};
use crate::{
    message::{Consumer, Verdict},
    subscription::{Left, SETTLING_MAX, SubscribeOptions},
};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use outrigger_kernel::{BoxFuture, Deadline, World, within};
use std::{
    future::pending,
    io,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot, watch};

/// How long the host may take to answer: opening a group takes a commit.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// How long a consumer that was dropped may go on with what it holds.
const DROPPED_GRACE_MS: u64 = 60_000;
/// Frames that wait for the line.
const AHEAD: usize = 64;

/// Why one could not become a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// There is nobody any more, or he does not dispatch to the group: its claim may be taken over.
    NotThere(String),
    /// It cannot be said.
    Unclear(String),
}

/// A place at another process's table. Dropping it is leaving without waiting.
pub(crate) struct Membership {
    send: mpsc::Sender<Frame>,
    over: watch::Receiver<bool>,
    left: Mutex<Option<oneshot::Receiver<Left>>>,
    world: Arc<dyn World>,
}

/// Has `consumer` handed messages by the process that holds the claim.
pub(crate) async fn join(
    neighbours: &dyn Neighbours,
    held: &Held,
    broker: &str,
    (options, timeout): (&SubscribeOptions, Duration),
    consumer: Arc<dyn Consumer>,
    world: &Arc<dyn World>,
) -> Result<Membership, Refused> {
    let unclear = |error: io::Error| Refused::Unclear(error.to_string());
    let talk = async {
        let mut line = neighbours.dial(&held.owner).await.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Refused::NotThere(error.to_string())
            }
            _ => unclear(error),
        })?;
        let hello = Some(Hello::new(broker, options, timeout));
        wire::write(&mut line, &Frame { hello, ..Frame::default() }).await.map_err(unclear)?;
        match wire::read(&mut line).await.map_err(unclear)? {
            Some(Frame { welcome: Some(welcome), .. }) => match welcome.refused {
                None => Ok(line),
                Some(reason) => Err(Refused::NotThere(reason)),
            },
            _ => Err(Refused::Unclear("it hung up".to_owned())),
        }
    };
    let deadline = Deadline::after(&**world, WELCOME_WITHIN);
    let line = within(&**world, deadline, talk)
        .await
        .map_err(|elapsed| Refused::Unclear(elapsed.to_string()))??;
    let (send, outbox) = mpsc::channel(AHEAD);
    let (end, over) = watch::channel(false);
    let (say_left, left) = oneshot::channel();
    let work = Work {
        topic: options.topic.as_str().into(),
        consumer,
        world: Arc::clone(world),
        send: send.clone(),
    };
    let serving = async move {
        work.serve(line, outbox, say_left).await;
        end.send_replace(true);
    };
    drop(world.spawn("events member", Box::pin(serving)));
    Ok(Membership { send, over, left: Mutex::new(Some(left)), world: Arc::clone(world) })
}

impl Membership {
    pub(crate) fn pause(&self, paused: bool) {
        // A full line is one that carries messages; the wish follows when there is room, in order.
        let (send, frame) = (self.send.clone(), Frame { paused: Some(paused), ..Frame::default() });
        match send.try_send(frame) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(frame)) => {
                let later = async move { drop(send.send(frame).await) };
                drop(self.world.spawn("events member", Box::pin(later)));
            }
        }
    }

    /// Waits until nothing more will come.
    pub(crate) fn ended(&self) -> BoxFuture<'static, ()> {
        let mut over = self.over.clone();
        // A sender that is gone has ended too.
        Box::pin(async move { drop(over.wait_for(|over| *over).await) })
    }

    pub(crate) async fn stop(self, grace: Duration) -> Left {
        let nothing = Left { abandoned: 0, settled: false };
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(left) = left else { return nothing };
        let ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let leave = async {
            let frame = Frame { leave_within_ms: Some(ms), ..Frame::default() };
            drop(self.send.send(frame).await);
            left.await.unwrap_or(nothing)
        };
        let patience = grace.saturating_add(SETTLING_MAX);
        let deadline = Deadline::after(&*self.world, patience);
        within(&*self.world, deadline, leave).await.unwrap_or(nothing)
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.take().is_some() {
            let frame = Frame { leave_within_ms: Some(DROPPED_GRACE_MS), ..Frame::default() };
            let send = self.send.clone();
            if send.try_send(frame.clone()).is_err() {
                let later = async move { drop(send.send(frame).await) };
                drop(self.world.spawn("events member", Box::pin(later)));
            }
        }
    }
}

/// What a member does until the line ends.
struct Work {
    topic: Arc<str>,
    consumer: Arc<dyn Consumer>,
    world: Arc<dyn World>,
    send: mpsc::Sender<Frame>,
}

impl Work {
    async fn serve(
        self,
        line: Box<dyn Line>,
        mut outbox: mpsc::Receiver<Frame>,
        say_left: oneshot::Sender<Left>,
    ) {
        let (mut read, mut write) = tokio::io::split(line);
        let (hear, heard) = mpsc::channel(AHEAD);
        let reading = async {
            while let Ok(Some(frame)) = wire::read(&mut read).await {
                if hear.send(frame).await.is_err() {
                    break;
                }
            }
            // What was heard is attended to before the end is.
            drop(hear);
            pending::<()>().await;
        };
        let writing = async {
            while let Some(frame) = outbox.recv().await {
                if wire::write(&mut write, &frame).await.is_err() {
                    break;
                }
            }
        };
        // With the end of this, deliveries under way are dropped: nobody waits for their verdicts any more, and their
        // messages are handed out again.
        tokio::select! {
            () = reading => {}
            () = writing => {}
            () = self.attend(heard, say_left) => {}
        }
    }

    async fn attend(&self, mut heard: mpsc::Receiver<Frame>, say_left: oneshot::Sender<Left>) {
        // As many as the host hands out, which is as many as were asked for.
        let mut deliveries = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(()) = deliveries.next() => {}
                frame = heard.recv() => match frame {
                    Some(Frame { parcel: Some(parcel), .. }) => deliveries.push(self.deliver(parcel)),
                    Some(Frame { left: Some(left), .. }) => {
                        // Who dropped its place does not wait for an answer.
                        let _ = say_left.send(left.into());
                        return;
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    async fn deliver(&self, parcel: Parcel) {
        let number = parcel.number;
        let (batch, deadline) = parcel.open(&self.topic, &*self.world);
        let count = batch.len();
        // Inside the block, so that a consumer that panics before it returns a future is caught as well.
        let work = AssertUnwindSafe(async { self.consumer.deliver(batch).await }).catch_unwind();
        let verdicts = match within(&*self.world, deadline, work).await {
            Ok(Ok(verdicts)) => verdicts,
            Ok(Err(_)) => vec![Verdict::retry("the consumer panicked"); count],
            // The host has stopped waiting too, and counts it as it counts its own.
            Err(_) => return,
        };
        let judged = Some(Judged::new(number, verdicts));
        drop(self.send.send(Frame { judged, ..Frame::default() }).await);
    }
}
