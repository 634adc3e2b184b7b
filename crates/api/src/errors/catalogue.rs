//! The one table of error codes: code, reason, status over HTTP, status over gRPC.
//!
//! Codes and statuses are those that the SDKs know; they are never reused for another meaning. An entry with a reason is
//! one of the standardised errors, whose answers carry details.

use tonic::Code;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// `errorCode` over HTTP.
    pub code: &'static str,
    /// `reason` of the `ErrorInfo` detail; empty for errors without details over HTTP.
    pub reason: &'static str,
    /// Status over HTTP.
    pub http: u16,
    /// Status over gRPC.
    pub grpc: Code,
    /// What a person does about it; empty where only the message can say.
    pub remedy: &'static str,
}

/// Declares the constants and the list of all of them at once, so that none can be left out of the list.
macro_rules! catalogue {
    ($($name:ident = $code:literal, $reason:literal, $http:literal, $grpc:ident, $remedy:literal;)*) => {
        $(#[doc = concat!("`", $code, "`. ", $remedy)]
        pub const $name: Entry = Entry {
            code: $code, reason: $reason, http: $http, grpc: Code::$grpc, remedy: $remedy,
        };)*
        /// Every entry, in the order of the table.
        pub const ALL: &[&Entry] = &[$(&$name),*];
    };
}

