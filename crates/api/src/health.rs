//! How well the runtime itself is, as its probes answer.

use tokio::sync::watch;

/// Two switches that the binary turns on as it starts and off as it stops.
#[derive(Debug)]
pub struct Health {
    /// Ready, and ready for outbound calls.
    state: watch::Sender<(bool, bool)>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: watch::Sender::new((false, false)) }
    }
}

impl Health {
    /// Whether everything is up, the app included: `healthz`.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.state.borrow().0
    }

    /// Whether the app's own calls can be served: `healthz/outbound`. Comes before [`Health::is_ready`], because apps
    /// wait for it before they are up themselves.
    #[must_use]
    pub fn is_outbound_ready(&self) -> bool {
        self.state.borrow().1
    }

    /// Says whether everything is up.
    pub fn set_ready(&self, ready: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.0, ready) != ready);
    }

    /// Says whether the app's own calls can be served.
    pub fn set_outbound_ready(&self, ready: bool) {
        self.state.send_if_modified(|state| std::mem::replace(&mut state.1, ready) != ready);
    }

    /// Both switches and every change of them.
    pub(crate) fn changes(&self) -> watch::Receiver<(bool, bool)> {
        self.state.subscribe()
    }
}
