//! `outrigger doctor`: what a runtime needs of this machine, checked one by one, with a hint for whatever is wrong.

use super::{
    Context, Outcome,
    output::{self, Form, OutputArgs},
};
use crate::{
    failure::Exit,
    logging::{Sink, coloured},
    node::{
        self,
        resolution::{Resolution, in_words},
    },
    ports::{Ours, WhenTaken, bind},
    running,
    settings::{Layers, app::AppSettings, data_dir, flags::Flags},
    world::RealWorld,
};
use outrigger_kernel::World;
use outrigger_resources::Severity;
use serde_json::{Value, json};
use std::{fs, path::Path, process::ExitCode, sync::Arc};

/// Check this machine, with a hint for whatever is wrong.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Look for this app (`id` or `id.namespace`) where the configuration says, and show its places.
    #[arg(long, value_name = "APP")]
    resolve: Option<String>,
    #[command(flatten)]
    flags: Flags,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grade {
    Good,
    Warning,
    Bad,
}

struct Finding {
    group: &'static str,
    check: String,
    grade: Grade,
    hint: String,
}

pub(super) async fn run(args: DoctorArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let context = &context;
    let mut findings = Vec::new();
    match args.flags.layers(context.settings.as_deref(), &context.environment) {
        Err(failure) => {
            findings.push(bad("settings", "the settings can be read", failure.to_string()))
        }
        Ok((layers, file)) => {
            let from = file
                .map_or_else(|| "no settings file".to_owned(), |path| path.display().to_string());
            findings.push(good("settings", format!("the settings can be read ({from})")));
            data_folder(&layers, context, &mut findings);
            ports(&layers, context, &mut findings);
            resources(&layers, &mut findings);
            if let Some(app) = &args.resolve {
                resolve(app, &layers, context, world, &mut findings).await;
            }
        }
    }
    machine(&mut findings);
    show(args.output.form, &findings);
    let bad = findings.iter().filter(|finding| finding.grade == Grade::Bad).count();
    Ok(if bad == 0 { ExitCode::SUCCESS } else { Exit::Problems.into() })
}

fn data_folder(layers: &Layers, context: &Context, findings: &mut Vec<Finding>) {
    let group = "data";
    if layers.switch("data.ephemeral") {
        findings.push(warning(
            group,
            "data is kept",
            "--ephemeral keeps everything in memory; leave it out to keep data".to_owned(),
        ));
        return;
    }
    let folder = match data_dir::choose(layers.text("data.dir"), &context.environment) {
        Ok(folder) => folder,
        Err(failure) => {
            return findings.push(bad(group, "there is a data folder", failure.to_string()));
        }
    };
    let shown = folder.display();
    let existing = folder.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"));
    match nix::unistd::access(existing, nix::unistd::AccessFlags::W_OK) {
        Ok(()) => findings.push(good(group, format!("{shown} can be written"))),
        Err(error) => findings.push(bad(
            group,
            format!("{shown} can be written"),
            format!(
                "{}: {error}; correct its permissions or choose another folder with --data-dir",
                existing.display()
            ),
        )),
    }
    let used = running::all(&running::folder(&context.environment));
    let used = used.iter().find(|runtime| runtime.data_dir.as_deref() == Some(&folder));
    match used {
        None => findings.push(good(group, "no runtime has it open".to_owned())),
        Some(runtime) => findings.push(good(
            group,
            format!("process {} has it open; the next `run` shares it", runtime.pid),
        )),
    }
    if let Ok(space) = nix::sys::statvfs::statvfs(existing) {
        let free_mb = space.blocks_available().saturating_mul(space.fragment_size()) >> 20;
        let check = format!("the disk has room ({free_mb} MiB free)");
        let hint = "below 1 GiB a busy store fills it soon; make room or move the folder";
        findings.push(if free_mb < 1024 {
            warning(group, check, hint.to_owned())
        } else {
            good(group, check)
        });
    }
}

fn ports(layers: &Layers, context: &Context, findings: &mut Vec<Finding>) {
    let group = "ports";
    let app = match AppSettings::read(layers, "doctor") {
        Ok(app) => app,
        Err(failure) => {
            return findings.push(bad(group, "the app's settings make sense", failure.to_string()));
        }
    };
    let ours: Vec<i32> =
        running::all(&running::folder(&context.environment)).iter().map(|r| r.pid).collect();
    let wanted = [
        ("HTTP API", Some(&app.ports.http)),
        ("gRPC API", Some(&app.ports.grpc)),
        ("metrics", app.ports.metrics.as_ref()),
    ];
    for (what, port) in wanted.into_iter().filter_map(|(what, port)| Some((what, port?))) {
        let check = format!("port {} is free ({what})", port.number);
        match bind(&app.ports.addresses, port, WhenTaken::Fail, &Ours::default()) {
            Ok(_) => findings.push(good(group, check)),
            Err(_) if port.number != 0 => {
                let holder = crate::procfs::holder(port.number);
                let ours = holder.as_ref().is_some_and(|holder| ours.contains(&holder.pid));
                let who = holder
                    .map_or_else(|| "another process".to_owned(), |holder| holder.to_string());
                let hint = if ours {
                    format!("{who} is a runtime of yours; `run` takes the next free port")
                } else {
                    format!(
                        "{who} listens there; `run` takes the next free port, `sidecar` needs --{}",
                        port.flag
                    )
                };
                findings.push(warning(group, check, hint));
            }
            Err(failure) => findings.push(bad(group, check, failure.to_string())),
        }
    }
}

