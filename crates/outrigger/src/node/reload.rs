//! Hot reload: a changed resource file is in force a moment later, without a port closing or a call failing.
//!
//! File events only say *when* to look; what changed is found by reading everything again and comparing. So a missed
//! event costs at most one comparison interval, and an editor that writes a file in five steps costs one reload.
//! A folder with an error in it keeps the old resources in force, all of them: half a change is worse than none.

use super::{Node, Notice, Side, components, side, sources::Loaded};
use crate::failure::Failure;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use outrigger_resources::{Body, Configuration, Resource};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::sync::Notify;

/// How long to wait after an event for the rest of the change.
const SETTLE: Duration = Duration::from_millis(100);

/// Asks for a reload.
#[derive(Debug, Default)]
pub(super) struct Trigger(Arc<Notify>);

impl Trigger {
    pub(super) fn now(&self) {
        self.0.notify_one();
    }
}

/// What was in force after the last look, to compare with.
struct Known {
    side: Arc<Side>,
    loaded: Arc<Loaded>,
    configuration: Configuration,
    /// What was wrong the last time, so that it is told once.
    complaint: Option<String>,
}

/// Watches the resource files of all apps that `node` has now.
pub(super) fn start(node: &Arc<Node>) {
    let mut known: Vec<Known> = node.sides().iter().map(|side| look(node, side)).collect();
    let trigger = Arc::clone(&node.reload.0);
    let follow = node.settings.reload;
    let watcher = follow.then(|| watch(&known, &trigger)).flatten();
    let world = Arc::clone(&node.world);
    let interval = node.settings.reload_interval;
    let watched = Arc::downgrade(node);
    let task = async move {
        let _watcher = watcher;
        loop {
            tokio::select! {
                () = trigger.notified() => world.sleep(SETTLE).await,
                () = world.sleep(interval), if follow => {}
            }
            let Some(node) = watched.upgrade() else { return };
            refresh_all(&node, &mut known).await;
        }
    };
    drop(node.world.spawn("resource reload", Box::pin(task)));
}

fn look(node: &Node, side: &Arc<Side>) -> Known {
    Known {
        side: Arc::clone(side),
        loaded: node.shelf.read(&side.settings().resources),
        configuration: side::configuration(node, side.settings()).unwrap_or_default(),
        complaint: None,
    }
}

/// File events of every folder that something is read from. Without them (no inotify, no watches left) the interval
/// alone decides when to look.
fn watch(known: &[Known], trigger: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let mut folders = BTreeSet::new();
    for known in known {
        let settings = known.side.settings();
        for path in settings.resources.iter().chain(&settings.configuration) {
            // An editor replaces a file by renaming another over it, so the folder is what has to be watched.
            let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            let folder = folder.map(|folder| {
                if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.into() }
            });
            folders.extend(folder);
        }
    }
    if folders.is_empty() {
        return None;
    }
    let trigger = Arc::clone(trigger);
    let on_event = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            trigger.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(on_event)
        .inspect_err(|error| tracing::debug!(%error, "files are compared, not watched"))
        .ok()?;
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::debug!(%error, folder = %folder.display(), "a folder is compared, not watched");
        }
    }
    Some(watcher)
}

async fn refresh_all(node: &Node, known: &mut [Known]) {
    node.shelf.empty();
    // Apps that share a folder would each tell the same story.
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for known in known {
        let line = match refresh(node, known).await {
            Ok(None) => continue,
            Ok(Some(changes)) => format!("resources reloaded: {changes}"),
            Err(failure) => {
                let complaint = failure.to_string();
                if known.complaint.as_ref() == Some(&complaint) {
                    continue;
                }
                known.complaint = Some(complaint.clone());
                format!("resources not reloaded, the old ones stay in force:\n{complaint}")
            }
        };
        told.entry(line).or_default().push(known.side.app_id().to_owned());
    }
    let several = node.sides().len() > 1;
    for (line, apps) in told {
        let text = if several { format!("{}: {line}", apps.join(", ")) } else { line };
        Notice::plain(text).tell();
    }
    node.merge_endpoints();
    if let Err(failure) = node.resolve_names() {
        Notice::plain(format!(
            "name resolution not reloaded, the old one stays in force:\n{failure}"
        ))
        .tell();
    }
    for notice in node.take_notices() {
        notice.tell();
    }
}

/// Brings one app up to date; answers what changed, if anything did.
async fn refresh(node: &Node, known: &mut Known) -> Result<Option<String>, Failure> {
    let settings = known.side.settings();
    let loaded = node.shelf.read(&settings.resources);
    loaded.check()?;
    let configuration = side::configuration(node, settings)?;
    let mut changes = difference(&known.loaded.resources, &loaded.resources);
    if configuration != known.configuration {
        changes.push("configuration changed".to_owned());
    }
    if changes.is_empty() {
        known.complaint = None;
        return Ok(None);
    }
    let built = components::build(&side::workshop(node), settings, &configuration, &loaded)?;
    node.notice(built.notices.iter().cloned().map(Notice::plain));
    node.notice(side::warnings(&loaded));
    known.side.refresh(built, configuration.clone(), &loaded).await;
    known.loaded = loaded;
    known.configuration = configuration;
    known.complaint = None;
    Ok(Some(changes.join(", ")))
}

/// What is new, gone or different, by kind and name.
fn difference(old: &[Resource], new: &[Resource]) -> Vec<String> {
    let named = |resources: &[Resource]| -> BTreeMap<(&'static str, String), Vec<Body>> {
        let mut all: BTreeMap<_, Vec<Body>> = BTreeMap::new();
        for resource in resources {
            all.entry((kind(&resource.body), resource.head().name.clone()))
                .or_default()
                .push(resource.body.clone());
        }
        all
    };
    let (old, new) = (named(old), named(new));
    let mut changes = Vec::new();
    for (key, bodies) in &new {
        match old.get(key) {
            None => changes.push(format!("{} {} added", key.0, key.1)),
            Some(before) if before != bodies => {
                changes.push(format!("{} {} changed", key.0, key.1))
            }
            Some(_) => {}
        }
    }
    changes.extend(
        old.keys()
            .filter(|key| !new.contains_key(*key))
            .map(|key| format!("{} {} removed", key.0, key.1)),
    );
    changes
}

fn kind(body: &Body) -> &'static str {
    match body {
        Body::Component(_) => "component",
        Body::Configuration(_) => "configuration",
        Body::Subscription(_) => "subscription",
        Body::Resiliency(_) => "resiliency",
        Body::HttpEndpoint(_) => "HTTP endpoint",
        Body::Other(_) => "resource",
    }
}

#[cfg(test)]
mod tests {
    use super::difference;
    use std::path::Path;

    fn read(text: &str) -> Vec<outrigger_resources::Resource> {
        let (found, issues) = outrigger_resources::parse(Path::new("f.yaml"), text.as_bytes());
        assert!(issues.is_empty(), "{issues:?}");
        found
    }

    fn component(name: &str, kind: &str) -> String {
        format!(
            "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {{name: {name}}}\nspec:\n  type: {kind}\n  version: v1\n---\n"
        )
    }

    #[test]
    fn differences_by_kind_and_name() {
        let old = read(&(component("a", "state.in-memory") + &component("b", "state.in-memory")));
        let new = read(&(component("a", "state.sqlite") + &component("c", "state.in-memory")));
        assert_eq!(
            difference(&old, &new),
            ["component a changed", "component c added", "component b removed"]
        );
        assert!(difference(&new, &new).is_empty());
    }
}
