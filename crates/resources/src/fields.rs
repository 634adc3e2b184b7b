//! Walking a mapping field by field: every question is remembered, so that what nobody asked for can be reported.
//!
//! A reader opens a mapping as [`Fields`], asks for the fields it knows and calls [`Fields::finish`]. Wrong types and
//! missing fields go to the [`Report`]; the reader goes on with `None`.

use crate::{
    codes::{self, Code},
    duration,
    issue::{Issue, Origin, Severity},
    typo,
    yaml::{Node, Place, Scalar, Value},
};
use std::{
    collections::BTreeMap, fmt::Display, ops::RangeInclusive, path::Path, sync::Arc, time::Duration,
};

/// Issues kept for one file; a file with more is wrong as a whole.
const ISSUES_MAX: usize = 200;

/// The issues of one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: Arc<Path>,
    issues: Vec<Issue>,
    errors: usize,
}

impl Report {
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.into(), issues: Vec::new(), errors: 0 }
    }

    /// The issues in the order in which a reader of the file meets them.
    pub(crate) fn into_issues(mut self) -> Vec<Issue> {
        self.issues.sort_by_key(|issue| (issue.origin.line, issue.origin.column));
        self.issues
    }

    /// How many errors there were so far, dropped ones included: a document read without adding to them is usable.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn origin(&self, place: Place) -> Origin {
        Origin { file: Arc::clone(&self.file), line: place.line, column: place.column }
    }

    pub(crate) fn push(&mut self, issue: Issue) {
        self.errors += usize::from(issue.severity == Severity::Error);
        if self.issues.len() < ISSUES_MAX {
            self.issues.push(issue);
        }
    }

    pub(crate) fn error(&mut self, code: &'static Code, place: Place, message: impl Into<String>) {
        self.push(Issue::new(Severity::Error, code, self.origin(place), message));
    }

    pub(crate) fn warn(&mut self, code: &'static Code, place: Place, message: impl Into<String>) {
        self.push(Issue::new(Severity::Warning, code, self.origin(place), message));
    }

    pub(crate) fn note(&mut self, code: &'static Code, place: Place, message: impl Into<String>) {
        self.push(Issue::new(Severity::Note, code, self.origin(place), message));
    }
}

/// A mapping being read.
pub(crate) struct Fields<'n> {
    node: &'n Node,
    /// How one gets here from the top, for messages: `spec.metadata[0]`.
    path: String,
    asked: Vec<&'static str>,
    used: Vec<bool>,
}

impl<'n> Fields<'n> {
    /// Opens a mapping. Anything else is reported; nothing at all counts as an empty mapping.
    pub(crate) fn open(report: &mut Report, node: &'n Node, path: String) -> Option<Self> {
        let used = match &node.value {
            Value::Map(entries) => vec![false; entries.len()],
            _ if node.is_null() => Vec::new(),
            _ => {
                wrong_type(report, node, &path, "a mapping");
                return None;
            }
        };
        Some(Self { node, path, asked: Vec::new(), used })
    }

    /// Where the mapping begins.
    pub(crate) fn place(&self) -> Place {
        self.node.place
    }

    /// How the mapping is called in messages.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// How `name` in this mapping is called in messages.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Where the value of `name` stands; the mapping's own place when it is absent.
    pub(crate) fn place_of(&self, name: &str) -> Place {
        self.index(name).map_or(self.node.place, |(_, node)| node.place)
    }

    /// The value of `name`; `None` when it is absent or null.
    pub(crate) fn get(&mut self, name: &'static str) -> Option<&'n Node> {
        self.asked.push(name);
        let (index, node) = self.index(name)?;
        self.used[index] = true;
        (!node.is_null()).then_some(node)
    }

    /// Whether `name` is written at all, be it as null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.index(name).is_some()
    }

    /// The reference matches field names without regard to case, so we do; an exact match goes first.
    fn index(&self, name: &str) -> Option<(usize, &'n Node)> {
        let Value::Map(entries) = &self.node.value else { return None };
        let exact = entries.iter().position(|entry| entry.key == name);
        let index =
            exact.or_else(|| entries.iter().position(|e| e.key.eq_ignore_ascii_case(name)))?;
        Some((index, &*entries[index].node))
    }

    fn scalar(
        &mut self,
        report: &mut Report,
        name: &'static str,
        wanted: &str,
    ) -> Option<(&'n Scalar, Place)> {
        let node = self.get(name)?;
        match &node.value {
            Value::Scalar(scalar) => Some((scalar, node.place)),
            _ => {
                wrong_type(report, node, &self.path_of(name), wanted);
                None
            }
        }
    }

