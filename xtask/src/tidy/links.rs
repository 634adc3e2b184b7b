//! Links between the pages of this tree: a page that moved leaves none behind that lead nowhere.

use super::Source;
use std::path::{Component, Path, PathBuf};

pub(super) fn broken(sources: &[Source]) -> Vec<String> {
    let pages = sources.iter().filter(|source| source.path.extension().is_some_and(|e| e == "md"));
    let mut findings = Vec::new();
    for page in pages {
        let home = page.path.parent().unwrap_or(Path::new(""));
        for target in targets(&page.text) {
            if !normal(&home.join(target)).exists() {
                findings.push(format!("{}: the link to {target} leads nowhere", page.shown()));
            }
        }
    }
    findings
}

/// What `[text](target)` points at inside the tree, without the fragment.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    links
        .map(|link| link.split('#').next().unwrap_or_default())
        .filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"))
        .filter(|link| !link.contains(char::is_whitespace))
}

/// The path without `.` and `..`, which may lead through folders that do not exist.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    if out.as_os_str().is_empty() { PathBuf::from(".") } else { out }
}

#[cfg(test)]
mod tests {
    use super::{normal, targets};
    use std::path::Path;

    #[test]
    fn finds_links_inside_the_tree() {
        let text = "[a](b.md#c) [d](https://e.f) [g](#h) `[i](j k)` [l](../m)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["b.md", "../m"]);
    }

    #[test]
    fn goes_up_by_name() {
        assert_eq!(normal(Path::new("docs/./guides/../start.md")), Path::new("docs/start.md"));
    }
}
