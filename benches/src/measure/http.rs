//! How fast are durable state writes over HTTP beside Redis under its own benchmark, and etcd?
//!
//! Every value has 128 bytes, every client as many keys. A fourth server shows what is possible at all over HTTP on this
//! machine, with this generator beside it: it reads the same request, does nothing and answers 204.

use crate::{
    etcd,
    load::Sample,
    measure::writes::{base64, etcd_server, redis_server},
    process::{Folder, Server, bare, binary, ended_cpu, outrigger, outrigger_from, own_cpu},
    report::{Figure, median, rate, time},
    swarm::{self, Script},
    wire::request,
};
use anyhow::{Context, Result, bail, ensure};
use std::{path::PathBuf, process::Command, time::Duration};

const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_millis(2_000);
const CLIENTS: [usize; 2] = [1, 64];
const VALUE_BYTES: usize = 128;
/// Keys of one client.
const KEYS: usize = 200;
const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// One side in one round.
#[derive(Clone, Copy)]
struct Turn {
    rate: f64,
    /// Nanoseconds.
    p50: f64,
    p99: f64,
    /// Seconds of processor time per request, of the server and of whoever asked it.
    server_cpu: f64,
    client_cpu: f64,
}

impl Turn {
    fn of(sample: &Sample, server_cpu: f64, client_cpu: f64) -> Self {
        let count = sample.count().max(1) as f64;
        Self {
            rate: sample.rate(),
            p50: sample.quantile(0.5),
            p99: sample.quantile(0.99),
            server_cpu: server_cpu / count,
            client_cpu: client_cpu / count,
        }
    }
}

#[derive(Default)]
struct Side(Vec<Turn>);

impl Side {
    fn median(&self, of: fn(&Turn) -> f64) -> f64 {
        median(self.0.iter().map(of).collect())
    }

    /// The median of each round's ratio to another side; nothing where that one is not there.
    fn times(&self, other: &Self) -> Option<f64> {
        let ratios: Vec<f64> =
            self.0.iter().zip(&other.0).map(|(ours, theirs)| ours.rate / theirs.rate).collect();
        (!ratios.is_empty()).then(|| median(ratios))
    }

    fn tell(&self) -> String {
        if self.0.is_empty() {
            return "not installed".to_owned();
        }
        format!(
            "{}, p50 {}, p99 {}, processor {:.1} us + {:.1} us",
            rate(self.median(|turn| turn.rate)),
            time(self.median(|turn| turn.p50)),
            time(self.median(|turn| turn.p99)),
            self.median(|turn| turn.server_cpu) * 1e6,
            self.median(|turn| turn.client_cpu) * 1e6
        )
    }
}

#[derive(Default)]
struct Sides {
    ours: Side,
    nothing: Side,
    redis: Side,
    gateway: Side,
    grpc: Side,
}

pub(crate) fn run() -> Result<Vec<Figure>> {
    let home = Folder::new()?;
    let ours = outrigger(&home, &["--app-id", "http"])?;
    let nothing = bare(&home, "nothing")?;
    let (redis, etcd) = (redis_server(&home).ok(), etcd_server(&home).ok());
    let mut figures = Vec::new();
    for clients in CLIENTS {
        let mut sides = Sides::default();
        // So many as take about one round; the first is a guess.
        let mut redis_rate = 1_000.0;
        for _ in 0..ROUNDS {
            sides.ours.0.push(over_http(&ours, &state_writes(clients), &[204])?);
            sides.nothing.0.push(over_http(&nothing, &state_writes(clients), &[204])?);
            if let Some(redis) = &redis {
                let count = (redis_rate * ROUND.as_secs_f64()).max(500.0);
                let turn = redis_benchmark(redis, clients, count as usize)?;
                redis_rate = turn.rate;
                sides.redis.0.push(turn);
            }
            if let Some(etcd) = &etcd {
                sides.gateway.0.push(over_http(etcd, &etcd_puts(clients), &[200])?);
                sides.grpc.0.push(over_grpc(etcd, clients)?);
            }
        }
        figures.extend(told(clients, &sides));
    }
    Ok(figures)
}

/// `ask CLIENTS SECONDS [BINARY..]`: our turn alone, five times, for a profiler beside it; with several binaries by turns, to tell
/// one build from another.
pub(crate) fn alone(arguments: &[String]) -> Result<()> {
    let [clients, seconds, binaries @ ..] = arguments else {
        bail!("ask CLIENTS SECONDS [BINARY..]")
    };
    let (clients, round) = (clients.parse()?, Duration::from_secs_f64(seconds.parse()?));
    let own = [binary()?];
    let binaries: Vec<PathBuf> = binaries.iter().map(PathBuf::from).collect();
    let binaries = if binaries.is_empty() { &own[..] } else { &binaries[..] };
    let home = Folder::new()?;
    let mut servers = Vec::new();
    for (number, binary) in binaries.iter().enumerate() {
        // Each with a folder of its own: in one folder they would share a store.
        let place = home.path().join(number.to_string());
        let (server, _) = outrigger_from(binary, &place, &["--app-id", "http"])?;
        servers.push((server, Side::default()));
    }
    for _ in 0..ROUNDS {
        for (server, side) in &mut servers {
            side.0.push(over_http_for(round, server, &state_writes(clients), &[204])?);
        }
    }
    for (binary, (_, side)) in binaries.iter().zip(&servers) {
        println!("{}: {}", binary.display(), side.tell());
    }
    Ok(())
}

