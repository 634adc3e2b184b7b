//! Sizes as people write them: `4Mi`, `16M`, `4096`.

/// Text that is not a size, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not a size: {reason}")]
pub struct BadQuantity {
    /// What was written.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Reads a number of bytes: digits, perhaps with a fraction, and a suffix in powers of 1024 (`Ki`, `Mi`, `Gi`, `Ti`) or
/// of 1000 (`k`, `M`, `G`, `T`). A negative number means no limit and is [`u64::MAX`].
///
/// # Errors
/// [`BadQuantity`] for anything else.
pub fn parse(text: &str) -> Result<u64, BadQuantity> {
    read(text.trim()).map_err(|reason| BadQuantity { text: text.into(), reason })
}

fn read(text: &str) -> Result<u64, &'static str> {
    if let Some(rest) = text.strip_prefix('-') {
        return read(rest).map(|_| u64::MAX);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let unit: u64 = match suffix.trim() {
        "" => 1,
        "k" | "K" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return Err("the unit is not one of Ki, Mi, Gi, Ti, k, M, G, T"),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') {
        return Err("there is no number");
    }
    const TOO_LARGE: &str = "it is too large";
    let whole: u64 = whole.parse().map_err(|_| TOO_LARGE)?;
    let mut total = u128::from(whole) * u128::from(unit);
    let mut place = u128::from(unit);
    for digit in fraction.bytes() {
        total += u128::from(digit - b'0') * place / 10;
        place /= 10;
    }
    u64::try_from(total).map_err(|_| TOO_LARGE)
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn sizes() {
        for (text, bytes) in [
            ("4096", 4096),
            ("4Mi", 4 << 20),
            ("4Ki", 4096),
            ("1.5Mi", 3 << 19),
            ("16M", 16_000_000),
            ("2 G", 2_000_000_000),
            ("-1", u64::MAX),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
        for text in ["", "Mi", "4MB", "four", "1.2.3", "-", "99999999999999999999", "99999999Ti"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
