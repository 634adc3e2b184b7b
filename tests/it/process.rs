//! The process: start, names, exit codes, shutdown, ports, metadata of itself.

use anyhow::{Result, ensure};
use outrigger_tests::{App, Start, eventually, patience, ports, tools};
use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::TcpListener,
    os::unix::fs::symlink,
    process::{Command, Stdio},
};

#[test]
fn the_apps_exit_code_passes_through() -> Result<()> {
    for code in [0, 7] {
        let script = format!("exit {code}");
        let mut node =
            Start::run("leaver", &[OsStr::new("sh"), OsStr::new("-c"), OsStr::new(&script)])
                .launch()?;
        let status = node.wait(patience::SOON)?;
        ensure!(status.code() == Some(code), "{code} became {status}\n{}", node.log());
    }
    Ok(())
}

#[test]
fn the_app_finds_the_usual_environment() -> Result<()> {
    let script =
        "echo \"env $APP_ID $APP_PORT $DAPR_HTTP_PORT $DAPR_GRPC_PORT $DAPR_METRICS_PORT\"";
    let app_port = ports::free();
    let start =
        Start::run("environment", &[OsStr::new("sh"), OsStr::new("-c"), OsStr::new(script)]);
    let mut node = start.app_port(app_port).launch()?;
    node.wait(patience::SOON)?;
    let ports = node.ports;
    let wanted =
        format!("env environment {app_port} {} {} {}", ports.http, ports.grpc, ports.metrics);
    ensure!(node.log().contains(&wanted), "no `{wanted}` in\n{}", node.log());
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> Result<()> {
    let taken = TcpListener::bind(("127.0.0.1", ports::free()))?;
    let port = taken.local_addr()?.port();
    let mut used = Start::sidecar("taken").launch()?.ports;
    used.http = port;
    let mut node = Start::sidecar("taken").ports(used).launch()?;
    let status = node.wait(patience::SOON)?;
    let log = node.log();
    ensure!(!status.success(), "two servers on one port\n{log}");
    ensure!(log.contains("OUTR-0004") && log.contains(&port.to_string()), "not named in\n{log}");
    Ok(())
}

#[test]
fn under_the_references_name_it_is_a_sidecar() -> Result<()> {
    let node = Start::sidecar("named").ready()?;
    let name = node.home.join("daprd");
    symlink(tools::binary()?, &name)?;
    let http = ports::free();
    let mut child = Command::new(&name)
        .args(["-app-id", "other", "--dapr-http-port", &http.to_string()])
        .args(["--dapr-grpc-port", &ports::free().to_string()])
        .args(["--metrics-port", &ports::free().to_string(), "--log-level", "debug"])
        .args(["--placement-host-address", "127.0.0.1:50005", "--enable-profiling=false"])
        .env("OUTRIGGER_DATA_DIR", node.home.join("daprd-data"))
        .env("HOME", node.home.path())
        .stdout(std::fs::File::create(node.home.join("daprd.log"))?)
        .stderr(Stdio::null())
        .spawn()?;
    let healthy = || outrigger_tests::http::send(http, "GET", "/v1.0/healthz", &[], b"").ok();
    let ready = patience::asked(patience::SOON, || healthy().filter(|answer| answer.status == 204));
    if ready.is_none() {
        child.kill()?;
        child.wait()?;
    }
    ensure!(ready.is_some(), "the sidecar did not start");
    let log = std::fs::read_to_string(node.home.join("daprd.log"))?;
    child.kill()?;
    child.wait()?;
    ensure!(
        log.contains("dapr initialized. Status: Running"),
        "tools wait for a line that is not in\n{log}"
    );
    Ok(())
}

#[test]
fn shutdown_by_the_api_and_by_signal_is_clean() -> Result<()> {
    let mut node = Start::sidecar("ends").components().ready()?;
    let answer = node.send("POST", "/v1.0/shutdown", &[], b"")?;
    ensure!(answer.status == 204, "shutdown answered {}", answer.status);
    ensure!(node.wait(patience::SOON)?.success(), "not a clean end\n{}", node.log());
    let mut node = Start::sidecar("ends").components().ready()?;
    ensure!(node.stop()?.success(), "not a clean end\n{}", node.log());
    Ok(())
}

#[test]
fn work_in_flight_is_finished_before_the_end() -> Result<()> {
    let app = App::start(|incoming| {
        if incoming.path == "/slow" {
            // The time the work itself takes.
            std::thread::sleep(std::time::Duration::from_millis(700));
        }
        outrigger_tests::Answer::status(200).body("done")
    })?;
    let mut node = Start::sidecar("drain").app_port(app.port).ready()?;
    let port = node.ports.http;
    let answer = std::thread::scope(|scope| {
        let call = scope.spawn(move || {
            outrigger_tests::http::send(port, "GET", "/v1.0/invoke/drain/method/slow", &[], b"")
        });
        eventually("the call to arrive", || {
            app.seen().iter().any(|incoming| incoming.path == "/slow").then_some(())
        });
        let ended = node.stop();
        (call.join(), ended)
    });
    let (Ok(answer), ended) = answer else { anyhow::bail!("the caller panicked") };
    let answer = answer?;
    ensure!(answer.status == 200 && answer.text() == "done", "{answer:?}");
    ensure!(ended?.success(), "not a clean end\n{}", node.log());
    Ok(())
}

#[test]
fn metrics_carry_the_references_names() -> Result<()> {
    let node = Start::sidecar("metered").components().ready()?;
    node.get("/v1.0/state/statestore/k")?;
    let page = outrigger_tests::http::send(node.ports.metrics, "GET", "/metrics", &[], b"")?;
    let text = page.text();
    for name in
        ["dapr_http_server_request_count", "dapr_http_server_latency", "dapr_component_state_count"]
    {
        ensure!(text.contains(name), "no {name} in\n{text}");
    }
    Ok(())
}

#[test]
fn settings_show_where_they_come_from() -> Result<()> {
    let output = Command::new(tools::binary()?)
        .args(["config", "--app-id", "flagged"])
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("OUTRIGGER__HTTP__PORT", "4711")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    ensure!(said.contains("flagged") && said.contains("4711"), "{said}");
    Ok(())
}

#[test]
fn completions_are_written() -> Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(tools::binary()?).args(["completion", shell]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success() && said.contains("outrigger"), "{shell}: {said}");
    }
    Ok(())
}

