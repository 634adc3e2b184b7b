//! Two hosts: runtimes with data folders of their own, which call each other over mutual TLS. One has the authority, the
//! others join it with tokens.

use anyhow::{Context, Result, ensure};
use outrigger_tests::{Answer, App, Folder, Node, Start, eventually, http::Response, ports, tools};
use serde_json::{Value, json};
use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

/// A host that is told apart by its data folder.
struct Host {
    data: Folder,
    port: u16,
}

impl Host {
    fn new(name: &str) -> Result<Self> {
        Ok(Self { data: Folder::new(name)?, port: ports::free() })
    }

    /// `outrigger ca ...` on this host.
    fn ca(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(tools::binary()?);
        command.arg("ca").args(arguments).arg("--data-dir").arg(self.data.path());
        Ok(command.env_remove("OUTRIGGER_JOIN_TOKEN").output()?)
    }

    fn told(&self, arguments: &[&str]) -> Result<String> {
        let output = self.ca(arguments)?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ca {arguments:?}: {error}");
        Ok(told)
    }

    /// A runtime of this host that knows where the apps of others are.
    fn start(&self, app_id: &str, others: &[(&str, &Host)]) -> Result<Start> {
        let mut text =
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata:\n  name: hosts\nspec:\n"
                .to_owned();
        if !others.is_empty() {
            text.push_str("  nameResolution:\n    component: static\n    version: v1\n    configuration:\n      apps:\n");
        }
        for (app, host) in others {
            text.push_str(&format!("        {app}: \"127.0.0.1:{}\"\n", host.port));
        }
        self.configured(app_id, &text)
    }

    fn configured(&self, app_id: &str, text: &str) -> Result<Start> {
        let config = self.data.write(&format!("{app_id}.yaml"), text)?;
        Ok(Start::sidecar(app_id)
            .data(self.data.path())
            .flag("--config", &config.display().to_string())
            .flag("--dapr-internal-grpc-port", &self.port.to_string()))
    }

    fn address(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }
}

fn app(name: &'static str) -> Result<App> {
    App::start(move |incoming| {
        Answer::json(&json!({
            "app": name,
            "path": incoming.path,
            "caller": incoming.header("dapr-caller-app-id"),
            "inner": incoming.headers.iter().filter(|(name, _)| name.starts_with("outrigger")).count(),
        }))
    })
}

/// What others asked of it.
fn asked(app: &App) -> Vec<String> {
    let paths = app.seen().into_iter().map(|incoming| incoming.path);
    paths.filter(|path| path != "/dapr/subscribe").collect()
}

fn call(node: &Node, path: &str) -> Result<Response> {
    node.send("GET", path, &[], b"")
}

/// Lets the caller `a` in, at one path, and nobody else.
const ACCESS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Configuration
metadata:
  name: access
spec:
  accessControl:
    defaultAction: deny
    trustDomain: public
    policies:
      - appId: a
        defaultAction: deny
        trustDomain: public
        namespace: default
        operations:
          - name: /open
            httpVerb: ['*']
            action: allow
";

