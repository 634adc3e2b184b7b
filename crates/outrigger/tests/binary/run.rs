//! `run`: an app and its runtime, many apps in one process.

use crate::harness::{Place, eventually, free_port, get, http, set, stderr, stdout, try_http};
use nix::sys::signal::Signal;

/// A server in a line of Python: answers 200 to everything, and says what it was asked.
const SERVER: &str = r#"
import http.server, os, sys
class H(http.server.BaseHTTPRequestHandler):
    def answer(self):
        n = int(self.headers.get('content-length') or 0)
        body = self.rfile.read(n)
        if self.path == '/dapr/subscribe':
            out = b'[{"pubsubname":"pubsub","topic":"orders","route":"/orders"}]'
        else:
            out = b'answer from ' + os.environ['APP_ID'].encode()
        print('asked', self.command, self.path, body.decode(), flush=True)
        self.send_response(200)
        self.send_header('content-length', str(len(out)))
        self.end_headers()
        self.wfile.write(out)
    do_GET = do_POST = do_PUT = do_DELETE = answer
    def log_message(self, *a): pass
s = http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), H)
print('listening', s.server_port, flush=True)
s.serve_forever()
"#;

pub(crate) fn quiet<'a>(port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = [
        "run",
        "--app-id",
        "app",
        "--dapr-http-port",
        port,
        "--dapr-grpc-port",
        "0",
        "--metrics-port",
        "0",
    ];
    [&common[..], more].concat()
}

#[test]
fn the_exit_code_is_the_apps() {
    let place = Place::new();
    for code in [0, 7] {
        let script = format!("exit {code}");
        let output = place.output(&quiet("0", &["--ephemeral", "--", "sh", "-c", &script]));
        assert_eq!(output.status.code(), Some(code), "{}", stderr(&output));
    }
    let output = place.output(&quiet("0", &["--ephemeral", "--", "sh", "-c", "kill -TERM $$"]));
    assert_eq!(output.status.code(), Some(143), "{}", stderr(&output));
}

#[test]
fn the_app_finds_its_environment_and_its_lines_are_shown() {
    let place = Place::new();
    let port = free_port().to_string();
    let script = "echo id=$APP_ID http=$DAPR_HTTP_PORT app=$APP_PORT proto=$APP_PROTOCOL ch=$APP_CHANNEL_ADDRESS; echo oops >&2";
    let output = place
        .output(&quiet(&port, &["--ephemeral", "--app-port", "1234", "--", "sh", "-c", script]));
    let line = format!("app | id=app http={port} app=1234 proto=http ch=127.0.0.1");
    assert!(stdout(&output).contains(&line), "{}", stdout(&output));
    assert!(stderr(&output).contains("app | oops"), "{}", stderr(&output));
}

#[test]
fn an_app_is_found_called_and_fed() {
    let place = Place::new();
    let port = free_port();
    let server = place.file("server.py", SERVER);
    let server = server.to_str().unwrap();
    let text = port.to_string();
    let mut running =
        place.start(&quiet(&text, &["--data-dir", "data", "--", "python3", server, "0"]));
    running.until("app listens on ");
    eventually("the app can be called", || {
        try_http(port, "POST", "/v1.0/invoke/app/method/hello", "{}")
            .is_some_and(|answer| answer.body == "answer from app")
    });
    running.until("asked GET /dapr/subscribe");
    assert_eq!(http(port, "POST", "/v1.0/publish/pubsub/orders", r#"{"id":7}"#).status, 204);
    let line = running.until("asked POST /orders");
    assert!(line.contains(r#""id":7"#), "{line}");
    let (code, said) = running.stop();
    assert_eq!(code, 0, "{said}");
}

#[test]
fn many_apps_share_one_process_and_end_in_order() {
    let place = Place::new();
    let server = place.file("server.py", SERVER);
    let (a, b) = (free_port(), free_port());
    let (app_a, app_b) = (free_port(), free_port());
    let app = |id: &str, http: u16, port: u16| {
        format!(
            "- appID: {id}\n  appDirPath: .\n  appPort: {port}\n  daprHTTPPort: {http}\n  daprGRPCPort: {}\n  metricsPort: {}\n  \
             appLogDestination: console\n  command: [python3, {}, \"{port}\"]\n",
            free_port(),
            free_port(),
            server.display()
        )
    };
    let file = format!("version: 1\napps:\n{}{}", app("first", a, app_a), app("second", b, app_b));
    place.file("dapr.yaml", &file);
    let mut running = place.start(&["run", "-f", "dapr.yaml", "--data-dir", "data"]);
    running.until("ready in");
    assert_eq!(http(a, "GET", "/v1.0/invoke/second/method/x", "").body, "answer from second");
    assert_eq!(http(b, "GET", "/v1.0/invoke/first/method/x", "").body, "answer from first");
    // One store, keys apart by app id.
    assert_eq!(set(a, "k", "1"), 204);
    assert_eq!(get(b, "k"), "");
    let listed = place.output(&["list", "-o", "json"]);
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed.len(), 2, "{listed:?}");
    assert_eq!(listed[0]["appId"], "first");
    assert_eq!(listed[1]["httpPort"], b);
    running.signal(Signal::SIGINT);
    let (code, said) = running.end();
    assert_eq!(code, 0, "{said}");
    for port in [a, b, app_a, app_b] {
        assert!(try_http(port, "GET", "/", "").is_none(), "something still answers at {port}");
    }
}

#[test]
fn an_app_that_dies_is_started_again_when_asked() {
    let place = Place::new();
    let port = free_port().to_string();
    let script = "echo life $$; sleep 0.2; kill -9 $$";
    let mut running =
        place.start(&quiet(&port, &["--ephemeral", "--restart", "--", "sh", "-c", script]));
    let first = running.until("life ");
    let second = running.until("life ");
    assert_ne!(first, second);
    running.until("starting it again");
    assert_eq!(running.stop().0, 0);
}

#[test]
fn no_child_outlives_a_killed_runtime() {
    let place = Place::new();
    let port = free_port().to_string();
    let mut running = place
        .start(&quiet(&port, &["--ephemeral", "--", "sh", "-c", "echo pid $$; exec sleep 600"]));
    let line = running.until("pid ");
    let child: i32 = line.rsplit(' ').next().unwrap().parse().unwrap();
    running.signal(Signal::SIGKILL);
    running.end();
    eventually("the child ends too", || !outrigger::procfs::is_alive(child));
}

#[test]
fn a_default_port_that_is_taken_moves_on_and_says_so() {
    let place = Place::new();
    // Whether or not somebody holds 3500 already, two runs cannot both have it.
    let args = [
        "run",
        "--app-id",
        "a",
        "--ephemeral",
        "--metrics-port",
        "0",
        "--",
        "sh",
        "-c",
        "echo http $DAPR_HTTP_PORT; exec sleep 600",
    ];
    let mut first = place.start(&args);
    let one = first.until("http ");
    let mut second = place.start(&args);
    second.until("is held by");
    let two = second.until("http ");
    assert_ne!(one, two);
}

#[test]
fn as_the_reference_cli() {
    use std::os::unix::process::CommandExt;
    let place = Place::new();
    let port = free_port().to_string();
    let mut command = place
        .command(&quiet(&port, &["--ephemeral", "--", "sh", "-c", "echo hello; exec sleep 600"]));
    command.arg0("dapr");
    let mut running = crate::harness::start(command);
    running.until("== APP == hello");
    running.until("You're up and running! Both Dapr and your app logs will appear here.");
    assert_eq!(running.stop().0, 0);
}
