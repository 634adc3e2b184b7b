//! How a command fails: what, where, why, what to do, a stable code and an exit code.
//!
//! Every failure that a user can cause has a code `OUTR-nnnn` with a page in the binary (`outrigger explain`). Codes are
//! never reused for another meaning.

pub mod pages;

use std::{fmt, process::ExitCode};

/// Exit codes by the caller's next move; scripts rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// The operation failed.
    Failed,
    /// The command line or the settings are wrong.
    Usage,
    /// The thing named does not exist.
    NotFound,
    /// A condition did not hold: etag, exists already, held by another.
    Conflict,
    /// Not allowed.
    Forbidden,
    /// Nothing answers there.
    Unavailable,
    /// Out of time.
    Timeout,
    /// Some parts of a bulk operation failed.
    Partial,
    /// `doctor` found problems.
    Problems,
    /// A bug of ours.
    Internal,
    /// The store has stopped while it ran: a disk that failed or is full.
    StoreFailed,
    /// Ended by SIGINT.
    Interrupted,
    /// Ended by SIGTERM before it was ready to drain.
    Terminated,
    /// The code of the app that `run -- command` ran.
    App(u8),
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotFound => 3,
            Self::Conflict => 4,
            Self::Forbidden => 5,
            Self::Unavailable => 6,
            Self::Timeout => 7,
            Self::Partial => 8,
            Self::Problems => 10,
            Self::Internal => 70,
            Self::StoreFailed => 74,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::App(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// A failure as the user sees it. Boxed inside, so that results stay small.
#[derive(Debug)]
pub struct Failure(Box<Report>);

#[derive(Debug)]
struct Report {
    code: &'static str,
    exit: Exit,
    what: String,
    place: Option<String>,
    why: Vec<String>,
    help: Vec<String>,
}

impl Failure {
    /// What happened, with its stable code.
    #[must_use]
    pub fn new(code: &'static str, exit: Exit, what: impl Into<String>) -> Self {
        Self(Box::new(Report {
            code,
            exit,
            what: what.into(),
            place: None,
            why: Vec::new(),
            help: Vec::new(),
        }))
    }

    /// A bug of ours, met politely.
    #[must_use]
    pub fn internal(what: impl Into<String>) -> Self {
        Self::new("OUTR-0070", Exit::Internal, what)
    }

    /// Where: a file with line, a flag, a variable.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.0.place = Some(place.to_string());
        self
    }

    /// One more reason, outermost first.
    #[must_use]
    pub fn why(mut self, reason: impl fmt::Display) -> Self {
        self.0.why.push(reason.to_string());
        self
    }

    /// One more thing to do about it.
    #[must_use]
    pub fn help(mut self, advice: impl Into<String>) -> Self {
        self.0.help.push(advice.into());
        self
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// What the process should end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// What happened, in one sentence.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.0.what
    }

    /// The failure as an RFC 9457 object, for `-o json`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let Report { code, exit, what, place, why, help } = &*self.0;
        serde_json::json!({
            "type": format!("about:blank#{code}"),
            "title": what,
            "detail": why.join(": "),
            "instance": place,
            "code": code,
            "exitCode": exit.code(),
            "help": help,
        })
    }
}

impl fmt::Display for Failure {
    /// The report, over several lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { code, what, place, why, help, .. } = &*self.0;
        write!(f, "error[{code}]: {what}")?;
        if let Some(place) = place {
            write!(f, "\n  where: {place}")?;
        }
        for reason in why {
            write!(f, "\n  why:   {}", reason.replace('\n', "\n         "))?;
        }
        for advice in help {
            write!(f, "\n  help:  {}", advice.replace('\n', "\n         "))?;
        }
        write!(f, "\n  more:  outrigger explain {code}")
    }
}

impl std::error::Error for Failure {}

#[cfg(test)]
mod tests {
    use super::{Exit, Failure};

    #[test]
    fn a_report_reads_from_what_to_more() {
        let failure = Failure::new("OUTR-0004", Exit::Failed, "port 3500 is in use")
            .at("--dapr-http-port")
            .why("process 17 (python3) listens there")
            .help("choose another with --dapr-http-port");
        let expected = "error[OUTR-0004]: port 3500 is in use\n  where: --dapr-http-port\n  why:   process 17 \
                        (python3) listens there\n  help:  choose another with --dapr-http-port\n  more:  outrigger \
                        explain OUTR-0004";
        assert_eq!(failure.to_string(), expected);
    }
}