#[test]
fn apps_of_two_hosts_call_each_other_and_an_access_list_knows_who_calls() -> Result<()> {
    let (north, south, east) = (Host::new("north")?, Host::new("south")?, Host::new("east")?);
    let served = app("b")?;
    let b = north.configured("b", ACCESS)?.app_port(served.port).switch("--enable-mtls").ready()?;
    let join = |host: &Host, app: &str| -> Result<Node> {
        let token = north.told(&["token", "--app-id", app, "-o", "name"])?;
        let start = host.start(app, &[("b", &north)])?;
        start.flag("--ca", &north.address()).flag("--join-token", &token).ready()
    };
    let (a, c) = (join(&south, "a")?, join(&east, "c")?);
    let answer = call(&a, "/v1.0/invoke/b/method/open")?;
    ensure!(answer.status == 200, "{}\n{}\n{}", answer.text(), a.log(), b.log());
    ensure!(
        answer.json() == json!({ "app": "b", "path": "/open", "caller": "a", "inner": 0 }),
        "{answer:?}"
    );
    for (node, path) in [(&a, "closed"), (&a, "open/../closed"), (&c, "open")] {
        let refused = call(node, &format!("/v1.0/invoke/b/method/{path}"))?;
        ensure!(refused.status == 403 || refused.status == 400, "{path}: {}", refused.text());
    }
    let spoofed = c.send(
        "GET",
        "/v1.0/invoke/b/method/open",
        &[("outrigger-peer-caller", "public/default/a"), ("dapr-caller-app-id", "a")],
        b"",
    )?;
    ensure!(spoofed.status == 403, "{}", spoofed.text());
    ensure!(asked(&served) == ["/open"], "{:?}", served.seen());
    // A token is for one use; a host that has joined needs none.
    drop(a);
    let again = south.start("a", &[("b", &north)])?.flag("--ca", &north.address()).ready()?;
    ensure!(call(&again, "/v1.0/invoke/b/method/open")?.status == 200, "{}", again.log());
    [&again, &b, &c].into_iter().for_each(Node::assert_calm);
    Ok(())
}

#[test]
fn what_does_not_prove_itself_does_not_get_in() -> Result<()> {
    let (north, south, west) =
        (Host::new("proof-n")?, Host::new("proof-s")?, Host::new("proof-w")?);
    let served = app("b")?;
    let b = north.start("b", &[])?.app_port(served.port).switch("--enable-mtls").ready()?;
    let token = north.told(&["token", "--app-id", "a", "-o", "name"])?;
    let refused = |host: &Host, flags: &[(&str, &str)], code: &str| -> Result<()> {
        let mut start = host.start("a", &[("b", &north)])?;
        for (flag, value) in flags {
            start = start.flag(flag, value);
        }
        let mut node = start.launch()?;
        node.wait(Duration::from_secs(60))?;
        let log = node.log() + &node.output();
        ensure!(log.contains("OUTR-0033") && log.contains(code), "{code} is not in\n{log}");
        Ok(())
    };
    let ca = north.address();
    let joined = south.told(&["join", "--ca", &ca, "--token", &token, "--app-id", "a"])?;
    ensure!(joined.contains("spiffe://public/ns/default/a"), "{joined}");
    refused(&west, &[("--ca", &ca), ("--join-token", &token)], "ERR_IDENTITY_TOKEN_USED")?;
    refused(&west, &[("--ca", &ca), ("--join-token", &token[1..])], "ERR_IDENTITY_NOT_A_TOKEN")?;
    refused(&west, &[("--ca", &ca)], "has not joined")?;
    let other = north.told(&["token", "--app-id", "other", "-o", "name"])?;
    refused(&west, &[("--ca", &ca), ("--join-token", &other)], "ERR_IDENTITY_TOKEN_FOR_ANOTHER")?;
    // Another authority with the same name is another one.
    west.told(&["init"])?;
    let foreign = west.told(&["token", "--app-id", "a", "-o", "name"])?;
    refused(
        &south,
        &[("--ca", &ca.replace("127.0.0.1", "localhost")), ("--join-token", &foreign)],
        "ERR_IDENTITY_OTHER_ROOT",
    )?;
    let stranger = west.start("a", &[("b", &north)])?.flag("--ca", "local").ready()?;
    let answer = call(&stranger, "/v1.0/invoke/b/method/x")?;
    ensure!(answer.status >= 500, "{}", answer.text());
    // Without any identity there is no way at all, and the answer says so.
    drop(stranger);
    let nobody = west.start("a", &[("b", &north)])?.ready()?;
    let answer = call(&nobody, "/v1.0/invoke/b/method/x")?;
    ensure!(answer.status >= 400, "{}", answer.text());
    ensure!(asked(&served).is_empty(), "{:?}", served.seen());
    b.assert_calm();
    Ok(())
}

