//! Showing an issue to a person: where, what, the line it stands in with a caret, and what to do.

use crate::issue::{Issue, Severity};

/// Characters of a line that are shown.
const WIDTH: usize = 120;

/// Shows an issue as a compiler would. `source` is the text of the file it stands in; without it, or when the file has
/// changed since, the line is left out.
#[must_use]
pub fn render(issue: &Issue, source: &str) -> String {
    let severity = match issue.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let mut text = format!("{severity}[{}]: {}\n", issue.code, issue.message);
    text.push_str(&format!("  --> {}\n", issue.origin));
    if let Some((line, column, length)) = excerpt(issue, source) {
        let number = issue.origin.line.to_string();
        let margin = " ".repeat(number.len());
        let caret = format!("{}{}", " ".repeat(column), "^".repeat(length));
        text.push_str(&format!(" {margin} |\n {number} | {line}\n {margin} | {caret}\n"));
    }
    if !issue.remedy.is_empty() {
        text.push_str(&format!("  help: {}\n", issue.remedy));
    }
    text
}

/// The line, where in it the caret stands, and how long it is.
fn excerpt(issue: &Issue, source: &str) -> Option<(String, usize, usize)> {
    let index = usize::try_from(issue.origin.line.checked_sub(1)?).ok()?;
    let column = usize::try_from(issue.origin.column.saturating_sub(1)).ok()?;
    let line: Vec<char> = source.lines().nth(index)?.chars().collect();
    let column = column.min(line.len());
    // Of an endless line, the part around the caret.
    let start = if column < WIDTH { 0 } else { column - WIDTH / 2 };
    let shown = &line[start..line.len().min(start + WIDTH)];
    let column = column - start;
    let word = shown.iter().skip(column).take_while(|c| !c.is_whitespace() && **c != ':').count();
    // Control characters would move the cursor, or worse; each becomes one blank, so that the caret stays right.
    let shown = shown.iter().map(|c| if c.is_control() { ' ' } else { *c }).collect::<String>();
    Some((shown.trim_end().to_owned(), column, word.max(1)))
}

#[cfg(test)]
mod tests {
    use super::render;
    use crate::load::parse;
    use std::path::Path;

    #[test]
    fn a_line_and_a_caret() {
        let source = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata:\n  name: store\n\
                      spec:\n  type: state.redis\n  verison: v1\n";
        let (resources, issues) = parse(Path::new("dir/store.yaml"), source.as_bytes());
        assert_eq!((resources.len(), issues.len()), (1, 1));
        assert_eq!(
            render(&issues[0], source),
            "warning[OUTR-0113]: spec.verison is not known and has no effect\n\
             \x20 --> dir/store.yaml:7:3\n\
             \x20  |\n 7 |   verison: v1\n   |   ^^^^^^^\n\
             \x20 help: Did you mean version?\n"
        );
    }

    #[test]
    fn without_the_source_the_rest_is_shown() {
        let (_, issues) = parse(Path::new("x.yaml"), b"a: [");
        assert!(!render(&issues[0], "").contains('^'));
        let long = format!("a: {}\x1b[31m", "x".repeat(500));
        let (_, issues) = parse(Path::new("x.yaml"), long.as_bytes());
        let shown = render(&issues[0], &long);
        assert!(!shown.contains('\x1b') && shown.lines().all(|line| line.len() < 200), "{shown}");
    }
}
