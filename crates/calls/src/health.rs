//! Whether an app can be called: asked again and again, believed only after it was said often enough.
//!
//! With health checks on, an app is unhealthy until its first good answer. One good answer makes it healthy, so many bad
//! ones in a row make it unhealthy. The machine is pure; [`AppHealth`] is the loop that asks.

use crate::{AppChannel, CallError, body};
use http::Request;
use outrigger_kernel::{BoxFuture, Deadline, TaskHandle, World, within};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Whether an app can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It can.
    Healthy,
    /// It cannot, or nobody knows yet.
    Unhealthy,
}

/// Turns single answers into a verdict.
#[derive(Clone, Copy, Debug)]
pub struct HealthMachine {
    threshold: u32,
    failures: u32,
    health: Health,
}

impl HealthMachine {
    /// An app nobody has asked yet. `threshold` failures in a row (at least one) make a healthy app unhealthy.
    #[must_use]
    pub fn new(threshold: u32) -> Self {
        Self { threshold: threshold.max(1), failures: 0, health: Health::Unhealthy }
    }

    /// The verdict so far.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Takes an answer in; `Some` when it changes the verdict.
    pub fn observe(&mut self, good: bool) -> Option<Health> {
        self.failures = if good { 0 } else { self.failures.saturating_add(1) };
        let health = match (good, self.health) {
            (true, _) => Health::Healthy,
            (false, _) if self.failures >= self.threshold => Health::Unhealthy,
            (false, before) => before,
        };
        (std::mem::replace(&mut self.health, health) != health).then_some(health)
    }
}

/// How an app is asked.
pub trait Probe: Send + Sync + 'static {
    /// Asks once; the error says why the answer is not good.
    fn ask(&self, deadline: Deadline) -> BoxFuture<'_, Result<(), String>>;
}

/// Any function that asks, such as one that makes a gRPC call.
impl<F> Probe for F
where
    F: Fn(Deadline) -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
{
    fn ask(&self, deadline: Deadline) -> BoxFuture<'_, Result<(), String>> {
        self(deadline)
    }
}

/// Asks with `GET path`; a 2xx answer is good.
#[derive(Debug)]
pub struct HttpProbe {
    /// The app.
    pub channel: Arc<AppChannel>,
    /// The path, with its leading slash.
    pub path: String,
}

impl Probe for HttpProbe {
    fn ask(&self, deadline: Deadline) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(async move {
            let request = Request::get(&*self.path).body(body::empty());
            let request = request.map_err(|error| error.to_string())?;
            let answer = self.channel.probe(request, deadline).await;
            let status = answer.map_err(|error: CallError| error.to_string())?.status();
            if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
        })
    }
}

/// When an app is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeSettings {
    /// From one question to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How many bad answers in a row make a healthy app unhealthy.
    pub threshold: u32,
}

impl Default for ProbeSettings {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_millis(500));
        Self { interval, timeout, threshold: 3 }
    }
}

/// Asks an app for as long as it lives.
pub struct AppHealth {
    verdict: watch::Receiver<Health>,
    task: Option<TaskHandle>,
}

impl AppHealth {
    /// Starts asking, at once and then every interval, and lets `channel` know every verdict, beginning with unhealthy.
    #[must_use]
    pub fn start(
        channel: &Arc<AppChannel>,
        probe: impl Probe,
        settings: ProbeSettings,
        world: Arc<dyn World>,
    ) -> Self {
        let (tell, verdict) = watch::channel(Health::Unhealthy);
        channel.set_healthy(false);
        let (asker, channel) = (Arc::clone(&world), Arc::clone(channel));
        let task = world.spawn(
            "app health",
            Box::pin(async move { watch_over(&channel, &probe, settings, &*asker, &tell).await }),
        );
        Self { verdict, task: Some(task) }
    }

    /// The verdict now.
    #[must_use]
    pub fn now(&self) -> Health {
        *self.verdict.borrow()
    }

    /// The verdict and every change of it.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Health> {
        self.verdict.clone()
    }
}

const PAUSE_MIN: Duration = Duration::from_millis(1);

async fn watch_over(
    channel: &AppChannel,
    probe: &impl Probe,
    settings: ProbeSettings,
    world: &dyn World,
    tell: &watch::Sender<Health>,
) {
    let mut machine = HealthMachine::new(settings.threshold);
    loop {
        let asked = world.mono();
        let deadline = Deadline(asked.plus(settings.timeout));
        let answer = within(world, deadline, probe.ask(deadline)).await;
        let answer = answer.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        if let Some(health) = machine.observe(answer.is_ok()) {
            channel.set_healthy(health == Health::Healthy);
            tell.send_replace(health);
            match answer {
                Ok(()) => tracing::info!(app = ?channel, "app is healthy"),
                Err(reason) => tracing::warn!(app = ?channel, %reason, "app is unhealthy"),
            }
        }
        let next = Deadline(asked.plus(settings.interval));
        // A probe slower than the interval is not followed by the next one at once.
        world.sleep(next.remaining(world.mono()).max(PAUSE_MIN)).await;
    }
}

impl Drop for AppHealth {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl fmt::Debug for AppHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AppHealth({:?})", self.now())
    }
}

#[cfg(test)]
mod tests {
    use super::{Health, HealthMachine};

    #[test]
    fn one_good_answer_heals_and_so_many_bad_ones_in_a_row_do_not() {
        let mut machine = HealthMachine::new(3);
        assert_eq!(machine.health(), Health::Unhealthy);
        let answers = [false, true, true, false, false, true, false, false, false, false, true];
        let verdicts = answers.map(|good| machine.observe(good));
        let mut expected = [None; 11];
        expected[1] = Some(Health::Healthy);
        expected[8] = Some(Health::Unhealthy);
        expected[10] = Some(Health::Healthy);
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn a_threshold_of_nothing_counts_as_one() {
        let mut machine = HealthMachine::new(0);
        assert_eq!(machine.observe(true), Some(Health::Healthy));
        assert_eq!(machine.observe(false), Some(Health::Unhealthy));
    }
}
