//! Files and folders on disk, and resources seen together.

use crate::{Issue, load, load_configuration, multi_app};
use std::path::{Path, PathBuf};

/// A folder that goes away with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let folder =
            std::env::temp_dir().join(format!("outrigger-resources-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(folder.join("below")).unwrap();
        for (file, content) in files {
            std::fs::write(folder.join(file), content).unwrap();
        }
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn component(name: &str, rest: &str) -> String {
    format!(
        "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\n\
         spec: {{type: state.redis, metadata: [{rest}]}}\n"
    )
}

fn told(issues: &[Issue], folder: &Path) -> Vec<String> {
    let line = |issue: &Issue| format!("{issue}").replace(&format!("{}/", folder.display()), "");
    issues.iter().map(line).collect()
}

#[test]
fn folders_in_name_order_one_level_deep() {
    let folder = Folder::new(
        "folders",
        &[
            ("b.yml", component("b", "").as_bytes()),
            ("a.YAML", component("a", "").as_bytes()),
            ("c.json", br#"{"apiVersion":"dapr.io/v1alpha1","kind":"Component","metadata":{"name":"c"},"spec":{"type":"state.redis","metadata":[{"name":"e","value":"\ud83d\ude00\/"}]}}"#),
            ("secrets.json", br#"{"password": "p"}"#),
            ("notes.txt", b"kind: [[["),
            ("below/d.yaml", component("d", "").as_bytes()),
            ("z.yaml", b"kind: \xff"),
        ],
    );
    let missing = folder.0.join("missing");
    let (resources, issues) = load(&[missing, folder.0.clone(), folder.0.join("below/d.yaml")]);
    let names: Vec<&str> = resources.iter().map(|r| r.head().name.as_str()).collect();
    assert_eq!(names, ["a", "b", "c", "d"]);
    let told = told(&issues, &folder.0);
    assert!(told[0].starts_with("missing: error OUTR-0101: missing cannot be read: "), "{told:?}");
    assert_eq!(told[1..], ["z.yaml:1:7: error OUTR-0103: not UTF-8"]);
    let crate::Body::Component(c) = &resources[2].body else { panic!() };
    assert_eq!(c.literal("e"), Some("\u{1f600}/"));
}

#[test]
fn two_of_a_name_and_what_else_does_not_fit_together() {
    let actor = "{name: actorStateStore, value: 'true'}";
    let resiliency = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\nspec:\n  policies:\n\
                      \x20   retries: {steady: {}}\n  targets:\n    apps:\n\
                      \x20     cart: {retry: steddy, timeout: none}\n\
                      \x20     shop: {retry: DaprBuiltInServiceRetries}\n\
                      \x20   components: {store: {inbound: {retry: other}}}\n";
    let other = "apiVersion: dapr.io/v1alpha1\nkind: Resiliency\n\
                 spec: {policies: {retries: {other: {}}}}\n";
    let folder = Folder::new(
        "together",
        &[
            ("1.yaml", component("store", actor).as_bytes()),
            ("2.yaml", component("store", "").as_bytes()),
            ("3.yaml", component("second", actor).as_bytes()),
            ("4.yaml", format!("{}scopes: [x]\n---\n{other}", component("third", "")).as_bytes()),
            ("5.yaml", resiliency.as_bytes()),
        ],
    );
    let (resources, issues) = load(std::slice::from_ref(&folder.0));
    assert_eq!(resources.len(), 5);
    assert_eq!(
        told(&issues, &folder.0),
        [
            "2.yaml:1:1: error OUTR-0119: the component store is defined at 1.yaml:1:1 already",
            "3.yaml:1:1: warning OUTR-0132: second is a second actor state store beside store, \
             defined at 1.yaml:1:1",
            "5.yaml:8:13: warning OUTR-0134: the app cart wants the timeout none, \
             which nothing defines",
            "5.yaml:8:13: warning OUTR-0134: the app cart wants the retry policy steddy, \
             which nothing defines",
        ]
    );
    assert_eq!(issues[3].remedy, "Did you mean steady?");
}

#[test]
fn configurations_and_run_files_from_disk() {
    let configuration = |rate: &str| {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Configuration\nmetadata: {{name: c}}\n\
             spec: {{tracing: {{samplingRate: {rate}}}}}\n"
        )
    };
    let folder = Folder::new(
        "disk",
        &[
            ("1.yaml", configuration("1").as_bytes()),
            ("2.yaml", configuration("0").as_bytes()),
            ("dapr.yaml", b"version: 1\napps: [{appDirPath: below, command: [x]}]\n"),
        ],
    );
    let paths = ["1.yaml", "2.yaml"].map(|name| folder.0.join(name));
    let (read, issues) = load_configuration(&paths, &|_| None);
    assert_eq!((read.tracing.sampling_rate, issues), (Some(0.0), Vec::new()));
    let (run_file, issues) = multi_app::load(&folder.0);
    assert_eq!(issues, []);
    assert_eq!(run_file.unwrap().apps[0].app_id, "below");
    let (run_file, issues) = multi_app::load(&folder.0.join("none.yaml"));
    assert_eq!((run_file, issues[0].code), (None, "OUTR-0101"));
    let huge = folder.0.join("huge.yaml");
    std::fs::write(&huge, vec![b' '; crate::load::FILE_BYTES_MAX + 1]).unwrap();
    assert_eq!(load(&[huge]).1[0].code, "OUTR-0102");
}