    /// A text; numbers and switches count as their text, an empty text as absent.
    pub(crate) fn text(&mut self, report: &mut Report, name: &'static str) -> Option<&'n str> {
        let (scalar, _) = self.scalar(report, name, "a text")?;
        Some(scalar.text.as_str()).filter(|text| !text.is_empty())
    }

    /// As [`Self::text`], owned.
    pub(crate) fn string(&mut self, report: &mut Report, name: &'static str) -> Option<String> {
        self.text(report, name).map(str::to_owned)
    }

    /// A text that must be there. When it is not, that is reported and the answer is empty.
    pub(crate) fn required(&mut self, report: &mut Report, name: &'static str) -> String {
        let errors = report.errors();
        let text = self.string(report, name);
        if text.is_none() && report.errors() == errors {
            self.missing(report, name);
        }
        text.unwrap_or_default()
    }

    /// Reports that `name` is missing.
    pub(crate) fn missing(&self, report: &mut Report, name: &str) {
        let message = format!("{} is missing", self.path_of(name));
        report.error(codes::MISSING_FIELD, self.place_of(name), message);
    }

    /// A switch.
    pub(crate) fn switch(&mut self, report: &mut Report, name: &'static str) -> Option<bool> {
        let (scalar, place) = self.scalar(report, name, "true or false")?;
        let switch = scalar.as_switch();
        if switch.is_none() {
            let message =
                format!("{} needs true or false, not \"{}\"", self.path_of(name), scalar.text);
            report.error(codes::WRONG_TYPE, place, message);
        }
        switch
    }

    /// A whole number within `range`.
    pub(crate) fn integer<N>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        range: RangeInclusive<N>,
    ) -> Option<N>
    where
        N: TryFrom<i64> + PartialOrd + Display,
    {
        let (scalar, place) = self.scalar(report, name, "a whole number")?;
        let path = self.path_of(name);
        let Some(number) = scalar.as_integer() else {
            let message = format!("{path} needs a whole number, not \"{}\"", scalar.text);
            report.error(codes::WRONG_TYPE, place, message);
            return None;
        };
        let fitting = N::try_from(number).ok().filter(|n| range.contains(n));
        if fitting.is_none() {
            let (from, to) = (range.start(), range.end());
            let message = format!("{path} must be between {from} and {to}, not {number}");
            report.error(codes::BAD_VALUE, place, message);
        }
        fitting
    }

    /// A number.
    pub(crate) fn number(&mut self, report: &mut Report, name: &'static str) -> Option<f64> {
        let (scalar, place) = self.scalar(report, name, "a number")?;
        let number = scalar.as_number();
        if number.is_none() {
            let message = format!("{} needs a number, not \"{}\"", self.path_of(name), scalar.text);
            report.error(codes::WRONG_TYPE, place, message);
        }
        number
    }

    /// A duration; a bare number counts in `unit`, or is refused when there is none.
    pub(crate) fn duration(
        &mut self,
        report: &mut Report,
        name: &'static str,
        unit: Option<Duration>,
    ) -> Option<Duration> {
        let (scalar, place) = self.scalar(report, name, "a duration")?;
        read_duration(report, scalar, place, &self.path_of(name), unit)
    }

    /// All values of a mapping whose keys are names: durations, and mappings to be read further.
    pub(crate) fn durations_and_mappings(
        &mut self,
        report: &mut Report,
        unit: Option<Duration>,
    ) -> (BTreeMap<String, Duration>, Vec<(&'n str, Fields<'n>)>) {
        let (mut durations, mut mappings) = (BTreeMap::new(), Vec::new());
        let Value::Map(entries) = &self.node.value else { return (durations, mappings) };
        for entry in entries {
            let path = self.path_of(&entry.key);
            match &entry.node.value {
                Value::Scalar(scalar) => {
                    let place = entry.node.place;
                    if let Some(duration) = read_duration(report, scalar, place, &path, unit) {
                        durations.insert(entry.key.clone(), duration);
                    }
                }
                Value::Map(_) => {
                    let fields = Self::open(report, &entry.node, path);
                    mappings.extend(fields.map(|fields| (entry.key.as_str(), fields)));
                }
                Value::List(_) => wrong_type(report, &entry.node, &path, "a duration"),
            }
        }
        (durations, mappings)
    }

