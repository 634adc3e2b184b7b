//! The ledgers in the key space: shares renewed and given back, each step one transaction.

use super::{
    LimitName,
    keys::{LEDGERS, LedgerRow},
};
use outrigger_kernel::{Deadline, Wall};
use outrigger_keyspace::{CommitError, Corrupt, ReadError, Space, TransactError, Tx};
use outrigger_resilience::{Grant, LedgerDamaged, ShareLedger, ShareTerms};
use std::time::Duration;

/// How long a row outlives its last lease.
const ROW_KEPT: Duration = Duration::from_secs(60);

/// Why shares could not be renewed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LedgerError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Damaged(#[from] LedgerDamaged),
    #[error("the store did not answer in time")]
    Elapsed,
}

impl From<TransactError<Self>> for LedgerError {
    fn from(error: TransactError<Self>) -> Self {
        match error {
            TransactError::Refused(error) => error,
            TransactError::Read(error) => Self::Read(error),
            TransactError::Corrupt(error) => Self::Corrupt(error),
            TransactError::Commit(error) => Self::Commit(error),
            TransactError::Contended | TransactError::Elapsed => Self::Elapsed,
        }
    }
}

/// One node's wish for a share.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    pub(super) name: LimitName,
    pub(super) node: u64,
    pub(super) demand_milli: u64,
    pub(super) terms: ShareTerms,
}

/// The ledgers of a key space.
#[derive(Clone, Debug)]
pub(super) struct Ledgers {
    space: Space,
}

impl Ledgers {
    pub(super) fn new(space: Space) -> Self {
        Self { space }
    }

    /// Renews all shares at once, and answers what is granted, in the same order.
    pub(super) async fn renew(
        &self,
        wishes: &[Wish],
        deadline: Deadline,
    ) -> Result<Vec<Grant>, LedgerError> {
        let body = async |tx: Tx| {
            // Calls are waiting for this, whatever else the store has no room for; and it is small.
            tx.making_room();
            let mut grants = Vec::with_capacity(wishes.len());
            for wish in wishes {
                let mut ledger = read(&tx, &wish.name).await?;
                let at = self.space.now();
                grants.push(ledger.renew(wish.node, wish.demand_milli, &wish.terms, at));
                write(&tx, &wish.name, &ledger, at.plus(wish.terms.lease));
            }
            Ok(grants)
        };
        Ok(self.space.transact(deadline, body).await?.0)
    }

    /// Gives shares back.
    pub(super) async fn release(
        &self,
        shares: &[(LimitName, u64)],
        deadline: Deadline,
    ) -> Result<(), LedgerError> {
        let body = async |tx: Tx| {
            tx.making_room();
            for (name, node) in shares {
                let mut ledger = read(&tx, name).await?;
                ledger.release(*node);
                if ledger.nodes() == 0 {
                    tx.delete(&LEDGERS, &key(name));
                } else {
                    write(&tx, name, &ledger, self.space.now());
                }
            }
            Ok(())
        };
        self.space.transact(deadline, body).await?;
        Ok(())
    }
}

fn key(name: &LimitName) -> (String, String) {
    (name.namespace.clone(), name.name.clone())
}

async fn read(tx: &Tx, name: &LimitName) -> Result<ShareLedger, TransactError<LedgerError>> {
    let row = tx.get(&LEDGERS, &key(name)).await?;
    let shares = row.map(|(row, _)| row.shares).unwrap_or_default();
    ShareLedger::decode(&shares).map_err(|error| TransactError::Refused(error.into()))
}

fn write(tx: &Tx, name: &LimitName, ledger: &ShareLedger, until: Wall) {
    let row = LedgerRow { shares: ledger.encode() };
    tx.put(&LEDGERS, &key(name), &row, Some(until.plus(ROW_KEPT)));
}
