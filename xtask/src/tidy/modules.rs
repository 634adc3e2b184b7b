//! Files that nobody includes: a test file without its `mod` line passes by never running.

use super::Source;
use std::path::{Path, PathBuf};

pub(super) fn forgotten(sources: &[Source]) -> Vec<String> {
    let manifests: Vec<&Source> =
        sources.iter().filter(|source| source.path.ends_with("Cargo.toml")).collect();
    let mut findings = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust()) {
        if is_root(&source.path, &manifests) {
            continue;
        }
        let (name, above, parents) = declared_by(&source.path);
        // Every file cargo starts from may have modules beside it.
        let is_parent = |candidate: &Path| {
            parents.iter().any(|parent| parent == candidate)
                || candidate.parent() == Some(&above) && is_root(candidate, &manifests)
        };
        let declared = sources
            .iter()
            .filter(|candidate| is_parent(&candidate.path))
            .any(|parent| declares(&parent.text, &name));
        if !declared {
            findings.push(format!(
                "{}: no `mod {name};` includes this file, so it is never compiled",
                source.shown()
            ));
        }
    }
    findings
}

/// Files that cargo itself starts from.
fn is_root(path: &Path, manifests: &[&Source]) -> bool {
    let name = path.file_name().unwrap_or_default();
    if name == "lib.rs" || name == "main.rs" || name == "build.rs" {
        return true;
    }
    let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
    let package = path.parent().and_then(Path::parent).map(|package| package.join("Cargo.toml"));
    let of_package = manifests.iter().any(|manifest| Some(&manifest.path) == package.as_ref());
    if folder == "bin" || (of_package && (folder == "examples" || folder == "tests")) {
        return true;
    }
    manifests.iter().any(|manifest| {
        let home = manifest.path.parent().unwrap_or(Path::new(""));
        let below = path.strip_prefix(home).ok().and_then(Path::to_str);
        below.is_some_and(|below| manifest.text.contains(&format!("path = \"{below}\"")))
    })
}

/// The module's name, the folder it is declared in, and the files one of which must declare it, unless cargo starts from
/// another one there.
fn declared_by(path: &Path) -> (String, PathBuf, Vec<PathBuf>) {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let (name, above) = if stem == "mod" {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, folder.parent().unwrap_or(Path::new("")).to_path_buf())
    } else {
        (stem, folder)
    };
    let mut parents = vec![above.join("mod.rs"), above.join("lib.rs"), above.join("main.rs")];
    parents.push(above.with_extension("rs"));
    (name, above, parents)
}

fn declares(text: &str, name: &str) -> bool {
    let (plain, with_body) = (format!("mod {name};"), format!("mod {name} {{"));
    text.lines().map(str::trim).any(|line| {
        !line.starts_with("//") && (line.ends_with(&plain) || line.ends_with(&with_body))
    })
}

#[cfg(test)]
mod tests {
    use super::{Source, forgotten};

    #[test]
    fn finds_the_file_that_nobody_includes() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let tree = [
            source("a/src/lib.rs", "mod used;\nmod folder;\n// mod commented;\n"),
            source("a/src/used.rs", ""),
            source("a/src/folder/mod.rs", "pub(crate) mod inner;"),
            source("a/src/folder/inner.rs", ""),
            source("a/src/commented.rs", ""),
            source("a/src/bin/tool.rs", ""),
            source("a/tests/crash.rs", ""),
            source("a/Cargo.toml", ""),
        ];
        let findings = forgotten(&tree);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].contains("commented"));
    }
}