#[test]
fn files_of_another_authority_are_taken_and_followed() -> Result<()> {
    let (north, south) = (Host::new("files-n")?, Host::new("files-s")?);
    let served = app("b")?;
    north.told(&["init", "--trust-domain", "prod.example.com"])?;
    let folders = [north.data.join("for-a"), north.data.join("for-b")];
    let issue = |app: &str, folder: &Path| {
        north.told(&["issue", "--app-id", app, "--out", &folder.display().to_string()])
    };
    issue("a", &folders[0])?;
    issue("b", &folders[1])?;
    let flag =
        |start: Start, folder: &Path| start.flag("--identity-dir", &folder.display().to_string());
    let b = flag(north.start("b", &[])?.app_port(served.port), &folders[1]).ready()?;
    let a = flag(south.start("a", &[("b", &north)])?, &folders[0]).ready()?;
    ensure!(call(&a, "/v1.0/invoke/b/method/x")?.status == 200, "{}", a.log());
    let mode = fs::metadata(folders[0].join("tls.key"))?;
    ensure!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o077 == 0, "{mode:?}");
    // New ones of a new root; the root before is retired, so only who has followed is believed.
    let before = north.told(&["show", "-o", "name"])?;
    north.told(&["rotate"])?;
    north.told(&["retire", &before])?;
    issue("b", &folders[1])?;
    issue("a", &folders[0])?;
    let new = |node: &Node| node.log().contains("has a new certificate").then_some(());
    eventually("the callee has its new certificate", || new(&b));
    eventually("the caller has its new certificate", || new(&a));
    ensure!(call(&a, "/v1.0/invoke/b/method/x")?.status == 200, "{}", a.log());
    let bundle = north.told(&["export"])?;
    ensure!(bundle.matches("BEGIN CERTIFICATE").count() == 1, "{bundle}");
    Ok(())
}