catalogue! {
    MALFORMED_REQUEST = "ERR_MALFORMED_REQUEST", "", 400, InvalidArgument,
        "Send what the documentation of the call describes.";
    MALFORMED_RESPONSE = "ERR_MALFORMED_RESPONSE", "", 500, Internal,
        "Look at what the called side answers; it cannot be passed on.";
    BODY_READ = "ERR_BODY_READ", "", 400, InvalidArgument,
        "Send the whole body, without long pauses.";
    BODY_TOO_LARGE = "ERR_BODY_READ", "", 413, ResourceExhausted,
        "Send less, or raise --max-body-size.";
    UNIMPLEMENTED = "ERR_API_UNIMPLEMENTED", "", 501, Unimplemented,
        "This part of the API is not there yet.";
    INTERNAL = "ERR_INTERNAL", "", 500, Internal,
        "Our fault: report it with the log line of the same trace.";
    TIMEOUT = "ERR_INTERNAL", "", 504, DeadlineExceeded,
        "Give the call more time, or find what keeps it.";
    HEALTH_NOT_READY = "ERR_HEALTH_NOT_READY", "", 500, Internal,
        "Wait until the runtime and the app are up.";
    OUTBOUND_HEALTH_NOT_READY = "ERR_OUTBOUND_HEALTH_NOT_READY", "", 500, Internal,
        "Wait until the components are up.";
    HEALTH_APP_ID_MISMATCH = "ERR_HEALTH_APPID_NOT_MATCH", "", 500, Internal,
        "Ask the runtime of the app that is meant.";
    DIRECT_INVOKE = "ERR_DIRECT_INVOKE", "", 500, Internal,
        "See whether the called app runs, listens and is healthy.";
    DIRECT_INVOKE_UNKNOWN = "ERR_DIRECT_INVOKE", "", 500, Internal,
        "Check the app's id, and whether the app was started.";
    DIRECT_INVOKE_FORBIDDEN = "ERR_DIRECT_INVOKE", "", 403, PermissionDenied,
        "Allow the call in the accessControl of the called app's configuration.";
    DIRECT_INVOKE_INVALID = "ERR_DIRECT_INVOKE", "", 400, InvalidArgument,
        "";
    DIRECT_INVOKE_TIMEOUT = "ERR_DIRECT_INVOKE", "", 504, DeadlineExceeded,
        "Give the call more time, or find what keeps the app.";
    DIRECT_INVOKE_OVERLOAD = "ERR_DIRECT_INVOKE", "", 503, ResourceExhausted,
        "Call less often, or raise the app's limit on calls at once.";
    DIRECT_INVOKE_NOT_ADMITTED = "ERR_DIRECT_INVOKE", "", 503, ResourceExhausted,
        "Call again after a while; see the target's policies with outrigger policy explain.";
    DIRECT_INVOKE_RATE = "ERR_DIRECT_INVOKE", "", 429, ResourceExhausted,
        "Call less often, or raise the rate limit of the target's policy.";
    DIRECT_INVOKE_NO_APP = "ERR_DIRECT_INVOKE", "", 404, NotFound,
        "Name the app to call in the path, in dapr-app-id, or by Basic authentication.";
    POLICY_NOT_FOUND = "ERR_POLICY_NOT_FOUND", "", 404, NotFound,
        "See with outrigger policy explain what applies to the target.";
    POLICY_VERB = "ERR_POLICY_VERB", "", 400, InvalidArgument,
        "Use one of the words that the message names.";

    STATE_STORE_NOT_FOUND = "ERR_STATE_STORE_NOT_FOUND", "DAPR_STATE_NOT_FOUND", 400, InvalidArgument,
        "Check the name against the components loaded (GET /v1.0/metadata).";
    STATE_STORE_NOT_CONFIGURED = "ERR_STATE_STORE_NOT_CONFIGURED", "DAPR_STATE_NOT_CONFIGURED", 500, FailedPrecondition,
        "Add a state store component to the resources folder.";
    STATE_ILLEGAL_KEY = "ERR_MALFORMED_REQUEST", "DAPR_STATE_ILLEGAL_KEY", 400, InvalidArgument,
        "Use a key that is not empty, has no || in it and is not too long.";
    STATE_NO_QUERIES = "ERR_STATE_STORE_NOT_SUPPORTED", "DAPR_STATE_QUERYING_NOT_SUPPORTED", 500, Internal,
        "Read by key; this store does not search.";
    STATE_TOO_MANY_OPERATIONS = "ERR_STATE_STORE_TOO_MANY_TRANSACTIONS", "DAPR_STATE_TOO_MANY_TRANSACTIONS", 400, InvalidArgument,
        "Split the transaction.";
    STATE_GET = "ERR_STATE_GET", "", 500, Internal, "";
    STATE_SAVE = "ERR_STATE_SAVE", "", 500, Internal, "";
    STATE_DELETE = "ERR_STATE_DELETE", "", 500, Internal, "";
    STATE_BULK_GET = "ERR_STATE_BULK_GET", "", 500, Internal, "";
    STATE_BULK_DELETE = "ERR_STATE_BULK_DELETE", "", 500, Internal, "";
    STATE_TRANSACTION = "ERR_STATE_TRANSACTION", "", 500, Internal, "";
    STATE_OPERATION = "ERR_NOT_SUPPORTED_STATE_OPERATION", "", 400, InvalidArgument,
        "Use upsert or delete.";

    PUBSUB_EMPTY = "ERR_PUBSUB_EMPTY", "DAPR_PUBSUB_NAME_EMPTY", 404, InvalidArgument,
        "Name the pub/sub component.";
    PUBSUB_NOT_FOUND = "ERR_PUBSUB_NOT_FOUND", "DAPR_PUBSUB_NOT_FOUND", 404, InvalidArgument,
        "Check the name against the components loaded (GET /v1.0/metadata).";
    PUBSUB_NOT_CONFIGURED = "ERR_PUBSUB_NOT_CONFIGURED", "DAPR_PUBSUB_NOT_CONFIGURED", 400, FailedPrecondition,
        "Add a pub/sub component to the resources folder.";
    TOPIC_EMPTY = "ERR_TOPIC_NAME_EMPTY", "DAPR_PUBSUB_TOPIC_NAME_EMPTY", 404, InvalidArgument,
        "Name the topic.";
    PUBSUB_FORBIDDEN = "ERR_PUBSUB_FORBIDDEN", "DAPR_PUBSUB_FORBIDDEN", 403, PermissionDenied,
        "Grant the topic to the app in publishingScopes, allowedTopics or protectedTopics.";
    PUBSUB_METADATA = "ERR_PUBSUB_REQUEST_METADATA", "DAPR_PUBSUB_METADATA_DESERIALIZATION", 400, InvalidArgument,
        "Send true or false, and whole numbers, where metadata asks for them.";
    PUBSUB_EVENT_CREATION = "ERR_PUBSUB_CLOUD_EVENTS_SER", "DAPR_PUBSUB_CLOUD_EVENT_CREATION", 500, InvalidArgument,
        "Send a payload that is what its content type says.";
    PUBSUB_MARSHAL_EVENTS = "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_MARSHAL_EVENTS", 400, InvalidArgument,
        "Give every entry an id of its own and a payload that is what its content type says.";
    PUBSUB_UNMARSHAL_EVENTS = "ERR_PUBSUB_EVENTS_SER", "DAPR_PUBSUB_UNMARSHAL_EVENTS", 400, InvalidArgument,
        "Send an array of entries.";
    PUBSUB_PUBLISH = "ERR_PUBSUB_PUBLISH_MESSAGE", "DAPR_PUBSUB_PUBLISH_MESSAGE", 500, Internal,
        "";
    PUBSUB_SUBSCRIBE = "ERR_PUBSUB_SUBSCRIBE", "DAPR_PUBSUB_SUBSCRIBE", 500, Internal,
        "";

    SECRET_STORES_NOT_CONFIGURED = "ERR_SECRET_STORES_NOT_CONFIGURED", "", 500, FailedPrecondition,
        "Add a secret store component to the resources folder.";
    SECRET_STORE_NOT_FOUND = "ERR_SECRET_STORE_NOT_FOUND", "", 401, InvalidArgument,
        "Check the name against the components loaded (GET /v1.0/metadata).";
    SECRET_DENIED = "ERR_PERMISSION_DENIED", "", 403, PermissionDenied,
        "Allow the secret in the configuration's secrets.scopes.";
    SECRET_GET = "ERR_SECRET_GET", "", 500, Internal, "";

    CONFIGURATION_NOT_CONFIGURED = "ERR_CONFIGURATION_STORE_NOT_CONFIGURED", "", 500, FailedPrecondition,
        "Configuration stores are not there yet.";
    STATE_FENCED = "ERR_STATE_FENCED", "", 412, FailedPrecondition,
        "Take the lock again, and read what it protects again before writing.";
    LOCK_NOT_CONFIGURED = "ERR_LOCK_STORE_NOT_CONFIGURED", "", 500, FailedPrecondition,
        "Add a component of type lock.outrigger to the resources folder.";
    LOCK_NOT_FOUND = "ERR_LOCK_STORE_NOT_FOUND", "", 400, InvalidArgument,
        "Check the name against the components loaded (GET /v1.0/metadata).";
    LOCK_TAKE = "ERR_TRY_LOCK", "", 500, Internal, "";
    LOCK_RELEASE = "ERR_UNLOCK", "", 500, Internal, "";
    LOCK_DEADLOCK = "ERR_LOCK_DEADLOCK", "", 409, Aborted,
        "Release what you hold, and take locks in the same order everywhere.";
    CRYPTO_NOT_CONFIGURED = "ERR_CRYPTO_PROVIDERS_NOT_CONFIGURED", "", 500, Internal,
        "Crypto providers are not there yet.";
    CONVERSATION_NOT_FOUND = "ERR_CONVERSATION_NOT_FOUND", "", 400, InvalidArgument,
        "Conversation components are not there yet.";
    ACTOR_RUNTIME_NOT_FOUND = "ERR_ACTOR_RUNTIME_NOT_FOUND", "", 500, Internal,
        "Actors are not there yet.";
    OUTPUT_BINDING = "ERR_INVOKE_OUTPUT_BINDING", "", 500, Internal,
        "Bindings are not there yet.";
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn every_line_is_whole() {
        for entry in ALL {
            assert!(entry.code.starts_with("ERR_"), "{entry:?}");
            assert!((400..600).contains(&entry.http), "{entry:?}");
            assert!(entry.remedy.is_empty() || entry.remedy.ends_with('.'), "{entry:?}");
            assert!(entry.reason.is_empty() || entry.reason.starts_with("DAPR_"), "{entry:?}");
        }
    }
}
