//! nginx and HAProxy, each with a configuration of its own, in the foreground, as one process.

use crate::process::{Folder, Server, port};
use anyhow::Result;
use std::process::Command;

/// nginx; `upstream` are the lines of the group `app`, `location` those of the location that leads there.
pub(crate) fn nginx(home: &Folder, name: &str, upstream: &str, location: &str) -> Result<Server> {
    let port = port()?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {name}-{kind};\n"))
        .concat();
    let text = format!(
        "worker_processes 1;\ndaemon off;\nmaster_process off;\npid {name}.pid;\nerror_log {name}.log crit;\n\
         events {{ worker_connections 15000; }}\nhttp {{\n  access_log off;\n{temporary}  \
         proxy_cache_path {name}-cache keys_zone=kept:1m;\n  upstream app {{\n{upstream}    keepalive 256;\n  }}\n  \
         server {{\n    listen 127.0.0.1:{port} backlog=4096;\n    keepalive_requests 1000000;\n    location / {{\n      proxy_pass http://app;\n      \
         proxy_http_version 1.1;\n      proxy_set_header Connection \"\";\n{location}    }}\n  }}\n}}\n"
    );
    let file = home.write(&format!("{name}.conf"), &text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(home.path()).arg("-c").arg(file);
    let mut server = Server::start(command, port, home.path())?;
    server.wait_open()?;
    Ok(server)
}

/// `HAProxy`; `backend` are the lines of the backend.
pub(crate) fn haproxy(home: &Folder, name: &str, backend: &str) -> Result<Server> {
    let port = port()?;
    let text = format!(
        "global\n  maxconn 9000\ndefaults\n  mode http\n  timeout connect 1s\n  timeout client 30s\n  timeout server 1s\n\
         frontend all\n  bind 127.0.0.1:{port}\n  default_backend app\nbackend app\n{backend}"
    );
    let file = home.write(&format!("{name}.cfg"), &text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    let mut server = Server::start(command, port, home.path())?;
    server.wait_open()?;
    Ok(server)
}
