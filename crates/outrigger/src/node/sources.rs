//! Resources of an app: which files, what is in them, and the defaults where there are none.

use crate::failure::{Exit, Failure};
use outrigger_resources::{Body, Component, Issue, Resource, Severity};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Folders that are looked for when nobody names one.
const HERE: [&str; 2] = ["resources", "components"];

/// What an app has when it brings no resources: a store, a broker, locks and the environment's secrets.
const DEFAULTS: &str = "\
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: statestore}
spec:
  type: state.outrigger
  version: v1
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: pubsub}
spec:
  type: pubsub.outrigger
  version: v1
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: lockstore}
spec:
  type: lock.outrigger
  version: v1
---
apiVersion: dapr.io/v1alpha1
kind: Component
metadata: {name: secretstore}
spec:
  type: secretstores.local.env
  version: v1
";

/// The paths to read: those asked for, else the first of `./resources` and `./components` that is there.
#[must_use]
pub fn resource_paths(asked: &[PathBuf]) -> Vec<PathBuf> {
    if !asked.is_empty() {
        return asked.to_vec();
    }
    let found = HERE.iter().map(PathBuf::from).find(|path| path.is_dir());
    found.into_iter().collect()
}

/// What was read.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) resources: Vec<Resource>,
    pub(crate) issues: Vec<Issue>,
    /// Whether these are the defaults.
    pub(crate) defaults: bool,
}

/// What was read a moment ago. Ten apps that share a folder read it once, and all of them see the same.
#[derive(Debug, Default)]
pub(crate) struct Shelf(Mutex<BTreeMap<Vec<PathBuf>, Arc<Loaded>>>);

impl Shelf {
    /// Reads `paths`, unless they were read since the shelf was emptied.
    pub(crate) fn read(&self, paths: &[PathBuf]) -> Arc<Loaded> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = shelf.entry(paths.to_vec()).or_insert_with(|| Arc::new(read(paths)));
        Arc::clone(loaded)
    }

    /// Forgets everything, so that it is read anew.
    pub(crate) fn empty(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Reads `paths`; the defaults where there are none.
pub(crate) fn read(paths: &[PathBuf]) -> Loaded {
    if paths.is_empty() {
        let (resources, issues) =
            outrigger_resources::parse(Path::new("(defaults)"), DEFAULTS.as_bytes());
        return Loaded { resources, issues, defaults: true };
    }
    let (resources, issues) = outrigger_resources::load(paths);
    Loaded { resources, issues, defaults: false }
}

impl Loaded {
    /// The errors among the issues as one failure.
    ///
    /// # Errors
    /// When there is one.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        all_at_once(&self.issues, |count| {
            Failure::new("OUTR-0016", Exit::Usage, format!("{count} resources cannot be used"))
        })
    }

    /// The components that apply to an app.
    pub(crate) fn components<'a>(
        &'a self,
        app_id: &'a str,
        namespace: &'a str,
    ) -> Vec<&'a Component> {
        let bodies = self.applying(app_id, namespace);
        bodies
            .filter_map(
                |body| if let Body::Component(found) = body { Some(&**found) } else { None },
            )
            .collect()
    }

    /// The resources that apply to an app.
    pub(crate) fn applying<'a>(
        &'a self,
        app_id: &'a str,
        namespace: &'a str,
    ) -> impl Iterator<Item = &'a Body> + 'a {
        let namespace = Some(namespace).filter(|namespace| !namespace.is_empty());
        self.resources
            .iter()
            .filter(move |resource| resource.applies_to(app_id, namespace))
            .map(|resource| &resource.body)
    }
}

/// An issue as a failure of its own.
pub(crate) fn failure(issue: &Issue) -> Failure {
    let failure = Failure::new(issue.code, Exit::Usage, issue.message.clone()).at(&issue.origin);
    let source = fs::read_to_string(&issue.origin.file).unwrap_or_default();
    let line = usize::try_from(issue.origin.line).unwrap_or_default();
    let failure = match line.checked_sub(1).and_then(|above| source.lines().nth(above)) {
        Some(text) => failure.why(format!("{line} | {text}")),
        None => failure,
    };
    if issue.remedy.is_empty() { failure } else { failure.help(issue.remedy.clone()) }
}

/// Fails when there are errors among `issues`. One mistake speaks for itself; several are listed under one heading, so
/// that they can be mended in one go.
pub(crate) fn all_at_once(
    issues: &[Issue],
    heading: impl FnOnce(usize) -> Failure,
) -> Result<(), Failure> {
    let errors: Vec<&Issue> =
        issues.iter().filter(|issue| issue.severity == Severity::Error).collect();
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(failure(one)),
        several => {
            let heading = heading(several.len());
            Err(several.iter().fold(heading, |whole, issue| whole.why(shown(issue))))
        }
    }
}

/// An issue as the compiler-like report of the reader, with its line and a caret.
pub(crate) fn shown(issue: &Issue) -> String {
    let source = fs::read_to_string(&issue.origin.file).unwrap_or_default();
    outrigger_resources::render(issue, &source).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn the_defaults_are_well_formed_and_apply_to_everybody() {
        let loaded = read(&[]);
        assert!(loaded.issues.is_empty() && loaded.defaults, "{:?}", loaded.issues);
        let names: Vec<_> =
            loaded.components("any", "ns").iter().map(|c| c.head.name.clone()).collect();
        assert_eq!(names, ["statestore", "pubsub", "lockstore", "secretstore"]);
    }
}
