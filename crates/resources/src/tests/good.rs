//! What is read from the good files.

use super::{cases, read};
use crate::{
    Action, ApiProtocol, Body, BreakerScope, BulkSubscribe, Caller, Configuration, OtelProtocol,
    Resiliency, Resource, RetryBackoff, Subscription, ValueSource, multi_app,
    multi_app::{AppProtocol, LogDestination},
    parse_configuration, type_catalog,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

fn bodies(name: &str) -> Vec<Body> {
    let (resources, _) = crate::parse(&cases().join(name), read(name).as_bytes());
    resources.into_iter().map(|resource: Resource| resource.body).collect()
}

#[test]
fn component() {
    let bodies = bodies("component-good.yaml");
    let [Body::Component(component)] = bodies.as_slice() else { panic!("{bodies:?}") };
    assert_eq!(component.type_name, "state.redis");
    assert_eq!((component.block(), component.version.as_str()), ("state", "v1"));
    assert!(component.ignore_errors);
    assert_eq!(component.init_timeout, Duration::from_secs(90));
    assert_eq!(component.secret_store.as_deref(), Some("vault"));
    assert_eq!(component.head.namespace.as_deref(), Some("prod"));
    assert_eq!(component.head.labels["team"], "shop");
    for (name, text) in [
        ("REDISHOST", "localhost:6379"),
        ("redisDB", "0"),
        ("enableTLS", "no"),
        ("servers", r#"["a",{"b":1}]"#),
        ("empty", ""),
    ] {
        assert_eq!(component.literal(name), Some(text), "{name}");
    }
    let secret = ValueSource::Secret { name: "redis".into(), key: "password".into() };
    assert_eq!(component.entry("redisPassword").unwrap().value, secret);
    assert_eq!(component.entry("user").unwrap().value, ValueSource::Env("REDIS_USER".into()));
    assert_eq!(component.entry("redisDB").unwrap().origin.line, 18);
    let addresses = type_catalog::addresses(component);
    assert!(addresses.len() == 1 && addresses[0].is_loopback() && addresses[0].port == 6379);
    for (app, namespace, applies) in [
        ("shop", None, true),
        ("shop", Some(""), true),
        ("shop", Some("prod"), true),
        ("shop", Some("test"), false),
        ("other", Some("prod"), false),
    ] {
        assert_eq!(component.head.applies_to(app, namespace), applies, "{app} {namespace:?}");
    }
}

#[test]
fn subscriptions() {
    let bodies = bodies("subscription.yaml");
    let [Body::Subscription(old), Body::Subscription(new)] = bodies.as_slice() else {
        panic!("{bodies:?}")
    };
    let Subscription { pubsub_name, topic, routes, dead_letter_topic, metadata, bulk, .. } = &**old;
    assert_eq!((pubsub_name.as_str(), topic.as_str()), ("bus", "orders"));
    assert_eq!((routes.rules.len(), routes.default.as_deref()), (0, Some("/orders")));
    assert_eq!(dead_letter_topic.as_deref(), Some("dead"));
    assert_eq!((metadata["rawPayload"].as_str(), bulk), ("true", &None));
    let rule = &new.routes.rules[0];
    assert_eq!((rule.condition.as_str(), rule.path.as_str()), ("event.type == \"a\"", "/a"));
    assert_eq!((new.routes.rules.len(), new.routes.default.as_deref()), (1, Some("/rest")));
    let bulk = BulkSubscribe { max_messages: 10, max_wait: Duration::from_millis(40) };
    assert_eq!(new.bulk, Some(bulk));
}

#[test]
fn resiliency() {
    let bodies = bodies("resiliency.yaml");
    let [Body::Resiliency(resiliency)] = bodies.as_slice() else { panic!("{bodies:?}") };
    let Resiliency { policies, targets, head, .. } = &**resiliency;
    assert!(head.applies_to("shop", None) && !head.applies_to("cart", None));
    let timeouts: Vec<_> =
        policies.timeouts.iter().map(|(n, d)| (n.as_str(), d.attempt.unwrap())).collect();
    let (millis, secs) = (Duration::from_millis, Duration::from_secs);
    assert_eq!(timeouts, [("bare", millis(250)), ("general", secs(5)), ("long", secs(60))]);
    let steady = &policies.retries["steady"];
    assert_eq!(steady.backoff, RetryBackoff::Constant { delay: secs(2) });
    assert_eq!(steady.max_retries, Some(10));
    let growing = &policies.retries["growing"];
    let backoff = RetryBackoff::Exponential { initial: millis(500), max: secs(15) };
    assert_eq!((growing.backoff, growing.max_retries), (backoff, None));
    assert_eq!(growing.matching.http.as_deref(), Some("429,500-599"));
    assert_eq!(growing.matching.grpc.as_deref(), Some("1,4-6, 14"));
    let built_in = &policies.retries["DaprBuiltInServiceRetries"];
    assert_eq!(built_in.backoff, RetryBackoff::Constant { delay: secs(5) });
    let simple = &policies.circuit_breakers["simple"];
    assert_eq!((simple.max_requests, simple.interval, simple.timeout), (2, secs(8), secs(45)));
    assert_eq!(simple.trip.as_deref(), Some("consecutiveFailures > 8"));
    let plain = &policies.circuit_breakers["plain"];
    assert_eq!((plain.max_requests, plain.interval, plain.timeout), (1, secs(0), secs(60)));
    assert_eq!(targets.apps["cart"].policies.circuit_breaker.as_deref(), Some("simple"));
    assert_eq!(targets.apps["cart"].circuit_breaker_cache_size, 50);
    assert_eq!(targets.actors["Ship"].circuit_breaker_scope, BreakerScope::Both);
    assert_eq!(targets.actors["Ship"].circuit_breaker_cache_size, 5000);
    assert_eq!(targets.components["bus"].inbound.timeout.as_deref(), Some("long"));
    assert_eq!(targets.components["bus"].outbound.timeout, None);
}

#[test]
fn http_endpoint() {
    let bodies = bodies("http-endpoint.yaml");
    let [Body::HttpEndpoint(endpoint)] = bodies.as_slice() else { panic!("{bodies:?}") };
    assert_eq!(endpoint.base_url, "https://api.github.com");
    let secrets = |store: &str, name: &str, key: &str| Ok(format!("{store}/{name}/{key}"));
    let headers = crate::resolve_headers(endpoint, &secrets, &|_| None).unwrap();
    assert_eq!(headers["Authorization"], "vault/token/token");
    let tls = crate::resolve_tls(endpoint, &secrets, &|_| None).unwrap();
    assert_eq!(tls.root_ca.as_deref(), Some("PEM"));
    assert_eq!(tls.identity, Some(("vault/tls/crt".into(), "vault/tls/key".into())));
}

fn configuration() -> Configuration {
    let bodies = bodies("configuration-good.yaml");
    let [Body::Configuration(configuration)] = bodies.as_slice() else { panic!("{bodies:?}") };
    (**configuration).clone()
}

#[test]
fn what_a_configuration_allows() {
    let configuration = configuration();
    assert!(!configuration.feature("HotReload", true));
    assert!(configuration.feature("ActorStateTTL", true));
    assert!(configuration.api.permits("state", "v1", ApiProtocol::Http));
    assert!(!configuration.api.permits("publish", "v1", ApiProtocol::Http));
    assert!(configuration.api.permits("invoke", "v1", ApiProtocol::Grpc));
    assert!(!configuration.api.permits("shutdown", "v1", ApiProtocol::Grpc));
    assert!(configuration.secret_allowed("vault", "a"));
    assert!(!configuration.secret_allowed("vault", "c"));
    assert!(configuration.secret_allowed("other", "c"));
    assert!(!configuration.component_allowed("state.redis", "v1"));
    assert!(configuration.component_allowed("state.redis", "v2"));
    assert!(!configuration.component_allowed("Bindings.SMTP", "v1"));
    let control = &configuration.access_control;
    assert_eq!(control.trust_domain.as_deref(), Some("shops"));
    let cart = Caller { app_id: "cart", namespace: "prod", trust_domain: "public" };
    assert_eq!(control.decide(Some(cart), "op1/x", Some("GET")), Action::Deny);
    assert_eq!(control.decide(Some(cart), "op1/x", Some("PUT")), Action::Allow);
    assert_eq!(control.decide(None, "op1/x", Some("PUT")), Action::Deny);
}

#[test]
fn the_rest_of_a_configuration() {
    let configuration = configuration();
    let handler = &configuration.http_pipeline.as_ref().unwrap()[0];
    assert_eq!(handler.type_name, "middleware.http.ratelimit");
    assert_eq!(handler.selector, [("path".into(), "/a".into())]);
    assert_eq!(configuration.app_http_pipeline, Some(Vec::new()));
    let resolution = &configuration.name_resolution;
    assert_eq!(resolution.configuration.as_ref().unwrap()["ttl"], 10);
    let tracing = &configuration.tracing;
    assert_eq!((tracing.sampling_rate, tracing.stdout), (Some(0.5), Some(true)));
    let otel = &tracing.otel;
    assert_eq!(otel.endpoint_address.as_deref(), Some("localhost:4317"));
    assert_eq!(otel.protocol, Some(OtelProtocol::Grpc));
    assert!(!otel.is_secure_or_default());
    assert_eq!(otel.headers.as_ref().unwrap()["b"], "x y");
    assert_eq!(otel.timeout_or_default(), Duration::from_secs(5));
    let metrics = &configuration.metrics;
    assert!(!metrics.enabled_or_default());
    assert_eq!(metrics.record_error_codes, Some(true));
    assert_eq!(metrics.latency_buckets_ms.as_deref(), Some([1.0, 5.0, 100.0].as_slice()));
    assert_eq!(metrics.http.path_matching.as_ref().unwrap()[0], "/orders/{id}");
    assert_eq!(metrics.rules.as_ref().unwrap()[0].labels[0].regex["orders/"], "orders/.+");
    let mtls = &configuration.mtls;
    assert_eq!(mtls.workload_cert_ttl, Some(Duration::from_secs(24 * 3600)));
    assert_eq!(mtls.token_validators.as_ref().unwrap()[0].1["a"], "b");
    assert_eq!(configuration.api_logging.obfuscate_urls, Some(true));
    assert_eq!(configuration.wasm_strict_sandbox, Some(true));
    let workflow = &configuration.workflow;
    assert_eq!(workflow.max_concurrent_workflows, Some(10));
    assert_eq!(workflow.global_max_concurrent_activities, None);
    assert_eq!(workflow.activity_limits.as_ref().unwrap()["SendEmail"], 5);
    assert_eq!(workflow.retention.completed, Some(Duration::ZERO));
}

#[test]
fn later_configurations_win_field_by_field() {
    let parse = |source: &str| {
        let source = format!("apiVersion: dapr.io/v1alpha1\nkind: Configuration\n{source}");
        let env = |name: &str| (name == "RATE").then(|| "0.25".into());
        parse_configuration(Path::new("c.yaml"), source.as_bytes(), &env)
    };
    let (mut lower, _) =
        parse("spec: {tracing: {samplingRate: $RATE, stdout: true}, components: {deny: [a, b]}}");
    let (upper, issues) = parse(
        "spec:\n  tracing: {stdout: false}\n  metric:\n    enabled: ${GONE}\n  components: {deny: [c]}\n",
    );
    assert_eq!((issues.len(), issues[0].code), (1, "OUTR-0127"));
    lower.overlay(upper);
    assert_eq!((lower.tracing.sampling_rate, lower.tracing.stdout), (Some(0.25), Some(false)));
    assert_eq!(lower.components_deny, Some(vec!["c".into()]));
    assert_eq!((lower.metrics.enabled, lower.origins.len()), (None, 2));
}

#[test]
fn a_configuration_file_needs_a_configuration() {
    let component = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\n\
                     spec: {type: state.redis}\n";
    let (_, issues) = parse_configuration(Path::new("c"), component.as_bytes(), &|_| None);
    let codes: Vec<&str> = issues.iter().map(|issue| issue.code).collect();
    assert_eq!(codes, ["OUTR-0139", "OUTR-0139"]);
}

#[test]
fn run_file() {
    let source = read("run-good.yaml");
    let exists = |path: &Path| !path.starts_with("/abs/pay/.dapr");
    let (run_file, issues) =
        multi_app::parse(Path::new("/w/shop/dapr.yaml"), source.as_bytes(), &exists, None);
    assert_eq!(issues, []);
    let run_file = run_file.unwrap();
    assert_eq!((run_file.version, run_file.name.as_str()), (1, "shop"));
    let [cart, pay] = run_file.apps.as_slice() else { panic!() };
    assert_eq!(cart.app_dir, PathBuf::from("/w/shop/cart"));
    assert_eq!(cart.resources_paths, [PathBuf::from("/w/shop/cart/own")]);
    assert_eq!(cart.config_file, Some("/w/shop/cart/cfg.yaml".into()));
    assert_eq!(cart.command, ["python3", "app.py"]);
    let env: Vec<_> = cart.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(env, ["A=1", "B=own", "C=true"]);
    assert_eq!((cart.app_port, cart.http_port, cart.grpc_port), (Some(8080), Some(3510), None));
    assert_eq!(cart.app_protocol, AppProtocol::Grpcs);
    assert_eq!(cart.app_max_concurrency, Some(5));
    assert!(cart.health.enabled && cart.health.interval_secs == Some(3));
    assert_eq!(cart.health.path.as_deref(), Some("/ok"));
    assert_eq!(cart.max_body_size, Some(16 << 20));
    assert_eq!(cart.app_log, LogDestination::Console);
    assert_eq!(cart.sidecar_log, LogDestination::FileAndConsole);
    assert_eq!(cart.unix_domain_socket, Some("/tmp/sockets".into()));
    assert_eq!(cart.logs_dir(), PathBuf::from("/w/shop/cart/.dapr/logs"));
    assert_eq!((pay.app_id.as_str(), pay.app_port), ("pay", None));
    assert_eq!(pay.resources_paths, [PathBuf::from("/w/shared")]);
    assert_eq!((pay.config_file.clone(), pay.log_level.as_deref()), (None, Some("warn")));
    assert_eq!(pay.api_listen_addresses, ["127.0.0.1", "::1"]);
    assert_eq!((pay.max_body_size, pay.sidecar_log), (Some(2 << 20), LogDestination::File));
}

#[test]
fn an_apps_own_folder_goes_before_common_paths() {
    let source = "version: 1\ncommon: {resourcesPath: common, configFilePath: c.yaml}\n\
                  apps: [{appDirPath: a}]\n";
    let (run_file, _) =
        multi_app::parse(Path::new("/w/dapr.yaml"), source.as_bytes(), &|_| true, None);
    let app = &run_file.unwrap().apps[0];
    assert_eq!(app.resources_paths, [PathBuf::from("/w/a/.dapr/resources")]);
    assert_eq!(app.config_file, Some("/w/a/.dapr/config.yaml".into()));
}

#[test]
fn tabs_in_json_carriage_returns_and_byte_order_marks() {
    let yaml = "apiVersion: dapr.io/v1alpha1\r\nkind: Component\r\nmetadata:\r\n  name: a\r\n\
                spec:\r\n  type: state.redis\r\n---\r\n";
    let json = "{\n\t\"apiVersion\": \"dapr.io/v1alpha1\",\n\t\"kind\": \"Component\",\n\
                \t\"metadata\": {\n\t\t\"name\": \"a\"\n\t},\n\t\"spec\": {\"type\": \"state.redis\"}\n}\n";
    for source in [yaml.to_owned(), json.to_owned(), format!("\u{feff}{yaml}")] {
        let (resources, issues) = crate::parse(Path::new("x"), source.as_bytes());
        assert_eq!((resources.len(), issues), (1, Vec::new()), "{source:?}");
        assert_eq!(resources[0].head().name, "a");
    }
}
