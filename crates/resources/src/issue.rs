//! What is wrong with a file, where, and what to do about it.
//!
//! Reading never stops at the first mistake: every reader takes what it can and reports the rest as [`Issue`]s, so that
//! one run shows everything there is to mend. An issue of [`Severity::Error`] means that the document it stands in was
//! dropped; anything milder means that the document is in use.

use crate::codes::Code;
use std::{fmt, path::Path, sync::Arc};

/// How bad an [`Issue`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing is lost.
    Note,
    /// Something written in the file has no effect, or not the one its author may expect.
    Warning,
    /// The document cannot be used.
    Error,
}

/// A place in a file. Lines and columns count from 1; line 0 means the file as a whole.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The file as it was named to the loader.
    pub file: Arc<Path>,
    /// Line, from 1; 0 for the whole file.
    pub line: u32,
    /// Column in characters, from 1; 0 for the whole file.
    pub column: u32,
}

impl Origin {
    /// The file as a whole.
    #[must_use]
    pub fn file(file: &Path) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// One thing wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How bad it is.
    pub severity: Severity,
    /// Stable code, `OUTR-nnnn`; [`crate::codes::find`] explains it.
    pub code: &'static str,
    /// Where.
    pub origin: Origin,
    /// What is wrong, naming the thing that is.
    pub message: String,
    /// What to do about it.
    pub remedy: String,
}

impl Issue {
    /// An issue that carries the remedy of its code.
    pub(crate) fn new(
        severity: Severity,
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
    ) -> Self {
        let (code, remedy) = (code.id, code.remedy.into());
        Self { severity, code, origin, message: presentable(message.into()), remedy }
    }

    /// An issue that drops its document.
    pub(crate) fn error(code: &'static Code, origin: Origin, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, origin, message)
    }

    /// The same issue with a remedy that fits the case better than the code's general one.
    #[must_use]
    pub(crate) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = remedy.into();
        self
    }
}

/// Messages quote what a file says, and a file can say anything: control characters that would move the cursor become
/// blanks, and a quotation without end is cut.
fn presentable(message: String) -> String {
    const CHARACTERS_MAX: usize = 400;
    if message.len() <= CHARACTERS_MAX && !message.contains(char::is_control) {
        return message;
    }
    let clean = message.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = clean.take(CHARACTERS_MAX).collect();
    if short.len() < message.len() {
        short.push_str("...");
    }
    short
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity} {}: {}", self.origin, self.code, self.message)
    }
}

impl std::error::Error for Issue {}
