//! Rate limits that the processes of a key space share.
//!
//! ```text
//!   process A: ShareHolder <-- decides each call, asks nobody
//!                 | every half second: what was asked for    ^ share of the limit, for one second
//!                 v                                          |
//!   key space: one small row per limit (the ledger), changed by one transaction for all limits of a process
//! ```
//!
//! A limit has a name, and whoever uses the name shares it. The machine, its bounds and their proof are
//! [`outrigger_resilience::ShareLedger`]'s; here is what keeps its rows and asks in time.
//!
//! **The error bound.** In any time `w`, all processes together admit at most `rate * w + burst`, and one call more for
//! each process, as long as each of their renewals is answered within the half lease that is left of the old one. A share
//! that was taken away without its holder hearing of it (the answer was lost) counts twice for half a second at most. A process
//! that dies gives its share back when its lease ends, one that leaves at once. While the key space cannot be reached,
//! every process goes on with its last share, so the sum stays what it was; a process that never had one admits nothing.
//!
//! Rows are written relaxed: what a crash of the machine takes away, nobody is left to hold.

mod keys;
mod ledger;
#[cfg(test)]
mod tests;

use ledger::{LedgerError, Ledgers, Wish};
use outrigger_kernel::{Deadline, World, within};
use outrigger_keyspace::{Durability, Space};
use outrigger_resilience::{Grant, OnLoss, ShareHolder, ShareTerms};
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// How long a renewal may take. What is left of the old lease when it is asked for.
const RENEWED_WITHIN: Duration = Duration::from_millis(500);
/// How long giving shares back may take. They would end by themselves.
const RELEASED_WITHIN: Duration = Duration::from_secs(1);
/// The shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// A share that nobody else wants a part of.
const FOR_GOOD: Duration = Duration::from_secs(100 * 365 * 24 * 3_600);

/// What a shared limit is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LimitName {
    /// The namespace of those who share it.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The shared limits of one process.
pub struct SharedLimits {
    world: Arc<dyn World>,
    /// Where the shares are agreed on; `None` where this process is alone.
    ledgers: Option<Ledgers>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    holders: Vec<Held>,
    /// Whether somebody looks after them.
    tended: bool,
    closed: bool,
}

#[derive(Clone)]
struct Held {
    name: LimitName,
    /// By what the ledger knows this holder. Random: two holders of one process are two.
    node: u64,
    holder: Arc<ShareHolder>,
}

impl SharedLimits {
    /// Limits shared by all processes that use `space`.
    #[must_use]
    pub fn over(space: Space) -> Arc<Self> {
        let world = Arc::clone(space.world());
        let ledgers = Ledgers::new(space.with_durability(Durability::Relaxed));
        Arc::new(Self { world, ledgers: Some(ledgers), kept: Mutex::default() })
    }

    /// Limits of a process that shares its key space with nobody: it has all of each.
    #[must_use]
    pub fn alone(world: Arc<dyn World>) -> Arc<Self> {
        Arc::new(Self { world, ledgers: None, kept: Mutex::default() })
    }

    /// This process's part of the limit `name`; the same one for the same name and terms, as long as somebody has it.
    #[must_use]
    pub fn holder(self: &Arc<Self>, name: LimitName, terms: ShareTerms) -> Arc<ShareHolder> {
        let mut kept = self.kept();
        let known = |held: &&Held| held.name == name && *held.holder.terms() == terms;
        if let Some(held) = kept.holders.iter().find(known) {
            return Arc::clone(&held.holder);
        }
        let holder = Arc::new(ShareHolder::new(terms, OnLoss::LastShare));
        if self.ledgers.is_none() {
            let whole = Grant { share_milli: terms.rate_milli, lease: FOR_GOOD };
            let now = self.world.mono();
            holder.granted(whole, now, now);
        }
        kept.holders.push(Held { name, node: self.world.random(), holder: Arc::clone(&holder) });
        if self.ledgers.is_some() && !kept.tended && !kept.closed {
            kept.tended = true;
            let task = tend(Arc::downgrade(self), Arc::clone(&self.world));
            drop(self.world.spawn("shared limits", Box::pin(task)));
        }
        holder
    }

