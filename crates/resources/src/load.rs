//! From paths to resources: folders, files, documents, kinds.

use crate::{
    codes,
    component::Component,
    configuration::Configuration,
    document,
    fields::Report,
    http_endpoint::HttpEndpoint,
    issue::{Issue, Origin, Severity},
    resiliency::Resiliency,
    resolve::EnvReader,
    subscription::Subscription,
    value::Head,
    yaml::{self, Node, Place},
};
use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

mod together;

pub use together::check_together;

/// Bytes in one file.
pub(crate) const FILE_BYTES_MAX: usize = 1024 * 1024;
/// Resource files in one folder.
const FOLDER_FILES_MAX: usize = 4096;

/// One document.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource {
    /// Where it begins.
    pub origin: Origin,
    /// What it is.
    pub body: Body,
}

impl Resource {
    /// Name, namespace, labels and scopes.
    #[must_use]
    pub fn head(&self) -> &Head {
        match &self.body {
            Body::Component(component) => &component.head,
            Body::Configuration(configuration) => &configuration.head,
            Body::Subscription(subscription) => &subscription.head,
            Body::Resiliency(resiliency) => &resiliency.head,
            Body::HttpEndpoint(endpoint) => &endpoint.head,
            Body::Other(other) => &other.head,
        }
    }

    /// Whether the app may use it: see [`Head::applies_to`].
    #[must_use]
    pub fn applies_to(&self, app_id: &str, namespace: Option<&str>) -> bool {
        self.head().applies_to(app_id, namespace)
    }
}

/// A document by its kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// Kind `Component`.
    Component(Box<Component>),
    /// Kind `Configuration`.
    Configuration(Box<Configuration>),
    /// Kind `Subscription`.
    Subscription(Box<Subscription>),
    /// Kind `Resiliency`.
    Resiliency(Box<Resiliency>),
    /// Kind `HTTPEndpoint`.
    HttpEndpoint(Box<HttpEndpoint>),
    /// A kind that is known to exist but not served.
    Other(Box<Other>),
}

/// A document kept as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Other {
    /// Its kind, such as `MCPServer`.
    pub kind: String,
    /// Name, namespace, labels and scopes.
    pub head: Head,
    /// The whole document.
    pub document: serde_json::Value,
}

/// Reads every resource in `paths`: files as they are, folders one level deep in name order (`.yaml`, `.yml`, `.json`).
/// What cannot be read, or contradicts something read before, is left out and reported.
#[must_use]
pub fn load(paths: &[PathBuf]) -> (Vec<Resource>, Vec<Issue>) {
    let (mut resources, mut issues) = (Vec::new(), Vec::new());
    for path in paths {
        let files = match files_in(path) {
            Ok(files) => files,
            Err(issue) => {
                issues.push(*issue);
                continue;
            }
        };
        for file in files {
            match read_file(&file) {
                // A folder often holds data in JSON too, such as the file of a local secret store.
                Ok(source) if is_json(&file) && !mentions_api_version(&source) => {}
                Ok(source) => {
                    let (more, problems) = parse(&file, &source);
                    resources.extend(more);
                    issues.extend(problems);
                }
                Err(issue) => issues.push(*issue),
            }
        }
    }
    issues.extend(check_together(&mut resources));
    (resources, issues)
}

/// Reads the documents of one file that is already in memory. Unlike [`load`] it does not compare resources with each
/// other: that is [`check_together`].
#[must_use]
pub fn parse(file: &Path, source: &[u8]) -> (Vec<Resource>, Vec<Issue>) {
    let mut report = Report::new(file);
    let trees = trees(&mut report, source, None);
    let resources = trees.iter().filter_map(|tree| tree.read(&mut report)).collect();
    (resources, report.into_issues())
}

/// Reads configuration files and lays them over one another, later ones winning. `$NAME` and `${NAME}` in their values
/// are replaced from the environment, as the reference does for this kind alone.
#[must_use]
pub fn load_configuration(paths: &[PathBuf], env: &EnvReader<'_>) -> (Configuration, Vec<Issue>) {
    let (mut configuration, mut issues) = (Configuration::default(), Vec::new());
    for path in paths {
        match read_file(path) {
            Ok(source) => {
                let (upper, problems) = parse_configuration(path, &source, env);
                configuration.overlay(upper);
                issues.extend(problems);
            }
            Err(issue) => issues.push(*issue),
        }
    }
    (configuration, issues)
}

/// As [`load_configuration`], for one file that is already in memory.
#[must_use]
pub fn parse_configuration(
    file: &Path,
    source: &[u8],
    env: &EnvReader<'_>,
) -> (Configuration, Vec<Issue>) {
    let mut report = Report::new(file);
    let mut configuration = Configuration::default();
    let mut found = false;
    for tree in trees(&mut report, source, Some(env)) {
        match tree.read(&mut report) {
            Some(Resource { body: Body::Configuration(upper), .. }) => {
                found = true;
                configuration.overlay(*upper);
            }
            Some(resource) => {
                let message = "this is not a Configuration, so it is left out here";
                let code = codes::NOT_CONFIGURATION;
                report.push(Issue::new(Severity::Warning, code, resource.origin, message));
            }
            None => {}
        }
    }
    if !found && report.errors() == 0 {
        let message = "the file holds no document of kind Configuration";
        report.error(codes::NOT_CONFIGURATION, Place::default(), message);
    }
    (configuration, report.into_issues())
}