fn resources(layers: &Layers, findings: &mut Vec<Finding>) {
    let group = "resources";
    let asked = layers.list("resources.paths").into_iter().map(Into::into).collect::<Vec<_>>();
    let paths = node::resource_paths(&asked);
    if paths.is_empty() {
        findings.push(good(group, "no resource folder; the defaults are used".to_owned()));
        return;
    }
    let (found, issues) = outrigger_resources::load(&paths);
    let shown: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    let check = format!("{} resources in {} can be used", found.len(), shown.join(", "));
    if issues.is_empty() {
        return findings.push(good(group, check));
    }
    for issue in issues {
        let hint = format!("{}\n{}", issue, issue.remedy);
        match issue.severity {
            outrigger_resources::Severity::Error => findings.push(bad(group, check.clone(), hint)),
            _ => findings.push(warning(group, check.clone(), hint)),
        }
    }
}

/// Where `app` is found that this machine does not have.
async fn resolve(
    app: &str,
    layers: &Layers,
    context: &Context,
    world: Arc<dyn World>,
    findings: &mut Vec<Finding>,
) {
    let group = "names";
    let check = format!("{app} is found");
    let (id, namespace) = app.split_once('.').unwrap_or((app, "default"));
    let env = |name: &str| context.environment.get(name).map(ToOwned::to_owned);
    let files: Vec<_> = layers.list("config.paths").into_iter().map(Into::into).collect();
    let (configuration, issues) = outrigger_resources::load_configuration(&files, &env);
    if let Some(issue) = issues.iter().find(|issue| issue.severity == Severity::Error) {
        return findings.push(bad(group, check, issue.to_string()));
    }
    let lookup = match Resolution::read(&configuration, &world) {
        Err(failure) => return findings.push(bad(group, check, failure.to_string())),
        Ok(Resolution { lookup: None, .. }) => {
            let hint = "no nameResolution is configured: only apps of this machine are found";
            return findings.push(warning(group, check, hint.to_owned()));
        }
        Ok(Resolution { lookup: Some(lookup), .. }) => lookup,
    };
    findings.push(match lookup.look(id, namespace).await {
        Err(error) => bad(group, check, error.to_string()),
        Ok(found) if found.places.is_empty() => {
            warning(group, check, "name resolution knows no place of it".to_owned())
        }
        Ok(found) => {
            let places: Vec<String> = found.places.iter().map(in_words).collect();
            let time = found.valid_for.map_or_else(
                || "until the configuration changes".to_owned(),
                |time| format!("for {time:?}"),
            );
            good(group, format!("{app} is at {} ({time})", places.join(", ")))
        }
    });
}

fn machine(findings: &mut Vec<Finding>) {
    let group = "machine";
    if let Ok((soft, _)) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
    {
        let check = format!("enough files may be open ({soft})");
        let hint = "every connection is one; raise it with `ulimit -n 65536`";
        findings.push(if soft < 4096 {
            warning(group, check, hint.to_owned())
        } else {
            good(group, check)
        });
    }
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok();
    if let Some(watches) = watches.and_then(|text| text.trim().parse::<u64>().ok()) {
        let check = format!("files can be watched ({watches})");
        let hint = "hot reload falls back to comparing; raise fs.inotify.max_user_watches";
        findings.push(if watches < 1024 {
            warning(group, check, hint.to_owned())
        } else {
            good(group, check)
        });
    }
    let proc = Path::new("/proc/net/tcp").exists();
    let check = "processes and their ports can be seen (/proc)";
    findings.push(if proc {
        good(group, check.to_owned())
    } else {
        warning(group, check, "an app's port cannot be found by itself; give --app-port".to_owned())
    });
}

fn show(form: Form, findings: &[Finding]) {
    if form != Form::Table {
        let rows: Vec<_> = findings
            .iter()
            .filter_map(|finding| {
                let row = json!({
                    "check": finding.check,
                    "group": finding.group,
                    "result": match finding.grade { Grade::Good => "ok", Grade::Warning => "warning", Grade::Bad => "error" },
                    "hint": finding.hint,
                });
                if let Value::Object(row) = row { Some(row) } else { None }
            })
            .collect();
        return output::rows(form, &[output::Column("CHECK", "check")], &rows);
    }
    let colour = coloured(Sink::Stdout);
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            group = finding.group;
            output::line(&format!("{group}\n{}", "-".repeat(group.len())));
        }
        let (mark, code) = match finding.grade {
            Grade::Good => ("\u{221a}", 32),
            Grade::Warning => ("\u{203c}", 33),
            Grade::Bad => ("\u{d7}", 31),
        };
        let mark = if colour { format!("\u{1b}[{code}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        output::line(&format!("{mark} {}", finding.check));
        if !finding.hint.is_empty() {
            output::line(&format!("    {}", finding.hint.replace('\n', "\n    ")));
        }
    }
    let worst = findings.iter().any(|finding| finding.grade == Grade::Bad);
    output::line(&format!(
        "\nStatus check results are {}",
        if worst { "\u{d7}" } else { "\u{221a}" }
    ));
}

fn good(group: &'static str, check: impl Into<String>) -> Finding {
    Finding { group, check: check.into(), grade: Grade::Good, hint: String::new() }
}

fn warning(group: &'static str, check: impl Into<String>, hint: String) -> Finding {
    Finding { group, check: check.into(), grade: Grade::Warning, hint }
}

fn bad(group: &'static str, check: impl Into<String>, hint: String) -> Finding {
    Finding { group, check: check.into(), grade: Grade::Bad, hint }
}
