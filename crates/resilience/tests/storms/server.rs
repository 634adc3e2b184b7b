//! A server: a line, and workers that take from its head.

use outrigger_kernel::World;
use outrigger_sim::SimWorld;
use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// A server with a first-in-first-out line of any length.
pub(crate) struct Server {
    world: Arc<SimWorld>,
    /// Mean service time in microseconds.
    service_us: AtomicU64,
    line: Mutex<Line>,
    /// How many requests came.
    pub(crate) asked: AtomicU64,
}

struct Line {
    idle: usize,
    waiting: VecDeque<oneshot::Sender<u16>>,
}

impl Server {
    pub(crate) fn new(world: &Arc<SimWorld>, workers: usize, service: Duration) -> Arc<Self> {
        let server = Self {
            world: Arc::clone(world),
            service_us: AtomicU64::new(0),
            line: Mutex::new(Line { idle: workers, waiting: VecDeque::new() }),
            asked: AtomicU64::new(0),
        };
        server.serves_in(service);
        Arc::new(server)
    }

    /// From now on a request takes this long on average.
    pub(crate) fn serves_in(&self, service: Duration) {
        self.service_us.store(u64::try_from(service.as_micros()).unwrap(), Relaxed);
    }

    /// Asks, and waits for the answer. Whoever stops waiting leaves the request in the line.
    pub(crate) fn ask(self: &Arc<Self>) -> impl Future<Output = u16> + use<> {
        self.asked.fetch_add(1, Relaxed);
        let (answer, answered) = oneshot::channel();
        let begins = {
            let mut line = self.line.lock().unwrap();
            line.waiting.push_back(answer);
            let begins = line.idle > 0;
            line.idle -= usize::from(begins);
            begins
        };
        if begins {
            let work = Arc::clone(self).work();
            let _task = self.world.spawn("worker", Box::pin(work));
        }
        async { answered.await.unwrap_or(500) }
    }

    async fn work(self: Arc<Self>) {
        loop {
            let next = {
                let mut line = self.line.lock().unwrap();
                let next = line.waiting.pop_front();
                line.idle += usize::from(next.is_none());
                next
            };
            let Some(answer) = next else { return };
            self.world.sleep(self.service()).await;
            let _ = answer.send(200);
        }
    }

    /// Between half and one and a half times the mean.
    fn service(&self) -> Duration {
        let mean = self.service_us.load(Relaxed);
        Duration::from_micros(mean / 2 + self.world.random() % mean.max(1))
    }
}
