//! The foreign words of the wire, each in one place: headers, metadata keys, event types.
//!
//! The blocks below this crate never say these words; they get them as values from here.

/// Header (and gRPC metadata) that carries the token a caller must know.
pub const API_TOKEN: &str = "dapr-api-token";
/// Header that names the app to call, where the path does not.
pub const APP_ID: &str = "dapr-app-id";
/// Header that tells the callee who it is; an older name for [`APP_ID`] in gRPC metadata.
pub const CALLEE_APP_ID: &str = "dapr-callee-app-id";
/// Header that tells the callee who calls.
pub const CALLER_APP_ID: &str = "dapr-caller-app-id";
/// Header that tells the callee the caller's namespace.
pub const CALLER_NAMESPACE: &str = "dapr-caller-namespace";
/// gRPC metadata by which older clients announce a stream. Streams need no announcement here.
pub const STREAM: &str = "dapr-stream";
/// gRPC metadata of an answer: the status that an app which speaks HTTP gave.
pub const HTTP_STATUS: &str = "dapr-http-status";
/// Header that makes `shutdown` not wait.
pub const FORCE_SHUTDOWN: &str = "dapr-force-shutdown";

/// W3C trace context.
pub const TRACEPARENT: &str = "traceparent";
/// W3C trace state, passed on as it is.
pub const TRACESTATE: &str = "tracestate";
/// W3C baggage, passed on as it is.
pub const BAGGAGE: &str = "baggage";
/// The binary trace context of older gRPC clients.
pub const GRPC_TRACE_BIN: &str = "grpc-trace-bin";

/// What request metadata in a query, and component metadata in response headers, begins with.
pub const METADATA_PREFIX: &str = "metadata.";
/// Request metadata: seconds until the thing written expires.
pub const TTL_IN_SECONDS: &str = "ttlInSeconds";
/// Answer metadata: when the thing read expires.
pub const TTL_EXPIRE_TIME: &str = "ttlExpireTime";
/// Request metadata: the payload is not to be wrapped (publishing) or was not wrapped (subscribing).
pub const RAW_PAYLOAD: &str = "rawPayload";
/// Request metadata of a state item over gRPC: what the bytes are.
pub const CONTENT_TYPE: &str = "contentType";

/// Header and gRPC metadata of a change of state: the lock that must still be held, `STORE/RESOURCE; token=N`.
pub const IF_FENCE: &str = "if-fence";
/// gRPC metadata of an answer that gives a lock: its fencing token.
pub const FENCING_TOKEN: &str = "outrigger-fencing-token";

/// Media type of a structured event.
pub const CLOUD_EVENT_JSON: &str = "application/cloudevents+json";
/// Media type of nearly everything else.
pub const JSON: &str = "application/json";
/// Media type of bytes nobody described.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// `type` of an event whose publisher gave none.
pub const EVENT_TYPE: &str = "com.dapr.event.sent";
/// `type` of a bulk delivery.
pub const BULK_EVENT_TYPE: &str = "com.dapr.event.sent.bulk";

/// The domain that error reasons belong to.
pub const ERROR_DOMAIN: &str = "dapr.io";
/// The API release whose behaviour is served; what clients read as the runtime's version.
pub const API_RELEASE: &str = "1.19.0";
/// Where the app is asked for its subscriptions.
pub const SUBSCRIBE_PATH: &str = "/dapr/subscribe";