/// Certificates that live for ten seconds, and three new roots in between.
#[test]
fn nothing_fails_while_certificates_and_roots_change() -> Result<()> {
    let (north, south) = (Host::new("rotate-n")?, Host::new("rotate-s")?);
    let served = app("b")?;
    let short = |start: Start| start.flag("--certificate-ttl", "10s").flag("--clock-skew", "1s");
    let b = short(north.start("b", &[])?.app_port(served.port)).switch("--enable-mtls").ready()?;
    let token = north.told(&["token", "--app-id", "a", "-o", "name"])?;
    let a = south.start("a", &[("b", &north)])?.flag("--ca", &north.address());
    let a = a.flag("--join-token", &token).ready()?;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let http = a.ports.http;
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            thread::Builder::new().spawn(move || -> Result<()> {
                let mut connection = outrigger_tests::http::Connection::open(http)?;
                while !stop.load(Ordering::Relaxed) {
                    let path = "/v1.0/invoke/b/method/x";
                    let answer = connection.request("POST", path, &[], b"{}")?;
                    ensure!(answer.status == 200, "after {done:?} calls: {}", answer.text());
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect::<std::io::Result<_>>()?;
    let roots = |count: usize| {
        let told = north.told(&["show", "-o", "name"]).ok()?;
        (told.lines().count() >= count).then_some(())
    };
    for round in 0..3 {
        north.told(&["rotate"])?;
        eventually("the new root", || roots(round.min(1) + 1));
        let (renewed, log) = (|log: &str| log.matches("has a new certificate").count(), || a.log());
        let before = renewed(&log());
        eventually("another certificate of the caller", || {
            (renewed(&log()) > before).then_some(())
        });
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller
            .join()
            .ok()
            .context("a caller panicked")?
            .with_context(|| format!("{}\n----\n{}", a.log(), b.log()))?;
    }
    let calls = done.load(Ordering::Relaxed);
    ensure!(calls > 200, "only {calls} calls");
    Ok(())
}

/// The official client: invocation, proxied gRPC with metadata, trailers, streams both ways, and statuses.
#[test]
fn grpc_goes_from_host_to_host() -> Result<()> {
    let (north, south) = (Host::new("grpc-n")?, Host::new("grpc-s")?);
    let python = tools::python()?;
    let app = tools::root().join("tests/apps/python/grpc_app.py");
    let command: [&OsStr; 2] = [python.as_os_str(), app.as_os_str()];
    let start = |host: &Host, app_id: &str, others: &[(&str, &Host)]| -> Result<Start> {
        let config = host.data.join(&format!("{app_id}.yaml"));
        drop(host.start(app_id, others)?);
        Ok(Start::run(app_id, &command)
            .app_port(ports::free())
            .flag("--app-protocol", "grpc")
            .components()
            .environment("PYTHONDONTWRITEBYTECODE", "1")
            .flag("--log-level", "info")
            .flag("--config", &config.display().to_string())
            .flag("--dapr-internal-grpc-port", &host.port.to_string())
            .data(host.data.path()))
    };
    let peer =
        start(&north, "peer", &[])?.environment("STAY", "1").switch("--enable-mtls").ready()?;
    let token = north.told(&["token", "--app-id", "caller", "-o", "name"])?;
    let mut caller = start(&south, "caller", &[("peer", &north)])?
        .environment("CALLED_APP_ID", "peer")
        .flag("--ca", &north.address())
        .environment("OUTRIGGER_JOIN_TOKEN", token)
        .launch()?;
    let status = caller.wait(Duration::from_secs(120))?;
    let log = caller.log();
    for check in ["invoke.self", "proxy.unary", "proxy.stream", "proxy.status"] {
        ensure!(
            log.contains(&format!("check {check} ok")),
            "{check} did not hold\n{log}\n{}",
            peer.log()
        );
    }
    ensure!(status.success(), "ended with {status}\n{log}");
    Ok(())
}

#[test]
fn the_authority_is_kept_from_the_command_line() -> Result<()> {
    let north = Host::new("ca")?;
    let missing = north.ca(&["show"])?;
    let told = String::from_utf8_lossy(&missing.stderr).into_owned();
    ensure!(missing.status.code() == Some(3) && told.contains("OUTR-0034"), "{told}");
    north.told(&["init"])?;
    let first: Value = serde_json::from_str(&north.told(&["show", "-o", "json"])?)?;
    ensure!(first[0]["state"] == "signs" && first[0]["trustDomain"] == "public", "{first}");
    north.told(&["init", "--trust-domain", "other"])?;
    let rotated: Value = serde_json::from_str(&north.told(&["rotate", "-o", "json"])?)?;
    ensure!(rotated[0]["fingerprint"] == first[0]["fingerprint"], "{rotated}");
    ensure!(rotated[0]["state"] == "trusted" && rotated[1]["state"] == "signs", "{rotated}");
    ensure!(north.told(&["export"])?.matches("BEGIN CERTIFICATE").count() == 2);
    for wrong in [&["retire", "00000000"][..], &["token", "--app-id", "a/b"], &["retire", "ff"]] {
        let output = north.ca(wrong)?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && told.contains("OUTR-0034"), "{wrong:?}: {told}");
    }
    // The store alone, as a backup holds it, signs nothing.
    let backup = north.data.join("backup");
    let restored = Host { data: Folder::new("ca-restored")?, port: 0 };
    let run = |arguments: &[&OsStr]| -> Result<()> {
        let output = Command::new(tools::binary()?).args(arguments).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    let folder = OsStr::new("--data-dir");
    run(&["backup".as_ref(), backup.as_os_str(), folder, north.data.path().as_os_str()])?;
    run(&["restore".as_ref(), backup.as_os_str(), folder, restored.data.path().as_os_str()])?;
    ensure!(!restored.data.join("identity.seal").exists());
    restored.told(&["show"])?;
    let sealed = restored.ca(&["issue", "--app-id", "a", "--out", "x"])?;
    let told = String::from_utf8_lossy(&sealed.stderr).into_owned();
    ensure!(!sealed.status.success() && told.contains("sealed"), "{told}");
    fs::copy(north.data.join("identity.seal"), restored.data.join("identity.seal"))?;
    let out = restored.data.join("x");
    restored.told(&["issue", "--app-id", "a", "--out", &out.display().to_string()])?;
    ensure!(out.join("tls.crt").exists());
    Ok(())
}
