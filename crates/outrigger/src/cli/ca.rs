//! `outrigger ca`: the certificate authority in the data folder, and joining one elsewhere.
//!
//! Works while runtimes use the folder, and without any. Whoever may read the folder may do all of this: it is the
//! user's, and so is the authority.

use super::{
    Context, Outcome,
    backup::DataArgs,
    output::{self, Column, Form, OutputArgs},
};
use crate::{
    failure::{Exit, Failure},
    node::{
        self,
        identity::{joining, seal_file, source_failed},
    },
    settings::{flags::Flags, node::authority_at},
    world::RealWorld,
};
use clap::Subcommand;
use jiff::Timestamp;
use outrigger_engine_remote::Shared;
use outrigger_identity::{
    Authority, AuthorityError, AuthoritySettings, AuthorityStatus, Credentials, Enrolled,
    Enrolments, KeyRequest, RootState, SealKey,
};
use outrigger_kernel::{Wall, World};
use outrigger_keyspace::{KeySpace, Space};
use serde_json::{Map, Value, json};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

/// How long a runtime that takes the folder over from this process waits for it.
const GRACE: Duration = Duration::from_secs(5);

/// Keep the certificate authority of the data folder, or join one on another host.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct CaArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    /// Make an authority; where there is one, it stays.
    Init(InitArgs),
    /// Show its roots.
    Show(ShowArgs),
    /// Make a token with which another host can join once, within 15 minutes, as one app.
    Token(TokenArgs),
    /// Join an authority on another host, and keep what it gives in the data folder here.
    Join(JoinArgs),
    /// Write a certificate, its key and the roots to files, for an app elsewhere.
    Issue(IssueArgs),
    /// Make a new root that signs from now on; the one before is trusted until its last certificate has expired.
    Rotate(ShowArgs),
    /// Stop trusting an earlier root at once.
    Retire(RetireArgs),
    /// Print the roots as PEM.
    Export(ExportArgs),
}

#[derive(Clone, Debug, clap::Args)]
struct InitArgs {
    /// Its trust domain [default: that of the settings, else public].
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<String>,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct ShowArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// An app.
#[derive(Clone, Debug, clap::Args)]
struct AppArgs {
    /// The app's id.
    #[arg(short = 'a', long, value_name = "APP")]
    app_id: String,
    /// The app's namespace.
    #[arg(short, long, value_name = "NAME", default_value = "")]
    namespace: String,
}

#[derive(Clone, Debug, clap::Args)]
struct TokenArgs {
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct JoinArgs {
    /// The authority: https://host:port of the runtime that has it.
    #[arg(long, value_name = "ADDRESS")]
    ca: String,
    /// What `outrigger ca token` printed there.
    #[arg(
        long = "token",
        value_name = "TOKEN",
        env = "OUTRIGGER_JOIN_TOKEN",
        hide_env_values = true
    )]
    token: String,
    #[command(flatten)]
    app: AppArgs,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct IssueArgs {
    #[command(flatten)]
    app: AppArgs,
    /// Folder for tls.crt, tls.key and ca.crt.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Life of the certificate in hours, up to 90 days.
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    ttl_hours: u32,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct RetireArgs {
    /// The root's fingerprint, or how it begins.
    fingerprint: String,
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, clap::Args)]
struct ExportArgs {
    #[command(flatten)]
    data: DataArgs,
}

pub(super) async fn run(args: CaArgs, context: Context, world: Arc<RealWorld>) -> Outcome {
    let data = match &args.verb {
        Verb::Init(args) => &args.data,
        Verb::Show(args) | Verb::Rotate(args) => &args.data,
        Verb::Token(args) => &args.data,
        Verb::Join(args) => &args.data,
        Verb::Issue(args) => &args.data,
        Verb::Retire(args) => &args.data,
        Verb::Export(args) => &args.data,
    };
    let folder = data.folder(&context)?;
    let makes = matches!(args.verb, Verb::Init(_) | Verb::Join(_));
    if !makes && !folder.join("FORMAT").exists() {
        let what = format!("there is no data in {}, and so no authority", folder.display());
        return Err(Failure::new("OUTR-0034", Exit::NotFound, what)
            .help("make one with `outrigger ca init`, or name the data folder with --data-dir"));
    }
    let store = Store::open(&folder, world).await?;
    let done = store.run(args.verb, &context).await;
    store.shared.close(GRACE).await;
    done
}

/// The data folder.
struct Store {
    shared: Arc<Shared>,
    space: Space,
    seal: SealKey,
    world: Arc<dyn World>,
}

impl Store {
    async fn open(folder: &Path, world: Arc<RealWorld>) -> Result<Self, Failure> {
        let shared = node::share(folder, Arc::clone(&world) as _).await?;
        let seal = match seal_file::of(folder) {
            Ok(seal) => seal,
            Err(failure) => {
                shared.close(GRACE).await;
                return Err(failure);
            }
        };
        let space = Space::new(Arc::clone(&shared) as Arc<dyn KeySpace>, Arc::clone(&world) as _);
        Ok(Self { shared, space, seal, world })
    }

