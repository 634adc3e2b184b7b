//! Calls against real servers on the loopback interface. Time is real here, so bounds are small and generous.

mod servers;
mod shelf;

mod body_flow;
mod bounds;
mod grpc_proxy;
mod http1;
mod http2;
mod invocation;
mod ladder;
mod lookup;
mod neighbours;
mod outside;
mod policies;
mod pools;
