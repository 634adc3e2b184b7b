//! A load that does not wait: each call is due at a fixed instant, whatever has become of those before it.
//!
//! A call's time is counted from when it was due. What is not answered within the caller's patience is given up, and its
//! connection closed.

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use std::time::Duration;
use tokio::{
    runtime::Builder,
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shot {
    /// When it was due, from the beginning.
    pub(crate) due: Duration,
    pub(crate) took: Duration,
    /// 0 for none.
    pub(crate) status: u16,
}

/// Calls to one place.
#[derive(Clone, Debug)]
pub(crate) struct Flood {
    pub(crate) url: String,
    /// Calls a second, for how long, one after the other.
    pub(crate) steps: Vec<(f64, Duration)>,
    pub(crate) patience: Duration,
}

impl Flood {
    pub(crate) fn new(port: u16, path: &str, patience: Duration) -> Self {
        let url = format!("http://127.0.0.1:{port}{path}");
        Self { url, steps: Vec::new(), patience }
    }

    pub(crate) fn then(mut self, rate: f64, time: Duration) -> Self {
        self.steps.push((rate, time));
        self
    }

    /// All of them at the same time, and `meanwhile` beside them.
    pub(crate) fn run_all(floods: Vec<Self>) -> Result<Vec<Shots>> {
        Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(async {
            let mut running = Vec::new();
            for flood in floods {
                running.push(tokio::spawn(flood.run()));
            }
            let mut all = Vec::new();
            for one in running {
                all.push(one.await??);
            }
            Ok(all)
        })
    }

    pub(crate) fn run_alone(self) -> Result<Shots> {
        Self::run_all(vec![self])?.pop().ok_or_else(|| anyhow::anyhow!("no load"))
    }

    async fn run(self) -> Result<Shots> {
        let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(10))
            .build_http();
        let url: http::Uri = self.url.parse()?;
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        let (mut from, mut shots) = (Duration::ZERO, Vec::new());
        for (rate, time) in &self.steps {
            let mut number = 0_u32;
            loop {
                let at = Duration::from_secs_f64(f64::from(number) / rate);
                if at >= *time {
                    break;
                }
                number += 1;
                let due = from + at;
                sleep_until(begun + due).await;
                let (client, url, patience) = (client.clone(), url.clone(), self.patience);
                tasks.spawn(async move {
                    let called = timeout_at(begun + due + patience, async {
                        let answer = client.get(url).await.ok()?;
                        let status = answer.status().as_u16();
                        answer.into_body().collect().await.ok()?;
                        Some(status)
                    });
                    let status = called.await.ok().flatten().unwrap_or(0);
                    Shot { due, took: begun.elapsed() - due, status }
                });
                while let Some(shot) = tasks.try_join_next() {
                    shots.push(shot?);
                }
            }
            from += *time;
        }
        while let Some(shot) = tasks.join_next().await {
            shots.push(shot?);
        }
        shots.sort_by_key(|shot| shot.due);
        Ok(Shots(shots))
    }
}

/// What became of the calls.
#[derive(Clone, Debug)]
pub(crate) struct Shots(pub(crate) Vec<Shot>);

impl Shots {
    /// Those due in a part of the time.
    pub(crate) fn between(&self, from: Duration, to: Duration) -> Self {
        let within = self.0.iter().filter(|shot| shot.due >= from && shot.due < to);
        Self(within.copied().collect())
    }

    pub(crate) fn len(&self) -> f64 {
        self.0.len() as f64
    }

    /// How many were answered with 200.
    pub(crate) fn good(&self) -> f64 {
        self.0.iter().filter(|shot| shot.status == 200).count() as f64
    }

    /// Which share of them that is.
    pub(crate) fn goodput(&self) -> f64 {
        self.good() / self.len().max(1.0)
    }

    /// What a share of the good answers took at most, in nanoseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let good = self.0.iter().filter(|shot| shot.status == 200);
        let mut took: Vec<f64> = good.map(|shot| shot.took.as_secs_f64() * 1e9).collect();
        took.sort_by(f64::total_cmp);
        let at = (took.len() as f64 * share) as usize;
        took.get(at.min(took.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
    }

    /// After `from`, how long it takes until five seconds follow of which each has this goodput; `None` if that never comes.
    pub(crate) fn recovered(&self, from: Duration, until: Duration, goodput: f64) -> Option<u64> {
        let second = Duration::from_secs(1);
        let count = (until - from).as_secs();
        let well: Vec<bool> = (0..count)
            .map(|at| {
                let begin = from + second * u32::try_from(at).unwrap_or(u32::MAX);
                self.between(begin, begin + second).goodput() >= goodput
            })
            .collect();
        let at = well.windows(5).position(|five| five.iter().all(|well| *well))?;
        u64::try_from(at).ok()
    }
}
