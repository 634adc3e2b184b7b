//! Signals: end, end at once, reload.

use crate::failure::{Exit, Failure};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// SIGINT: end.
    Interrupt,
    /// SIGTERM: end.
    Terminate,
    /// SIGHUP: read everything again.
    Reload,
}

impl Asked {
    /// The exit code of a process that this signal ended before it had anything to drain.
    pub(crate) fn exit(self) -> Exit {
        if self == Self::Terminate { Exit::Terminated } else { Exit::Interrupted }
    }
}

/// The signals of this process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Never asked. With somebody to receive it, going over a limit on file sizes is an error of the write, which the
    /// store knows how to end with, instead of the sudden end of the process.
    _too_large: Signal,
}

impl Signals {
    pub(crate) fn install() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::internal("signals cannot be received").why(error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
            _too_large: listen(SignalKind::from_raw(nix::sys::signal::Signal::SIGXFSZ as i32))?,
        })
    }

    /// The next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    /// The next request to end; requests to reload are passed over. Cancel-safe.
    pub(crate) async fn end(&mut self) -> Asked {
        loop {
            let asked = self.next().await;
            if asked != Asked::Reload {
                return asked;
            }
        }
    }
}
