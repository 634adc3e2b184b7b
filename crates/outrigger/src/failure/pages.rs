//! The page of every code: what leads to it and what to do. Shown by `outrigger explain` and in the reference.

/// One code's page.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// `OUTR-nnnn`.
    pub code: &'static str,
    /// A few words.
    pub title: &'static str,
    /// How one gets here.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// All pages in the order of their codes: the binary's and those of the resource reader.
#[must_use]
pub fn all() -> Vec<Page> {
    let read = outrigger_resources::codes::ALL.iter().map(|code| Page {
        code: code.id,
        title: code.title,
        cause: code.cause,
        remedy: code.remedy,
    });
    let mut pages: Vec<Page> = OURS.iter().copied().chain(read).collect();
    pages.sort_by_key(|page| page.code);
    pages
}

const fn page(
    code: &'static str,
    title: &'static str,
    cause: &'static str,
    remedy: &'static str,
) -> Page {
    Page { code, title, cause, remedy }
}

const OURS: &[Page] = &[
    page(
        "OUTR-0001",
        "a setting has a wrong value",
        "A flag, a variable or a file gives a value that the setting cannot have: letters in a port, an unknown word, an app id with a space.",
        "The message names who set it and what was expected. `outrigger config` shows every setting with its origin.",
    ),
    page(
        "OUTR-0002",
        "no such setting",
        "A file or an OUTRIGGER__... variable names a setting that does not exist; often a typing error.",
        "`outrigger config` lists all keys and variables.",
    ),
    page(
        "OUTR-0003",
        "the settings file cannot be used",
        "The file does not exist, cannot be read, is not YAML, or holds a secret.",
        "Correct the place named, or pass another file with --settings. Secrets belong into variables.",
    ),
    page(
        "OUTR-0004",
        "port in use",
        "Another process listens on the port. The message names it where the system tells.",
        "Choose another port with the flag named (0 takes any free one), or stop that process.",
    ),
    page(
        "OUTR-0005",
        "cannot listen",
        "The address is not of this machine, the port needs privileges, or a socket folder cannot be written.",
        "Listen on 127.0.0.1 or an address that `ip addr` shows, on a port from 1024 up.",
    ),
    page(
        "OUTR-0006",
        "data folder cannot be shared",
        "Runtimes of one user share a data folder: the first one holds it and serves the others. Here the one that holds it does not answer (it is stopped, hangs, or is of an older version that does not share), speaks another version of the sharing protocol, or runs as another user.",
        "Let that process go on, or end it: the next runtime takes over by itself. `outrigger list` shows who uses which folder. Or use another folder with --data-dir, or none with --ephemeral.",
    ),
    page(
        "OUTR-0007",
        "data folder of a newer version",
        "A newer Outrigger has written the folder in a format this one does not know.",
        "Use that version or a later one; nothing was changed. Or start with another folder.",
    ),
    page(
        "OUTR-0008",
        "data folder cannot be written",
        "The folder or its file system is read-only, or belongs to another user.",
        "Correct its permissions, or choose another folder with --data-dir.",
    ),
    page(
        "OUTR-0009",
        "disk full",
        "The disk with the data folder has no room left.",
        "Make room, or move the folder to a larger disk and name it with --data-dir. Nothing acknowledged was lost.",
    ),
    page(
        "OUTR-0010",
        "data damaged",
        "Stored data is not what was written: a failing disk, or a foreign hand.",
        "Keep a copy of the folder, check the disk, restore a backup. The runtime does not guess.",
    ),
    page(
        "OUTR-0011",
        "no data folder",
        "The folder cannot be made or opened, or there is no home folder to put it in.",
        "Name a folder with --data-dir or OUTRIGGER_DATA_DIR, or keep nothing with --ephemeral.",
    ),
    page(
        "OUTR-0012",
        "component type not available",
        "A component has a type that this build cannot serve from the real system.",
        "Serve it from the embedded store with --components=embedded, choose a type that is served, or set ignoreErrors: true to go without it.",
    ),
    page(
        "OUTR-0013",
        "two components of one name",
        "Two resource documents that apply to the same app define a component of the same name.",
        "Rename one, remove one, or give them different scopes.",
    ),
    page(
        "OUTR-0014",
        "secret not found",
        "A component refers to a secret or a variable that cannot be read.",
        "Check the store, the name and the key in the message; auth.secretStore names the store, the environment is used without it.",
    ),
    page(
        "OUTR-0015",
        "component settings wrong",
        "A component's metadata lacks something its type needs, or has a value it cannot have.",
        "Correct the entry named.",
    ),
    page(
        "OUTR-0016",
        "resources with errors",
        "One or more resource files cannot be used. Each error has a code, a place and a remedy of its own.",
        "Correct them one by one; `outrigger explain` knows each code.",
    ),
    page(
        "OUTR-0017",
        "app could not be started",
        "The program or its folder does not exist or may not be run.",
        "Check the command after `--` or in the run file, and PATH. Shell syntax needs `sh -c '...'`.",
    ),
    page(
        "OUTR-0018",
        "app ended",
        "The app ended by itself while the runtime was to run beside it.",
        "See its last lines. With --restart it is started again after a pause.",
    ),
    page(
        "OUTR-0020",
        "no runtime answers",
        "A command found no runtime at the port it tried.",
        "Start one with `outrigger run`; `outrigger list` shows what runs; --dapr-http-port or --app-id choose one.",
    ),
    page(
        "OUTR-0021",
        "the runtime refused",
        "A runtime or an app answered with an error; its own code and message follow.",
        "See the reason given; the exit code says what kind it is.",
    ),
    page(
        "OUTR-0022",
        "not found",
        "The thing named does not exist: an app that does not run, a key without value, an unknown code.",
        "Check the name; `outrigger list` shows the apps.",
    ),
    page(
        "OUTR-0023",
        "out of time",
        "No answer came within the time allowed.",
        "Allow more with --timeout, or see what holds it up.",
    ),
    page(
        "OUTR-0024",
        "run file cannot be used",
        "The run file is missing, malformed, or asks for something impossible.",
        "Each error names file, line and column.",
    ),
    page(
        "OUTR-0025",
        "flags that do not fit",
        "Flags of one app were given together with a run file, which sets them per app.",
        "Move them into the run file, or run the app alone.",
    ),
    page(
        "OUTR-0026",
        "trace export cannot start",
        "The address or headers of the trace collector cannot be used.",
        "Check OTEL_EXPORTER_OTLP_* or tracing.otel of the Configuration; without them no traces are exported.",
    ),
    page(
        "OUTR-0027",
        "two apps of one id",
        "Two apps of one run have the same id.",
        "Give each app its own appID.",
    ),
    page(
        "OUTR-0028",
        "subscription cannot start",
        "A subscription names a broker that is not there, or a rule that does not compile.",
        "Correct the place named; the others work.",
    ),
    page(
        "OUTR-0029",
        "the store has failed",
        "While the runtime ran, the disk refused to write or to flush: it is full, broken, or gone. Nothing can be acknowledged any more, so the runtime ends, with exit code 74. Everything acknowledged before is on the disk. Runtimes that share the folder take over if the disk lets them, else they end in the same way.",
        "Check the disk (`dmesg`, `df`), make room, then start again. What was under way when it failed may or may not have happened: repeat it with the same etag or id.",
    ),
    page(
        "OUTR-0030",
        "failed",
        "A command failed for a reason without a code of its own.",
        "See the reasons given.",
    ),
    page(
        "OUTR-0031",
        "backup, restore or verification failed",
        "A backup could not be taken or restored, or something read is not as it was written: the folder cannot be used, is full, belongs to something else, or is damaged.",
        "See the reason given. A damaged backup: use another one, or an earlier revision of this one (`outrigger restore --revision`). Damaged data: stop the runtimes, keep a copy of the folder, restore the last backup.",
    ),
    page(
        "OUTR-0032",
        "name resolution cannot be used",
        "`spec.nameResolution` of the configuration names a component that this runtime does not have, or its settings make no sense.",
        "See the reason given and docs/reference/name-resolution.md. Without `nameResolution`, apps of this machine are found; apps of other hosts are found by `static`, `structuredformat`, `dns` or `kubernetes`.",
    ),
    page(
        "OUTR-0070",
        "a bug",
        "Something happened that should be impossible.",
        "Please report it with the lines above.",
    ),
];

#[cfg(test)]
mod tests {
    use super::all;

    #[test]
    fn every_code_once_with_cause_and_remedy() {
        let pages = all();
        for pair in pages.windows(2) {
            assert!(pair[0].code < pair[1].code, "{}", pair[1].code);
        }
        for page in pages {
            assert!(!page.cause.is_empty() && !page.remedy.is_empty(), "{}", page.code);
        }
    }
}
