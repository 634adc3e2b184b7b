//! Every code that reading files can report, with its cause and its remedy. Codes are never reused for another meaning.

/// One code, as `outrigger explain` and the reference page show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    /// `OUTR-nnnn`.
    pub id: &'static str,
    /// A few words.
    pub title: &'static str,
    /// How one gets here.
    pub cause: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// The code called `id`.
#[must_use]
pub fn find(id: &str) -> Option<&'static Code> {
    ALL.iter().copied().find(|code| code.id.eq_ignore_ascii_case(id))
}

/// All codes of this crate, in order.
pub const ALL: &[&Code] = &[];