#[test]
fn the_demo_keeps_its_promises_under_fire() -> Result<()> {
    let node = Start::sidecar("beside-the-demo").ready()?;
    let output = Command::new(tools::binary()?)
        .args(["demo", "--chaos", "--seconds", "12"])
        .env_clear()
        .env("HOME", node.home.path())
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ended with {}\n{said}{complaint}", output.status);
    ensure!(said.contains("killed") || complaint.contains("killed"), "nobody was shot\n{said}");
    ensure!(said.contains("orders lost: 0") && said.contains("charged twice: 0"), "{said}");
    Ok(())
}

#[test]
fn traces_are_exported_where_a_collector_is_named() -> Result<()> {
    let collector = TcpListener::bind(("127.0.0.1", ports::free()))?;
    collector.set_nonblocking(true)?;
    let endpoint = format!("http://127.0.0.1:{}", collector.local_addr()?.port());
    let node = Start::sidecar("traced-app")
        .components()
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .environment("OTEL_BSP_SCHEDULE_DELAY", "100")
        .ready()?;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    node.send("GET", "/v1.0/state/statestore/k", &[("traceparent", trace)], b"")?;
    let mut stream = eventually("the exporter to connect", || collector.accept().ok()).0;
    // Enough of the protocol to be spoken to: our settings. What comes is looked at as bytes.
    stream.set_nonblocking(false)?;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])?;
    stream.set_read_timeout(Some(std::time::Duration::from_millis(50)))?;
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    eventually("a span of the app and its trace", || {
        if let Ok(read) = stream.read(&mut buffer) {
            seen.extend_from_slice(&buffer[..read]);
        }
        let has = |bytes: &[u8]| seen.windows(bytes.len()).any(|window| window == bytes);
        (has(b"traced-app") && has(&0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes()))
            .then_some(())
    });
    Ok(())
}
