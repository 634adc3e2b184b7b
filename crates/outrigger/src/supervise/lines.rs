//! What an app prints: line by line to the terminal with its name before it, and to a file where one is asked for.

use outrigger_kernel::World;
use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader},
    sync::Notify,
};

/// A line longer than this is broken: an app that never ends its line must not grow our memory.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What stands before a line on the terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// `orders    | line`, the name padded to a width.
    Column {
        /// Width of the longest name.
        width: usize,
        /// Colour code, where colours are wanted.
        colour: Option<u8>,
    },
    /// `== APP == line`: what tools that drive the reference's CLI look for.
    Banner,
    /// `== APP - orders == line`: the same with several apps.
    NamedBanner,
}

/// Where lines go.
#[derive(Debug, Default)]
pub struct Destination {
    /// To the terminal.
    pub console: bool,
    /// To this file, without a prefix.
    pub file: Option<File>,
}

/// The sink of one app's lines.
#[derive(Debug)]
pub struct LineSink {
    name: String,
    prefix: Prefix,
    console: bool,
    file: Option<Mutex<File>>,
    open: AtomicUsize,
    closed: Notify,
}

#[derive(Clone, Copy)]
enum Stream {
    Out,
    Err,
}

impl LineSink {
    /// A sink for the app `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, prefix: Prefix, destination: Destination) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            prefix,
            console: destination.console,
            file: destination.file.map(Mutex::new),
            open: AtomicUsize::new(0),
            closed: Notify::new(),
        })
    }

    /// The app's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Opens a log file for appending, with its folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn open_file(path: &Path) -> io::Result<File> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        File::options().create(true).append(true).open(path)
    }

    /// Reads both streams to their ends in the background.
    pub(super) fn pump(
        self: &Arc<Self>,
        world: &dyn World,
        out: Option<impl AsyncRead + Send + Unpin + 'static>,
        err: Option<impl AsyncRead + Send + Unpin + 'static>,
    ) {
        if let Some(out) = out {
            self.pump_one(world, out, Stream::Out);
        }
        if let Some(err) = err {
            self.pump_one(world, err, Stream::Err);
        }
    }

    fn pump_one(
        self: &Arc<Self>,
        world: &dyn World,
        from: impl AsyncRead + Send + Unpin + 'static,
        stream: Stream,
    ) {
        let sink = Arc::clone(self);
        sink.open.fetch_add(1, Ordering::AcqRel);
        let task = async move {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            loop {
                line.clear();
                match (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
                    Ok(0) | Err(_) => break,
                    Ok(_) => sink.write(&line, stream),
                }
            }
            sink.open.fetch_sub(1, Ordering::AcqRel);
            sink.closed.notify_waiters();
        };
        drop(world.spawn("app output", Box::pin(task)));
    }

    /// Waits until both streams have ended, at most `patience`: a grandchild may hold them open for ever.
    pub(super) async fn drained(&self, world: &dyn World, patience: Duration) {
        let mut timer = world.sleep(patience);
        loop {
            let closed = self.closed.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            tokio::select! {
                () = closed => {}
                () = &mut timer => return,
            }
        }
    }

    fn write(&self, line: &[u8], stream: Stream) {
        let text = String::from_utf8_lossy(line);
        let text = text.trim_end_matches(['\n', '\r']);
        // A closed terminal or a full disk must not stop the app: its lines are then lost, as they would be in a pipe.
        if self.console {
            let shown = self.shown(text);
            drop(match stream {
                Stream::Out => io::stdout().lock().write_all(shown.as_bytes()),
                Stream::Err => io::stderr().lock().write_all(shown.as_bytes()),
            });
        }
        if let Some(file) = &self.file {
            let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
            drop(writeln!(file, "{text}"));
        }
    }

    fn shown(&self, text: &str) -> String {
        match &self.prefix {
            Prefix::Banner => format!("== APP == {text}\n"),
            Prefix::NamedBanner => format!("== APP - {} == {text}\n", self.name),
            Prefix::Column { width, colour: None } => format!("  {:<width$} | {text}\n", self.name),
            Prefix::Column { width, colour: Some(colour) } => {
                format!("  \u{1b}[{colour}m{:<width$} |\u{1b}[0m {text}\n", self.name)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Destination, LINE_BYTES_MAX, LineSink, Prefix};
    use crate::world::RealWorld;
    use std::time::Duration;

    async fn written(input: Vec<u8>) -> String {
        let folder = crate::testing::folder();
        let path = folder.path().join("logs/app.log");
        let file = LineSink::open_file(&path).unwrap();
        let destination = Destination { console: false, file: Some(file) };
        let sink = LineSink::new("app", Prefix::Banner, destination);
        let world = RealWorld::new();
        sink.pump(&*world, Some(std::io::Cursor::new(input)), None::<std::io::Cursor<Vec<u8>>>);
        sink.drained(&*world, Duration::from_secs(10)).await;
        std::fs::read_to_string(path).unwrap()
    }

    #[tokio::test]
    async fn every_line_arrives_even_the_last_without_an_end() {
        assert_eq!(written(b"one\r\ntwo\nthree".to_vec()).await, "one\ntwo\nthree\n");
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_and_lines_without_end_are_survived() {
        let long = usize::try_from(LINE_BYTES_MAX).unwrap() * 2 + 10;
        let mut input = vec![b'x'; long];
        input.extend_from_slice(b"\n\xff\n");
        let out = written(input).await;
        assert_eq!(out.lines().count(), 4, "two full pieces, the rest, and one line of nonsense");
        assert!(out.ends_with("\u{fffd}\n"));
    }

    #[test]
    fn prefixes() {
        let shown = |prefix| LineSink::new("app", prefix, Destination::default()).shown("hi");
        assert_eq!(shown(Prefix::Banner), "== APP == hi\n");
        assert_eq!(shown(Prefix::NamedBanner), "== APP - app == hi\n");
        assert_eq!(shown(Prefix::Column { width: 6, colour: None }), "  app    | hi\n");
    }
}
