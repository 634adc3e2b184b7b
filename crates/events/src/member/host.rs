//! The dispatcher's end of a line: a consumer like any other at the table, whose judgement comes from elsewhere.

use super::{
    Line,
    wire::{self, Frame, Judged, Parcel, VERSION, Welcome},
};
use crate::{
    broker::Broker,
    message::{Consumer, Delivery, Verdict},
    subscription::SubscriptionHandle,
};
use outrigger_kernel::{BoxFuture, Deadline, World, within};
use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
};

/// How long a new line may take to say what it wants.
const HELLO_WITHIN: Duration = Duration::from_secs(5);
/// How long the last word may take to leave.
const FAREWELL_WITHIN: Duration = Duration::from_secs(1);
/// Frames that wait for the line.
const AHEAD: usize = 64;

/// Serves a member: a process that has dialled this one, through [`super::Neighbours::dial`]. `find` finds the broker it
/// asks for. Returns when either side has had enough; what the member held then is handed out again, uncounted.
pub async fn host(
    line: Box<dyn Line>,
    world: Arc<dyn World>,
    find: impl Fn(&str) -> Option<Arc<Broker>> + Send,
) {
    let (mut read, mut write) = tokio::io::split(line);
    let deadline = Deadline::after(&*world, HELLO_WITHIN);
    let hello = match within(&*world, deadline, wire::read(&mut read)).await {
        Ok(Ok(Some(Frame { hello: Some(hello), .. }))) => hello,
        _ => return,
    };
    let (send, outbox) = mpsc::channel(AHEAD);
    let member = Arc::new(Remote {
        send: send.clone(),
        world: Arc::clone(&world),
        number: AtomicU64::new(0),
        pending: Mutex::default(),
    });
    let joined = match find(&hello.broker) {
        _ if hello.version != VERSION => Err(format!("version {} is not spoken", hello.version)),
        None => Err(format!("there is no broker {} here", hello.broker)),
        Some(broker) => {
            let consumer = Arc::clone(&member) as Arc<dyn Consumer>;
            broker.seat_member(hello.options(), consumer).await.map_err(|error| error.to_string())
        }
    };
    let refused = joined.as_ref().err().cloned();
    let welcome = Frame { welcome: Some(Welcome { refused }), ..Frame::default() };
    let deadline = Deadline::after(&*world, HELLO_WITHIN);
    let told = within(&*world, deadline, wire::write(&mut write, &welcome)).await;
    let Ok(handle) = joined else { return };
    // However this ends, also in the middle of leaving: nobody is left who could judge what the member holds, and waiting
    // for that would be waiting for the longest that a consumer may take.
    let _eviction = handle.eviction();
    let left_over = match told {
        Ok(Ok(())) => serve(&mut read, &mut write, handle, &member, (send, outbox), &*world).await,
        _ => Some(handle),
    };
    if let Some(handle) = left_over {
        // The line is gone, and with it whoever held these messages.
        handle.stop(Duration::ZERO).await;
    }
}

type Channel = (mpsc::Sender<Frame>, mpsc::Receiver<Frame>);

/// Carries parcels there and verdicts back. Answers the handle unless the member has left in order.
async fn serve(
    read: &mut (impl AsyncRead + Unpin),
    write: &mut (impl AsyncWrite + Unpin),
    handle: SubscriptionHandle,
    member: &Remote,
    (send, mut outbox): Channel,
    world: &dyn World,
) -> Option<SubscriptionHandle> {
    let (hear, mut heard) = mpsc::channel(AHEAD);
    let reading = async {
        while let Ok(Some(frame)) = wire::read(read).await {
            if hear.send(frame).await.is_err() {
                break;
            }
        }
        // What was heard is attended to before the end is.
        drop(hear);
        pending::<()>().await;
    };
    let mut writing = Box::pin(async {
        while let Some(frame) = outbox.recv().await {
            let last = frame.left.is_some();
            if wire::write(write, &frame).await.is_err() || last {
                break;
            }
        }
    });
    let mut handle = Some(handle);
    let attending = attend(&mut handle, &mut heard, member, send);
    tokio::select! {
        () = reading => {}
        () = &mut writing => {}
        farewell = attending => if farewell {
            // Whoever waits for it may be gone too.
            let _ = within(world, Deadline::after(world, FAREWELL_WITHIN), writing).await;
        },
    }
    handle
}

/// Does what the member says. Answers whether it has left in order.
async fn attend(
    handle: &mut Option<SubscriptionHandle>,
    heard: &mut mpsc::Receiver<Frame>,
    member: &Remote,
    send: mpsc::Sender<Frame>,
) -> bool {
    let Some(mut ended) = handle.as_ref().map(SubscriptionHandle::end) else { return false };
    let mut leaving: BoxFuture<'static, _> = Box::pin(pending());
    let mut is_leaving = false;
    loop {
        tokio::select! {
            left = &mut leaving => {
                let frame = Frame { left: Some(crate::subscription::Left::into(left)), ..Frame::default() };
                return send.send(frame).await.is_ok();
            }
            () = &mut ended, if !is_leaving => return false,
            frame = heard.recv() => {
                let Some(frame) = frame else { return false };
                if let Some(judged) = frame.judged {
                    member.judged(judged);
                }
                if let (Some(paused), Some(handle)) = (frame.paused, handle.as_ref()) {
                    if paused { handle.pause() } else { handle.resume() }
                }
                if let Some(ms) = frame.leave_within_ms
                    && let Some(handle) = handle.take()
                {
                    is_leaving = true;
                    leaving = Box::pin(handle.stop(Duration::from_millis(ms)));
                }
            }
        }
    }
}

/// A consumer in another process.
struct Remote {
    send: mpsc::Sender<Frame>,
    world: Arc<dyn World>,
    number: AtomicU64,
    pending: Mutex<HashMap<u64, oneshot::Sender<Vec<Verdict>>>>,
}

impl Remote {
    fn pending(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Vec<Verdict>>>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn judged(&self, judged: Judged) {
        let waiting = self.pending().remove(&judged.number);
        if let Some(waiting) = waiting {
            // Nobody waits for a verdict that came too late.
            drop(waiting.send(judged.verdicts()));
        }
    }
}

impl Consumer for Remote {
    fn deliver(&self, batch: Vec<Delivery>) -> BoxFuture<'_, Vec<Verdict>> {
        Box::pin(async move {
            let number = self.number.fetch_add(1, Ordering::Relaxed);
            let (judge, verdicts) = oneshot::channel();
            self.pending().insert(number, judge);
            let _forgotten = Forget { member: self, number };
            let parcel = Parcel::new(number, batch, &*self.world);
            let sent = self.send.send(Frame { parcel: Some(parcel), ..Frame::default() }).await;
            match verdicts.await {
                Ok(verdicts) if sent.is_ok() => verdicts,
                // The line is gone. That is nobody's failure: the seat is about to be taken away, and this with it.
                _ => pending().await,
            }
        })
    }
}

/// Forgets a delivery that nobody waits for any more.
struct Forget<'a> {
    member: &'a Remote,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.member.pending().remove(&self.number));
    }
}
