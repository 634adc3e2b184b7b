//! What the demo shows: a few lines redrawn in place on a terminal, one line a second anywhere else.

use super::{DemoArgs, load::Figures};
use outrigger_kernel::World;
use std::{
    collections::VecDeque,
    io::{IsTerminal, Write},
    path::Path,
    time::Duration,
};
use tokio::io::AsyncReadExt;

/// How many events stay on the screen.
const NOTES_MAX: usize = 6;
/// Lines of the frame without the notes.
const FRAME_LINES: usize = 7;

/// What was asked for at the keyboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// `k`: kill one service.
    KillService,
    /// `r`: kill the runtime and start it again.
    KillRuntime,
    /// `q`: stop sending and audit.
    Quit,
}

/// The screen and the keyboard.
pub(super) struct Screen {
    terminal: bool,
    title: String,
    notes: VecDeque<String>,
    drawn_lines: usize,
    plain_ticks: u32,
    saved: Option<nix::sys::termios::Termios>,
    input: Option<tokio::io::Stdin>,
}

impl Screen {
    /// Takes the terminal, if there is one.
    pub(super) fn new(args: &DemoArgs, folder: &Path) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let title = format!(
            "Outrigger demo: {} orders/s for {} s{}, data in {}",
            args.rate,
            args.seconds,
            if args.chaos { ", under chaos" } else { "" },
            folder.display()
        );
        let saved = (terminal && std::io::stdin().is_terminal()).then(unbuffered_keys).flatten();
        let input = saved.is_some().then(tokio::io::stdin);
        if !terminal {
            eprintln!("{title}");
        }
        Self {
            terminal,
            title,
            notes: VecDeque::new(),
            drawn_lines: 0,
            plain_ticks: 0,
            saved,
            input,
        }
    }

    /// Adds an event to what is shown.
    pub(super) fn note(&mut self, event: &str) {
        if !self.terminal {
            eprintln!("  * {event}");
            return;
        }
        if self.notes.len() >= NOTES_MAX {
            self.notes.pop_front();
        }
        self.notes.push_back(event.to_owned());
    }

    /// Shows the figures; `left` is how long orders will still be sent.
    pub(super) fn show(&mut self, figures: &Figures, left: Duration) {
        if !self.terminal {
            // Called four or five times a second; a log wants one line.
            if self.plain_ticks.is_multiple_of(4) {
                eprintln!("{}", plain_line(figures));
            }
            self.plain_ticks += 1;
            return;
        }
        let mut frame = String::new();
        if self.drawn_lines > 0 {
            frame.push_str(&format!("\x1b[{}A\x1b[J", self.drawn_lines));
        }
        frame.push_str(&self.frame(figures, left));
        self.drawn_lines = FRAME_LINES + self.notes.len();
        let mut out = std::io::stderr().lock();
        // A terminal that went away is no reason to end the audit early.
        drop(out.write_all(frame.as_bytes()).and_then(|()| out.flush()));
    }

    fn frame(&self, figures: &Figures, left: Duration) -> String {
        let share = figures.shipped * 30 / figures.sent.max(1);
        let bar = format!("{}{}", "#".repeat(share), ".".repeat(30 - share));
        let (accept_50, accept_99) = percentiles(&figures.accept_ms);
        let (ship_50, ship_99) = percentiles(&figures.ship_ms);
        let mut text = format!(
            "{}\n\n  sent {:>6}   accepted {:>6}   shipped {:>6}   [{bar}]\n  \
             accepted within   p50 {accept_50:>5} ms   p99 {accept_99:>5} ms   repeated {}\n  \
             shipped within    p50 {ship_50:>5} ms   p99 {ship_99:>5} ms   skipped {}\n  \
             {} s left   k kills a service, r kills the runtime, q ends\n\n",
            self.title,
            figures.sent,
            figures.accepted,
            figures.shipped,
            figures.repeated,
            figures.skipped,
            left.as_secs(),
        );
        for note in &self.notes {
            text.push_str(&format!("  * {note}\n"));
        }
        text
    }

    /// Waits `pause`, or until a key that means something is pressed.
    pub(super) async fn key_within(&mut self, world: &dyn World, pause: Duration) -> Option<Key> {
        let Some(input) = self.input.as_mut() else {
            world.sleep(pause).await;
            return None;
        };
        let mut pressed = [0_u8; 1];
        tokio::select! {
            biased;
            read = input.read(&mut pressed) => match (read, pressed[0]) {
                (Ok(1), b'k') => Some(Key::KillService),
                (Ok(1), b'r') => Some(Key::KillRuntime),
                (Ok(1), b'q' | 3) => Some(Key::Quit),
                (Ok(1), _) => None,
                _ => {
                    self.input = None;
                    None
                }
            },
            () = world.sleep(pause) => None,
        }
    }

    /// Gives the terminal back.
    pub(super) fn end(&mut self) {
        if let Some(saved) = self.saved.take() {
            let when = nix::sys::termios::SetArg::TCSANOW;
            let _ = nix::sys::termios::tcsetattr(std::io::stdin(), when, &saved);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.end();
    }
}

/// Lets single keys through without Enter and without echo; `None` when the terminal cannot.
fn unbuffered_keys() -> Option<nix::sys::termios::Termios> {
    use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};
    let saved = tcgetattr(std::io::stdin()).ok()?;
    let mut raw = saved.clone();
    raw.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
    tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).ok()?;
    Some(saved)
}

fn plain_line(figures: &Figures) -> String {
    let (accept_50, accept_99) = percentiles(&figures.accept_ms);
    let (ship_50, ship_99) = percentiles(&figures.ship_ms);
    format!(
        "sent {} accepted {} shipped {} repeated {} | accept p50 {accept_50} p99 {accept_99} ms | \
         ship p50 {ship_50} p99 {ship_99} ms",
        figures.sent, figures.accepted, figures.shipped, figures.repeated
    )
}

fn percentiles(measurements: &[u64]) -> (u64, u64) {
    let mut sorted = measurements.to_vec();
    sorted.sort_unstable();
    let at = |share: usize| sorted.get((sorted.len() * share / 100).min(sorted.len().max(1) - 1));
    (at(50).copied().unwrap_or(0), at(99).copied().unwrap_or(0))
}
