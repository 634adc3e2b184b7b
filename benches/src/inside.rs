//! A store in a process of its own, which can be looked at from outside and killed: `inside large FOLDER` has the engine
//! open, `inside share FOLDER` shares the folder with whoever else does.
//!
//! Asked with a line, it answers with a line of JSON. It ends with its standard input.

pub(crate) mod large;
mod share;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    str::FromStr,
};

/// The process's side.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    match arguments {
        [kind, folder] if kind == "large" => large::serve(Path::new(folder)),
        [kind, folder] if kind == "share" => share::serve(Path::new(folder)),
        _ => bail!("usage: inside large|share FOLDER"),
    }
}

/// Reads lines and answers each, until there are no more.
fn answer_lines(mut answer: impl FnMut(&[&str]) -> Result<Value>) -> Result<()> {
    for line in std::io::stdin().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        say(&answer(&words)?)?;
    }
    Ok(())
}

fn say(value: &Value) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}

fn number<T: FromStr>(words: &[&str], at: usize) -> Result<T> {
    words.get(at).and_then(|word| word.parse().ok()).context("a number is missing")
}

/// The side of whoever asks.
pub(crate) struct Inside {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    /// What it said first.
    pub(crate) first: Value,
}

impl Inside {
    /// Starts it, and waits until it has its store and has read something.
    pub(crate) fn start(kind: &str, folder: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["inside", kind])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut inside = Self {
            child,
            input: input.context("no input")?,
            output: BufReader::new(output.context("no output")?),
            first: Value::Null,
        };
        inside.first = inside.hear()?;
        Ok(inside)
    }

    pub(crate) fn ask(&mut self, line: &str) -> Result<Value> {
        self.tell(line)?;
        self.hear().with_context(|| format!("asked to {line}"))
    }

    /// Asks, and leaves the answer for later.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        Ok(writeln!(self.input, "{line}")?)
    }

    pub(crate) fn hear(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.output.read_line(&mut line)? == 0 {
            bail!("it ended: {:?}", self.child.wait()?);
        }
        serde_json::from_str(&line).with_context(|| format!("it said {line}"))
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits until it is gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        // Gone already, or killed by this.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A number in an answer.
pub(crate) fn figure(answer: &Value, name: &str) -> Result<f64> {
    answer[name].as_f64().with_context(|| format!("no {name} in {answer}"))
}