fn scripts(clients: usize, one: impl Fn(String) -> Vec<u8>) -> Vec<Script> {
    let script =
        |client| (0..KEYS).map(|number| one(format!("key-{client}-{number}"))).collect::<Script>();
    (0..clients).map(script).collect()
}

fn state_writes(clients: usize) -> Vec<Script> {
    let value = "x".repeat(VALUE_BYTES);
    scripts(clients, |key| {
        let body = format!(r#"[{{"key":"{key}","value":"{value}"}}]"#);
        request("POST", "/v1.0/state/statestore", &JSON, body.as_bytes())
    })
}

fn etcd_puts(clients: usize) -> Vec<Script> {
    let value = base64("x".repeat(VALUE_BYTES).as_bytes());
    scripts(clients, |key| {
        let body = format!(r#"{{"key":"{}","value":"{value}"}}"#, base64(key.as_bytes()));
        request("POST", "/v3/kv/put", &JSON, body.as_bytes())
    })
}

fn over_http(server: &Server, scripts: &[Script], statuses: &[u16]) -> Result<Turn> {
    over_http_for(ROUND, server, scripts, statuses)
}

fn over_http_for(
    round: Duration,
    server: &Server,
    scripts: &[Script],
    statuses: &[u16],
) -> Result<Turn> {
    let (theirs, mine) = (server.cpu()?, own_cpu()?);
    let sample = swarm::closed(server.port, scripts, statuses, round)?;
    Ok(Turn::of(&sample, server.cpu()? - theirs, own_cpu()? - mine))
}

fn over_grpc(server: &Server, clients: usize) -> Result<Turn> {
    let (theirs, mine) = (server.cpu()?, own_cpu()?);
    let value = "x".repeat(VALUE_BYTES);
    let sample = etcd::closed(server.port, clients, value.as_bytes(), KEYS, ROUND)?;
    Ok(Turn::of(&sample, server.cpu()? - theirs, own_cpu()? - mine))
}

/// `redis-benchmark`, as it comes, for `count` SETs.
fn redis_benchmark(server: &Server, clients: usize, count: usize) -> Result<Turn> {
    let (theirs, mine) = (server.cpu()?, ended_cpu()?);
    let mut command = Command::new("redis-benchmark");
    command.args(["-p", &server.port.to_string(), "-c", &clients.to_string()]);
    command.args(["-n", &count.to_string(), "-d", &VALUE_BYTES.to_string()]);
    command.args(["-r", &(KEYS * clients).to_string(), "-t", "set", "--csv"]);
    let output = command.output().context("redis-benchmark")?;
    let (server_cpu, client_cpu) = (server.cpu()? - theirs, ended_cpu()? - mine);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "redis-benchmark failed: {text}");
    let (heads, values) = (csv(&text, 0)?, csv(&text, 1)?);
    let field = |name: &str| -> Result<f64> {
        let at = heads.iter().position(|head| head == name);
        let value = at.and_then(|at| values.get(at)).with_context(|| format!("no {name}"))?;
        value.parse().with_context(|| format!("{name}: {value}"))
    };
    Ok(Turn {
        rate: field("rps")?,
        p50: field("p50_latency_ms")? * 1e6,
        p99: field("p99_latency_ms")? * 1e6,
        server_cpu: server_cpu / count as f64,
        client_cpu: client_cpu / count as f64,
    })
}

fn csv(text: &str, line: usize) -> Result<Vec<String>> {
    let line = text.lines().nth(line).with_context(|| format!("no figures: {text}"))?;
    Ok(line.split(',').map(|field| field.trim_matches('"').to_owned()).collect())
}

fn told(clients: usize, sides: &Sides) -> Vec<Figure> {
    let Sides { ours, nothing, redis, gateway, grpc } = sides;
    let question = |what: &str| {
        format!("durable state writes of 128 bytes over HTTP, {clients} connections: {what}")
    };
    let against = |what: &str, side: &Side, goal: Option<f64>| {
        let figure = Figure::new(&question(what), ours.tell()).beside(side.tell());
        let Some(times) = ours.times(side) else { return figure };
        let figure = figure.beside(format!("{}; ratio {times:.2}", side.tell()));
        match goal {
            Some(goal) => figure.goal(&format!("{goal:.1}x or more"), times >= goal),
            None => figure,
        }
    };
    let floor = |side: &Side| {
        nothing.times(side).map_or(String::new(), |times| format!("; {times:.2}x Redis"))
    };
    let possible = Figure::new(&question("a server that does nothing"), ours.tell())
        .beside(format!("{}{}", nothing.tell(), floor(redis)));
    let faster = if grpc.median(|turn| turn.rate) > gateway.median(|turn| turn.rate) {
        ("etcd over gRPC", grpc)
    } else {
        ("etcd through its JSON gateway", gateway)
    };
    let of_redis = if clients == 1 { 1.0 } else { 1.5 };
    let mut figures = vec![
        against("Redis, appendfsync always, under redis-benchmark", redis, Some(of_redis)),
        against(faster.0, faster.1, (clients > 1).then_some(2.5)),
    ];
    figures.push(possible);
    figures
}