    /// Gives all shares back: this process leaves.
    pub async fn close(&self) {
        let all = {
            let mut kept = self.kept();
            kept.closed = true;
            std::mem::take(&mut kept.holders)
        };
        self.release(&all).await;
    }

    async fn release(&self, held: &[Held]) {
        let Some(ledgers) = self.ledgers.as_ref().filter(|_| !held.is_empty()) else { return };
        let shares: Vec<_> = held.iter().map(|held| (held.name.clone(), held.node)).collect();
        let deadline = Deadline::after(&*self.world, RELEASED_WITHIN);
        match within(&*self.world, deadline, ledgers.release(&shares, deadline)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "shares of limits are not given back"),
            Err(_) => tracing::debug!("shares of limits are not given back in time"),
        }
    }

    /// Renews what is due; answers how long nothing will be.
    async fn look(&self, ledgers: &Ledgers) -> Result<Duration, LedgerError> {
        let asked_at = self.world.mono();
        let mut due = Vec::new();
        for held in &self.kept().holders {
            if let Some(demand_milli) = held.holder.renewal(asked_at) {
                let wish = Wish {
                    name: held.name.clone(),
                    node: held.node,
                    demand_milli,
                    terms: *held.holder.terms(),
                };
                due.push((wish, Arc::clone(&held.holder)));
            }
        }
        if !due.is_empty() {
            let wishes: Vec<Wish> = due.iter().map(|(wish, _)| wish.clone()).collect();
            let deadline = Deadline::after(&*self.world, RENEWED_WITHIN);
            let grants = within(&*self.world, deadline, ledgers.renew(&wishes, deadline)).await;
            let grants = grants.unwrap_or(Err(LedgerError::Elapsed))?;
            let now = self.world.mono();
            for ((_, holder), grant) in due.iter().zip(grants) {
                holder.granted(grant, asked_at, now);
            }
        }
        Ok(self.pause())
    }

    fn pause(&self) -> Duration {
        let now = self.world.mono();
        let due = self.kept().holders.iter().map(|held| held.holder.due_in(now)).min();
        due.unwrap_or(PAUSE_MIN).max(PAUSE_MIN)
    }

    /// Those whom nobody asks any more: only this list still has them.
    fn abandoned(&self) -> Vec<Held> {
        let mut kept = self.kept();
        let gone = |held: &Held| Arc::strong_count(&held.holder) == 1;
        let (gone, used) = std::mem::take(&mut kept.holders).into_iter().partition(gone);
        kept.holders = used;
        gone
    }

    /// Whether there is nothing left to look after; if so, whoever comes next starts that anew.
    fn idle(&self) -> bool {
        let mut kept = self.kept();
        let idle = kept.holders.is_empty() || kept.closed;
        kept.tended = !idle;
        idle
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for SharedLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<LimitName> = self.kept().holders.iter().map(|h| h.name.clone()).collect();
        f.debug_struct("SharedLimits").field("holders", &names).finish_non_exhaustive()
    }
}

/// Renews the shares of `limits`, as long as there are any.
async fn tend(limits: std::sync::Weak<SharedLimits>, world: Arc<dyn World>) {
    let mut lost = false;
    loop {
        let pause = {
            let Some(limits) = limits.upgrade() else { return };
            let Some(ledgers) = &limits.ledgers else { return };
            limits.release(&limits.abandoned()).await;
            if limits.idle() {
                return;
            }
            match limits.look(ledgers).await {
                Ok(pause) => {
                    if std::mem::take(&mut lost) {
                        tracing::info!("shares of limits are renewed again");
                    }
                    pause
                }
                Err(error) => {
                    if !std::mem::replace(&mut lost, true) {
                        tracing::warn!(
                            %error,
                            "shares of limits cannot be renewed; the last ones go on"
                        );
                    }
                    limits.pause()
                }
            }
        };
        world.sleep(pause).await;
    }
}