/// A document that could be read as a tree.
pub(crate) struct Tree {
    pub(crate) root: Arc<Node>,
    /// Whether nothing was lost on the way. What lost something is still read, to tell what else is wrong with it.
    pub(crate) sound: bool,
}

impl Tree {
    fn read(&self, report: &mut Report) -> Option<Resource> {
        document::read(report, &self.root).filter(|_| self.sound)
    }
}

/// The trees of a file's documents; what has none is reported.
pub(crate) fn trees(report: &mut Report, source: &[u8], env: Option<&EnvReader<'_>>) -> Vec<Tree> {
    if source.len() > FILE_BYTES_MAX {
        let message = format!("the file is larger than {FILE_BYTES_MAX} bytes");
        report.error(codes::FILE_TOO_LARGE, Place::default(), message);
        return Vec::new();
    }
    let text = match std::str::from_utf8(source) {
        Ok(text) => text,
        Err(error) => {
            report.error(codes::NOT_UTF8, place_after(source, error.valid_up_to()), "not UTF-8");
            return Vec::new();
        }
    };
    let mut unset = Vec::new();
    let mut expand = |text: &str, place: Place| {
        let env = env.filter(|_| text.contains('$'))?;
        Some(expanded(text, &mut |name| {
            env(name).unwrap_or_else(|| {
                unset.push((place, name.to_owned()));
                String::new()
            })
        }))
    };
    let mut trees = Vec::new();
    for document in yaml::documents(text, &mut expand) {
        let errors = report.errors();
        for complaint in document.complaints {
            if complaint.code == codes::TAG_IGNORED {
                report.warn(complaint.code, complaint.place, complaint.message);
            } else {
                report.error(complaint.code, complaint.place, complaint.message);
            }
        }
        let sound = report.errors() == errors;
        trees.extend(document.root.map(|root| Tree { root, sound }));
    }
    for (place, name) in unset {
        let message = format!("the environment variable {name} is not set, so this is empty");
        report.warn(codes::ENV_NOT_SET, place, message);
    }
    trees
}

/// Replaces `$NAME` and `${NAME}`; a dollar sign that no name follows stays.
fn expanded(text: &str, lookup: &mut dyn FnMut(&str) -> String) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, after) = (&rest[..dollar], &rest[dollar + 1..]);
        done.push_str(before);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let braced = after.strip_prefix('{').and_then(|inside| inside.split_once('}'));
        let (name, left) = match braced {
            Some((name, left)) if name.chars().all(is_name) => (name, left),
            _ => after.split_at(after.find(|c| !is_name(c)).unwrap_or(after.len())),
        };
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            done.push('$');
            rest = after;
        } else {
            done.push_str(&lookup(name));
            rest = left;
        }
    }
    done.push_str(rest);
    done
}

/// Line and column of the byte at `end`.
fn place_after(source: &[u8], end: usize) -> Place {
    let before = &source[..end.min(source.len())];
    let line_start = before.iter().rposition(|b| *b == b'\n').map_or(0, |newline| newline + 1);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).saturating_add(1);
    let characters = String::from_utf8_lossy(&before[line_start..]).chars().count();
    let newlines = before.iter().filter(|b| **b == b'\n').count();
    Place { line: count(newlines), column: count(characters) }
}

/// The files a path stands for.
fn files_in(path: &Path) -> Result<Vec<PathBuf>, Box<Issue>> {
    let unreadable = |error: &std::io::Error| unreadable(path, error);
    if !std::fs::metadata(path).map_err(|error| unreadable(&error))?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|error| unreadable(&error))? {
        let file = entry.map_err(|error| unreadable(&error))?.path();
        let extension = file.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let resource =
            ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known));
        // Follows links, because that is how folders of mounted configuration are made.
        if resource && std::fs::metadata(&file).is_ok_and(|meta| meta.is_file()) {
            files.push(file);
        }
    }
    if files.len() > FOLDER_FILES_MAX {
        let message = format!("the folder holds more than {FOLDER_FILES_MAX} resource files");
        let code = codes::FILE_TOO_LARGE;
        return Err(Box::new(Issue::error(code, Origin::file(path), message)));
    }
    files.sort();
    Ok(files)
}

/// A file's bytes; one byte more than the limit is enough to know that it is too large.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, Box<Issue>> {
    let mut source = Vec::new();
    let limit = u64::try_from(FILE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut source));
    read.map_err(|error| unreadable(path, &error))?;
    Ok(source)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Box<Issue> {
    let message = format!("{} cannot be read: {error}", path.display());
    Box::new(Issue::error(codes::FILE_UNREADABLE, Origin::file(path), message))
}

fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"))
}

fn mentions_api_version(source: &[u8]) -> bool {
    let word = b"apiversion";
    source.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::{expanded, place_after};
    use crate::yaml::Place;

    #[test]
    fn environment_in_text() {
        let expand = |text: &str| expanded(text, &mut |name| format!("<{name}>"));
        for (text, expected) in [
            ("a $B c", "a <B> c"),
            ("${B}C", "<B>C"),
            ("$B_1/$C", "<B_1>/<C>"),
            ("^/orders/.+$", "^/orders/.+$"),
            ("$1 $$ ${a-b} ${", "$1 $$ ${a-b} ${"),
            ("plain", "plain"),
        ] {
            assert_eq!(expand(text), expected);
        }
    }

    #[test]
    fn places_of_bytes() {
        assert_eq!(place_after(b"ab\nc\xff", 4), Place { line: 2, column: 2 });
        assert_eq!(place_after(b"\xff", 0), Place { line: 1, column: 1 });
    }
}