    async fn run(&self, verb: Verb, context: &Context) -> Outcome {
        let (layers, _) =
            Flags::default().layers(context.settings.as_deref(), &context.environment)?;
        let time = |key| layers.duration(key).unwrap_or_default();
        let settings = AuthoritySettings {
            leaf_ttl: time("identity.certificate-ttl"),
            skew: time("identity.clock-skew"),
            ..AuthoritySettings::default()
        };
        let authority = Authority::new(self.space.clone(), self.seal.clone(), settings);
        match verb {
            Verb::Init(args) => {
                let domain = args.trust_domain.as_deref().or(layers.text("identity.trust-domain"));
                let made = authority.init(domain.unwrap_or("public")).await;
                if !made.map_err(source_failed)? {
                    output::note("there is an authority already; it stays as it is");
                }
                show(args.output.form, authority.status().await)
            }
            Verb::Show(args) => show(args.output.form, authority.status().await),
            Verb::Rotate(args) => show(args.output.form, authority.rotate().await),
            Verb::Retire(args) => show(args.output.form, authority.retire(&args.fingerprint).await),
            Verb::Token(args) => token(&authority, &args).await,
            Verb::Issue(args) => issue(&authority, &args).await,
            Verb::Join(args) => self.join(args).await,
            Verb::Export(_) => {
                let status = authority.status().await.map_err(source_failed)?;
                let trusted = status.roots.iter().filter(|root| root.state != RootState::Retired);
                trusted.for_each(|root| output::raw(root.pem().as_bytes()));
                Ok(ExitCode::SUCCESS)
            }
        }
    }

