//! Scalars keep their text; what type that text has is asked when it is needed.
//!
//! That is how `value: 1.10` can stay `1.10` for a password and still be a number for a sampling rate. Types follow
//! YAML 1.1 where the reference does (`yes`, `on`), except that numbers with a leading zero are no numbers: some read
//! them as octal and some do not, and nobody means the difference.

/// A scalar as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    /// The text, with escapes and folding undone.
    pub(crate) text: String,
    /// Whether it was written without quotes, so that it may be something else than text.
    pub(crate) plain: bool,
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The switch this is, if it is one; quoted ones count, as people quote them now and then.
    pub(crate) fn as_switch(&self) -> Option<bool> {
        match self.text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }

    /// The whole number this is, if it is one.
    pub(crate) fn as_integer(&self) -> Option<i64> {
        let text = self.text.trim();
        let (sign, digits) = match text.strip_prefix('-') {
            Some(rest) => ("-", rest),
            None => ("", text.strip_prefix('+').unwrap_or(text)),
        };
        let (radix, digits) = match digits.get(..2) {
            Some("0x" | "0X") => (16, &digits[2..]),
            Some("0o" | "0O") => (8, &digits[2..]),
            Some("0b" | "0B") => (2, &digits[2..]),
            _ => (10, digits),
        };
        let leading_zero = radix == 10 && digits.len() > 1 && digits.starts_with('0');
        if leading_zero || !digits.starts_with(|c: char| c.is_digit(radix)) {
            return None;
        }
        i64::from_str_radix(&format!("{sign}{}", digits.replace('_', "")), radix).ok()
    }

    /// The number this is, if it is a finite one.
    pub(crate) fn as_number(&self) -> Option<f64> {
        if let Some(integer) = self.as_integer() {
            // Numbers beyond 2^53 lose digits here; none of the fields read so is anywhere near.
            return format!("{integer}").parse().ok();
        }
        let text = self.text.trim();
        let unsigned = text.trim_start_matches(['-', '+']);
        let leading_zero = unsigned.len() > 1
            && unsigned.starts_with('0')
            && !unsigned[1..].starts_with(['.', 'e', 'E']);
        let starts_well = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        if leading_zero || !starts_well {
            return None;
        }
        text.parse::<f64>().ok().filter(|number| number.is_finite())
    }

    pub(super) fn describe(&self) -> &'static str {
        match self.to_json() {
            serde_json::Value::Null => "nothing",
            serde_json::Value::Bool(_) => "a switch",
            serde_json::Value::Number(_) => "a number",
            _ => "a text",
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        if !self.plain {
            return self.text.clone().into();
        }
        if self.is_null() {
            return serde_json::Value::Null;
        }
        // One letter is a text here, although YAML 1.1 made a switch of it: people have names that begin with n.
        match (self.as_switch(), self.as_integer(), self.as_number()) {
            (Some(switch), _, _) if self.text.len() > 1 => switch.into(),
            (_, Some(integer), _) => integer.into(),
            (_, _, Some(number)) => number.into(),
            _ => self.text.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Scalar;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.into(), plain: true }
    }

    #[test]
    fn types_of_plain_scalars() {
        for (text, json) in [
            ("", "null"),
            ("~", "null"),
            ("yes", "true"),
            ("Off", "false"),
            ("n", "\"n\""),
            ("12", "12"),
            ("-12", "-12"),
            ("0x1F", "31"),
            ("0o17", "15"),
            ("0b11", "3"),
            ("1_000", "1000"),
            ("012", "\"012\""),
            ("0", "0"),
            ("1.50", "1.5"),
            ("0.5", "0.5"),
            (".5", "0.5"),
            ("1e3", "1000.0"),
            ("00.5", "\"00.5\""),
            ("inf", "\"inf\""),
            ("nan", "\"nan\""),
            ("1.2.3", "\"1.2.3\""),
            ("-", "\"-\""),
            ("9223372036854775808", "9.223372036854776e+18"),
        ] {
            assert_eq!(plain(text).to_json().to_string(), json, "{text}");
        }
        assert_eq!(Scalar { text: "12".into(), plain: false }.to_json(), "12");
    }
}
