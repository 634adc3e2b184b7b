//! The roots of an authority, as one transaction reads them.

use super::{AuthorityError, keys::ROOTS, records::RootRow};
use crate::{fingerprint, trust::times_of};
use outrigger_kernel::Wall;
use outrigger_keyspace::{Direction, TransactError, Tx};
use rustls::pki_types::CertificateDer;
use std::collections::BTreeMap;

/// Most roots that are trusted at once.
const ROOTS_MAX: usize = 4;

/// What an authority says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorityStatus {
    /// Its trust domain.
    pub trust_domain: String,
    /// Its roots, the oldest first.
    pub roots: Vec<RootStatus>,
}

/// A root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RootStatus {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// Its certificate.
    pub certificate: Vec<u8>,
    /// What it is good for.
    pub state: RootState,
    /// Since when it holds.
    pub not_before: Wall,
    /// Until when it holds.
    pub not_after: Wall,
}

/// What a root is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootState {
    /// It signs.
    Signing,
    /// It is trusted until then.
    TrustedUntil(Wall),
    /// It is not trusted any more.
    Retired,
}

impl AuthorityStatus {
    /// The root that signs.
    #[must_use]
    pub fn signing(&self) -> Option<&RootStatus> {
        self.roots.iter().find(|root| root.state == RootState::Signing)
    }
}

impl RootStatus {
    /// The fingerprint in hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        hex(&self.fingerprint)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) struct Roots(BTreeMap<u32, RootRow>);

impl Roots {
    pub(super) async fn read(tx: &Tx) -> Result<Self, TransactError<AuthorityError>> {
        let page = tx.scan(&ROOTS.range(&()), 64, Direction::Forward).await?;
        let mut roots = BTreeMap::new();
        for entry in page.entries {
            let (number,) = ROOTS.decode_key(&entry.key)?;
            roots.insert(number, ROOTS.decode(entry.value.bytes)?);
        }
        Ok(Self(roots))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that signs.
    pub(super) fn signing(&self) -> Option<(u32, &RootRow)> {
        self.0.last_key_value().map(|(number, row)| (*number, row))
    }

    fn trusted(&self, now: Wall) -> impl DoubleEndedIterator<Item = (u32, &RootRow)> {
        let trusted = move |row: &&RootRow| row.retires_ms == 0 || now.0 < row.retires_ms;
        self.0.iter().map(|(number, row)| (*number, row)).filter(move |(_, row)| trusted(row))
    }

    /// Those that are not trusted any more.
    pub(super) fn retired(&self, now: Wall) -> impl Iterator<Item = u32> {
        let over = move |row: &RootRow| row.retires_ms != 0 && row.retires_ms <= now.0;
        self.0.iter().filter(move |(_, row)| over(row)).map(|(number, _)| *number)
    }

    pub(super) fn is_full(&self, now: Wall) -> bool {
        self.trusted(now).count() >= ROOTS_MAX
    }

    /// Whether two thirds of the life of the one that signs are over.
    pub(super) fn is_old(&self, now: Wall) -> bool {
        let Some((_, row)) = self.signing() else { return false };
        let Ok(times) = times_of(&CertificateDer::from(&row.certificate[..])) else { return false };
        let (from, to) = (wall(times.not_before), wall(times.not_after));
        from.plus(to.since(from) / 3 * 2) <= now
    }

    /// All that are trusted.
    pub(super) fn bundle(&self, now: Wall) -> Vec<Vec<u8>> {
        self.trusted(now).map(|(_, row)| row.certificate.clone()).collect()
    }

    /// The later roots as the earlier ones that are still trusted have signed them, the latest first.
    pub(super) fn crossings(&self, now: Wall) -> Vec<Vec<u8>> {
        let mut crossings = Vec::new();
        for (number, row) in self.trusted(now).rev() {
            let before = number.checked_sub(1);
            let trusted = before.is_some_and(|before| self.trusted(now).any(|(n, _)| n == before));
            if row.crossed.is_empty() || !trusted {
                break;
            }
            crossings.push(row.crossed.clone());
        }
        crossings
    }

    /// The number of the root whose fingerprint begins with `text`, which is not the one that signs.
    pub(super) fn named(&self, text: &str) -> Result<u32, AuthorityError> {
        let text = text.to_lowercase().replace(':', "");
        let named = |row: &RootRow| {
            text.len() >= 8 && hex(&fingerprint(&row.certificate)).starts_with(&text)
        };
        let found = self.0.iter().find(|(_, row)| named(row)).map(|(number, _)| *number);
        let number = found.ok_or(AuthorityError::Roots(
            "no root has that fingerprint: `outrigger ca show` lists them; give at least 8 digits",
        ))?;
        if self.signing().is_some_and(|(signing, _)| signing == number) {
            return Err(AuthorityError::Roots(
                "that root signs: `outrigger ca rotate` makes another one first",
            ));
        }
        Ok(number)
    }

    pub(super) fn status(&self, now: Wall) -> Option<AuthorityStatus> {
        let (signing, row) = self.signing()?;
        let status = |(number, row): (&u32, &RootRow)| {
            let times = times_of(&CertificateDer::from(&row.certificate[..])).ok()?;
            Some(RootStatus {
                fingerprint: fingerprint(&row.certificate),
                certificate: row.certificate.clone(),
                state: match row.retires_ms {
                    _ if *number == signing => RootState::Signing,
                    at if at <= now.0 => RootState::Retired,
                    at => RootState::TrustedUntil(Wall(at)),
                },
                not_before: wall(times.not_before),
                not_after: wall(times.not_after),
            })
        };
        let roots = self.0.iter().filter_map(status).collect();
        Some(AuthorityStatus { trust_domain: row.trust_domain.clone(), roots })
    }
}

/// Until when a root holds.
pub(super) fn holds_until(row: &RootRow) -> Wall {
    let times = times_of(&CertificateDer::from(&row.certificate[..]));
    times.map_or(Wall(0), |times| wall(times.not_after))
}

pub(crate) fn wall(seconds: i64) -> Wall {
    Wall(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
}