    async fn join(&self, args: JoinArgs) -> Outcome {
        let at = authority_at(&args.ca, "--ca")?;
        let app = (args.app.namespace.as_str(), args.app.app_id.as_str());
        let failed = |reason: &dyn std::fmt::Display| {
            Failure::new("OUTR-0033", Exit::Failed, "this host has not joined")
                .at(format!("--ca {}", args.ca))
                .why(reason)
        };
        let key = KeyRequest::new(None).map_err(|refused| failed(&refused))?;
        let joined = joining::join(&at, &args.token, key, app, &self.world).await;
        let credentials = joined.map_err(|error| failed(&error))?;
        let authority = joining::address(&at);
        let enrolled = Enrolled { authority, credentials };
        let kept = Enrolments::new(self.space.clone(), self.seal.clone()).put(&enrolled).await;
        kept.map_err(|error| failed(&error))?;
        let identity = enrolled.credentials.identity().to_string();
        let told = format!(
            "joined as {identity}; run the app with --ca {} and without a token from now on",
            args.ca
        );
        print(args.output.form, &told, &identity, &of(&enrolled.credentials)?);
        Ok(ExitCode::SUCCESS)
    }
}

fn show(form: Form, status: Result<AuthorityStatus, AuthorityError>) -> Outcome {
    let status = status.map_err(source_failed)?;
    let row = |root: &outrigger_identity::RootStatus| {
        let (state, until) = match root.state {
            RootState::Signing => ("signs", None),
            RootState::TrustedUntil(until) => ("trusted", Some(at(until))),
            RootState::Retired => ("retired", None),
        };
        let row = json!({
            "fingerprint": root.hex(),
            "trustDomain": status.trust_domain,
            "state": state,
            "trustedUntil": until,
            "notBefore": at(root.not_before),
            "notAfter": at(root.not_after),
        });
        if let Value::Object(row) = row { row } else { Map::new() }
    };
    let rows: Vec<_> = status.roots.iter().map(row).collect();
    let columns = [
        Column("FINGERPRINT", "fingerprint"),
        Column("TRUST DOMAIN", "trustDomain"),
        Column("STATE", "state"),
        Column("TRUSTED UNTIL", "trustedUntil"),
        Column("NOT AFTER", "notAfter"),
    ];
    output::rows(form, &columns, &rows);
    Ok(ExitCode::SUCCESS)
}

async fn token(authority: &Authority, args: &TokenArgs) -> Outcome {
    let AppArgs { app_id, namespace } = &args.app;
    let token = authority.token(namespace, app_id).await.map_err(source_failed)?;
    // The token alone, so that it can be passed on; what to do with it goes to people.
    let text = token.text();
    if args.output.form == Form::Table {
        output::note(&format!(
            "for one start of {app_id} within 15 minutes: outrigger run --app-id {app_id} --ca https://HOST:PORT --join-token TOKEN -- COMMAND"
        ));
    }
    print(args.output.form, &text, &text, &json!({ "token": text, "appId": app_id }));
    Ok(ExitCode::SUCCESS)
}

async fn issue(authority: &Authority, args: &IssueArgs) -> Outcome {
    let AppArgs { app_id, namespace } = &args.app;
    let ttl = Duration::from_secs(u64::from(args.ttl_hours) * 3_600);
    let issued = authority.issue_for(namespace, app_id, ttl).await.map_err(source_failed)?;
    let [key, chain, bundle] = issued.to_pem();
    let out = &args.out;
    let write = || {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(out)?;
        write_private(&out.join("tls.key"), &key)?;
        write_private(&out.join("tls.crt"), &chain)?;
        write_private(&out.join("ca.crt"), &bundle)
    };
    write().map_err(|error: io::Error| {
        Failure::new("OUTR-0030", Exit::Failed, format!("{} cannot be written", out.display()))
            .why(error)
    })?;
    let identity = issued.identity().to_string();
    let told = format!("{} has the key and the certificate of {identity}", out.display());
    print(args.output.form, &told, &identity, &of(&issued)?);
    Ok(ExitCode::SUCCESS)
}

/// In place of a file from before, whole at every moment.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut own = path.as_os_str().to_owned();
    own.push(format!(".{}", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&own)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(own, path)
}

fn of(credentials: &Credentials) -> Result<Value, Failure> {
    let (_, until) =
        credentials.span().map_err(|refused| Failure::internal(refused.to_string()))?;
    Ok(json!({ "identity": credentials.identity().to_string(), "notAfter": at(until) }))
}

fn print(form: Form, told: &str, name: &str, document: &Value) {
    match form {
        Form::Table => output::line(told),
        Form::Name => output::line(name),
        Form::Env => {
            let row = document.as_object().cloned().unwrap_or_default();
            output::rows(form, &[], &[row]);
        }
        form => output::document(form, document),
    }
}

fn at(time: Wall) -> String {
    let millis = i64::try_from(time.0).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(millis).map_or_else(|_| millis.to_string(), |at| at.to_string())
}
