//! Load on blocking connections, one thread each.
//!
//! *Closed loop*: every connection sends as soon as it has its answer; measures how much a server can do. *Open loop*:
//! requests are due at fixed instants whatever the server does, and a late answer makes the next one later still from
//! its due time, so that a stall is counted for everyone who would have waited in it (no coordinated omission).

use crate::wire::{Protocol, Wire};
use anyhow::{Context, Result, ensure};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Latencies in nanoseconds, sorted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    latencies: Vec<u64>,
    seconds: f64,
}

impl Sample {
    pub(crate) fn new(mut latencies: Vec<u64>, seconds: f64) -> Self {
        latencies.sort_unstable();
        Self { latencies, seconds }
    }

    /// Answers per second.
    pub(crate) fn rate(&self) -> f64 {
        self.count() as f64 / self.seconds
    }

    pub(crate) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// The latency that this share (0 to 1) of the requests stayed within, in nanoseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).map_or(f64::NAN, |nanoseconds| *nanoseconds as f64)
    }
}

/// Where requests go and what they are. `request(connection, number)` makes the bytes.
pub(crate) struct Aim<'a> {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) connections: usize,
    pub(crate) request: &'a (dyn Fn(usize, usize) -> Vec<u8> + Sync),
    pub(crate) statuses: &'a [u16],
}

impl Aim<'_> {
    /// As many requests as the server answers in `time`.
    pub(crate) fn closed(&self, time: Duration) -> Result<Sample> {
        let started = Instant::now();
        let end = started + time;
        self.each(|connection, wire| {
            let mut latencies = Vec::with_capacity(1 << 16);
            while Instant::now() < end {
                let bytes = (self.request)(connection, latencies.len());
                let sent = Instant::now();
                self.exchange(wire, &bytes)?;
                latencies.push(nanoseconds(sent.elapsed()));
            }
            Ok(latencies)
        })
        .map(|latencies| Sample::new(latencies, started.elapsed().as_secs_f64()))
    }

    /// `rate` requests per second for `time`, spread evenly over the connections.
    pub(crate) fn open(&self, rate: f64, time: Duration) -> Result<Sample> {
        let started = Instant::now() + Duration::from_millis(50);
        let interval = Duration::from_secs_f64(self.connections as f64 / rate);
        let count = (time.as_secs_f64() / interval.as_secs_f64()) as u32;
        self.each(|connection, wire| {
            let offset = interval.mul_f64(connection as f64 / self.connections as f64);
            let mut latencies = Vec::with_capacity(count as usize);
            for number in 0..count {
                let due = started + offset + interval * number;
                let bytes = (self.request)(connection, number as usize);
                // Waking late is this machine's scheduler; sending late is the server's doing.
                let begin = if Instant::now() < due { wait_until(due) } else { due };
                self.exchange(wire, &bytes)?;
                latencies.push(nanoseconds(begin.elapsed()));
            }
            Ok(latencies)
        })
        .map(|latencies| Sample::new(latencies, time.as_secs_f64()))
    }

    fn exchange(&self, wire: &mut Wire, bytes: &[u8]) -> Result<()> {
        let status = wire.exchange(bytes)?;
        ensure!(
            self.statuses.contains(&status),
            "answered {status}: {}",
            String::from_utf8_lossy(wire.answer())
        );
        Ok(())
    }

    fn each(&self, work: impl Fn(usize, &mut Wire) -> Result<Vec<u64>> + Sync) -> Result<Vec<u64>> {
        let work = &work;
        let mut wires = Vec::new();
        for _ in 0..self.connections {
            wires.push(Wire::open(self.port, self.protocol)?);
        }
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for (connection, mut wire) in wires.into_iter().enumerate() {
                workers.push(scope.spawn(move || work(connection, &mut wire)));
            }
            let mut all = Vec::new();
            for worker in workers {
                all.extend(worker.join().ok().context("a load thread panicked")??);
            }
            Ok(all)
        })
    }
}

/// Sleeps, then spins the last stretch: a sleeping thread wakes up too late to be the clock of a microsecond figure.
fn wait_until(due: Instant) -> Instant {
    const SPIN: Duration = Duration::from_micros(80);
    let now = Instant::now();
    if due > now + SPIN {
        thread::sleep(due - now - SPIN);
    }
    loop {
        let now = Instant::now();
        if now >= due {
            return now;
        }
        std::hint::spin_loop();
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
