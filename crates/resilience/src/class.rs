//! What the end of an attempt means, said by the caller, who alone knows the protocol.

/// What the end of an attempt means for retry and breaker.
///
/// | class | retried | counts for the breaker as |
/// |---|---|---|
/// | success | no | success |
/// | failure | yes | failure |
/// | HTTP or gRPC status | if [`crate::Matching`] has it | failure if it has it, else success |
/// | permanent | no | failure |
/// | ignored | no | nothing: the permit is given back |
///
/// An attempt that ran out of time, or was dropped, is a failure without asking anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// As hoped.
    Success,
    /// Failed without a status: no connection, a reset stream.
    Failure,
    /// Failed with this HTTP status.
    Http(u16),
    /// Failed with this gRPC status code.
    Grpc(u16),
    /// Failed, and trying again is impossible or useless: the request's body is gone.
    Permanent,
    /// Says nothing about the other side: the caller's own fault.
    Ignored,
}