    /// The keys of a mapping below this one, with where each stands.
    pub(crate) fn places(&self, name: &str) -> Vec<(&'n str, Place)> {
        match self.index(name).map(|(_, node)| &node.value) {
            Some(Value::Map(entries)) => {
                entries.iter().map(|entry| (entry.key.as_str(), entry.key_place)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// One of a list of words, in any case.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        report: &mut Report,
        name: &'static str,
        choices: &[(&'static str, T)],
    ) -> Option<T> {
        let text = self.text(report, name)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let (path, words_told) = (self.path_of(name), alternatives(&words));
        let message = format!("{path} must be {words_told}, not \"{text}\"");
        let mut issue = Issue::error(codes::BAD_VALUE, report.origin(self.place_of(name)), message);
        if let Some(word) = typo::nearest(text, words) {
            issue = issue.remedy(format!("Did you mean {word}?"));
        }
        report.push(issue);
        None
    }

    /// A list of texts. A single text counts as a list of one.
    pub(crate) fn texts(&mut self, report: &mut Report, name: &'static str) -> Option<Vec<String>> {
        let node = self.get(name)?;
        let items = match &node.value {
            Value::Scalar(scalar) => return Some(vec![scalar.text.clone()]),
            Value::List(items) => items,
            Value::Map(_) => {
                wrong_type(report, node, &self.path_of(name), "a list");
                return None;
            }
        };
        let mut texts = Vec::new();
        for (i, item) in items.iter().enumerate() {
            match &item.value {
                Value::Scalar(scalar) => texts.push(scalar.text.clone()),
                _ => wrong_type(report, item, &format!("{}[{i}]", self.path_of(name)), "a text"),
            }
        }
        Some(texts)
    }

    /// A mapping of texts.
    pub(crate) fn text_map(
        &mut self,
        report: &mut Report,
        name: &'static str,
    ) -> Option<BTreeMap<String, String>> {
        let mut texts = BTreeMap::new();
        for (key, node, path) in self.entries(report, name)? {
            match &node.value {
                Value::Scalar(scalar) if scalar.is_null() => {
                    texts.insert(key.to_owned(), String::new());
                }
                Value::Scalar(scalar) => {
                    texts.insert(key.to_owned(), scalar.text.clone());
                }
                _ => wrong_type(report, node, &path, "a text"),
            }
        }
        Some(texts)
    }

    /// The keys and values of a mapping whose keys are not fields but names, with their paths.
    pub(crate) fn entries(
        &mut self,
        report: &mut Report,
        name: &'static str,
    ) -> Option<Vec<(&'n str, &'n Node, String)>> {
        let node = self.get(name)?;
        let Value::Map(entries) = &node.value else {
            wrong_type(report, node, &self.path_of(name), "a mapping");
            return None;
        };
        let path = self.path_of(name);
        let with_path = entries
            .iter()
            .map(|entry| (entry.key.as_str(), &*entry.node, format!("{path}.{}", entry.key)));
        Some(with_path.collect())
    }

    /// A mapping below this one.
    pub(crate) fn object(&mut self, report: &mut Report, name: &'static str) -> Option<Fields<'n>> {
        let node = self.get(name)?;
        Fields::open(report, node, self.path_of(name))
    }

    /// A list of mappings below this one.
    pub(crate) fn objects(
        &mut self,
        report: &mut Report,
        name: &'static str,
    ) -> Option<Vec<Fields<'n>>> {
        let node = self.get(name)?;
        let path = self.path_of(name);
        let Value::List(items) = &node.value else {
            wrong_type(report, node, &path, "a list");
            return None;
        };
        let open =
            |(i, item): (usize, &'n Arc<Node>)| Fields::open(report, item, format!("{path}[{i}]"));
        Some(items.iter().enumerate().filter_map(open).collect())
    }

    /// As [`Self::finish`], for a `spec`: says so when a field of the document's top level slipped into it.
    pub(crate) fn finish_spec(mut self, report: &mut Report) {
        for name in ["scopes", "auth"] {
            let Some((index, node)) = self.index(name) else { continue };
            self.used[index] = true;
            let message = format!("spec.{name} has no effect: {name} belongs beside spec");
            let origin = report.origin(node.place);
            let issue = Issue::new(Severity::Warning, codes::UNKNOWN_FIELD, origin, message);
            report.push(issue.remedy(format!("Move {name} to the top level of the document.")));
        }
        self.finish(report);
    }

    /// Reports the fields nobody asked for.
    pub(crate) fn finish(self, report: &mut Report) {
        let Value::Map(entries) = &self.node.value else { return };
        for (entry, _) in entries.iter().zip(&self.used).filter(|(_, used)| !**used) {
            let message = format!("{} is not known and has no effect", self.path_of(&entry.key));
            let origin = report.origin(entry.key_place);
            let mut issue = Issue::new(Severity::Warning, codes::UNKNOWN_FIELD, origin, message);
            if let Some(known) = typo::nearest(&entry.key, self.asked.iter().copied()) {
                issue = issue.remedy(format!("Did you mean {known}?"));
            }
            report.push(issue);
        }
    }
}

/// `a, b or c`.
fn alternatives(words: &[&str]) -> String {
    match words {
        [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
        _ => words.concat(),
    }
}

fn read_duration(
    report: &mut Report,
    scalar: &Scalar,
    place: Place,
    path: &str,
    unit: Option<Duration>,
) -> Option<Duration> {
    if scalar.text.is_empty() {
        return None;
    }
    let parsed = match unit {
        Some(unit) => duration::parse_or_count(&scalar.text, unit),
        None => duration::parse(&scalar.text),
    };
    parsed.map_err(|bad| report.error(codes::BAD_DURATION, place, format!("{path}: {bad}"))).ok()
}

fn wrong_type(report: &mut Report, node: &Node, path: &str, wanted: &str) {
    let path = if path.is_empty() { "the document" } else { path };
    let message = format!("{path} needs {wanted}, not {}", node.describe());
    report.error(codes::WRONG_TYPE, node.place, message);
}
