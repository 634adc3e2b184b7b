//! Puts to etcd the way its own clients make them: gRPC over a few connections that many callers share.
//!
//! Its JSON gateway is measured too; what counts is whichever is faster.

use crate::{
    load::Sample,
    store::{nanoseconds, runtime},
};
use anyhow::{Context, Result};
use http::uri::PathAndQuery;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tonic::{client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

const CONNECTIONS: usize = 4;

/// `etcdserverpb.PutRequest`, as far as it is needed.
#[derive(Clone, PartialEq, prost::Message)]
struct Put {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`; nothing in it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct PutAnswer {}

/// Closed loop of `clients` that put `value`, for `time`.
pub(crate) fn closed(
    port: u16,
    clients: usize,
    value: &[u8],
    keys: usize,
    time: Duration,
) -> Result<Sample> {
    runtime()?.block_on(async {
        let mut channels = Vec::new();
        for _ in 0..CONNECTIONS.min(clients) {
            let target = Channel::from_shared(format!("http://127.0.0.1:{port}"))?;
            channels.push(target.connect().await.context("etcd does not listen")?);
        }
        let (begun, mut tasks) = (Instant::now(), JoinSet::new());
        for client in 0..clients {
            let channel = channels[client % channels.len()].clone();
            let value = value.to_vec();
            tasks.spawn(async move {
                let mut grpc = Grpc::new(channel);
                let mut latencies = Vec::with_capacity(1 << 14);
                while begun.elapsed() < time {
                    let key = format!("key-{client}-{}", latencies.len() % keys).into_bytes();
                    let sent = Instant::now();
                    grpc.ready().await?;
                    let request = tonic::Request::new(Put { key, value: value.clone() });
                    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
                    let codec = ProstCodec::<Put, PutAnswer>::default();
                    grpc.unary(request, path, codec).await?;
                    latencies.push(nanoseconds(sent.elapsed()));
                }
                anyhow::Ok(latencies)
            });
        }
        let mut all = Vec::new();
        for latencies in tasks.join_all().await {
            all.extend(latencies?);
        }
        Ok(Sample::new(all, begun.elapsed().as_secs_f64()))
    })
}
