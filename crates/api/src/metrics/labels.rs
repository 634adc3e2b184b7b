//! Label sets that cost little to make and to look up.

use prometheus_client::encoding::{EncodeLabel, EncodeLabelSet, LabelSetEncoder};
use std::{
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// The app a number belongs to. Compared by id, so that looking a label set up does not compare names.
#[derive(Clone, Debug)]
pub(crate) struct App(Arc<(u32, Arc<str>, Arc<str>)>);

impl App {
    pub(crate) fn new(id: u32, name: &str, namespace: &str) -> Self {
        Self(Arc::new((id, name.into(), namespace.into())))
    }

    fn id(&self) -> u32 {
        self.0.0
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.0.1
    }

    fn namespace(&self) -> &str {
        &self.0.2
    }
}

/// A label's value.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    Fixed(&'static str),
    Shared(Arc<str>),
    Number(u16),
}

impl Word {
    fn text(&self) -> Option<&str> {
        match self {
            Self::Fixed(text) => Some(text),
            Self::Shared(text) => Some(text),
            Self::Number(_) => None,
        }
    }

    fn number(&self) -> u16 {
        match self {
            Self::Number(n) => *n,
            Self::Fixed(_) | Self::Shared(_) => 0,
        }
    }
}

impl PartialEq for Word {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text() && self.number() == other.number()
    }
}

impl Eq for Word {}

impl Hash for Word {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
        self.number().hash(state);
    }
}

impl From<&'static str> for Word {
    fn from(text: &'static str) -> Self {
        Self::Fixed(text)
    }
}

impl From<u16> for Word {
    fn from(number: u16) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Word {
    fn from(yes: bool) -> Self {
        Self::Fixed(if yes { "true" } else { "false" })
    }
}

impl From<&Arc<str>> for Word {
    fn from(text: &Arc<str>) -> Self {
        Self::Shared(Arc::clone(text))
    }
}

/// The app's labels and `N` more.
#[derive(Clone, Debug)]
pub(crate) struct Set<const N: usize> {
    pub(crate) app: App,
    /// Names of the values; the same for every set of one family, hence no part of a set's identity. A set of component
    /// metrics also carries the namespace.
    pub(crate) names: &'static Names<N>,
    pub(crate) values: [Word; N],
}

/// The names of the labels of one family.
#[derive(Debug)]
pub(crate) struct Names<const N: usize> {
    pub(crate) namespace: bool,
    pub(crate) names: [&'static str; N],
}

impl<const N: usize> PartialEq for Set<N> {
    fn eq(&self, other: &Self) -> bool {
        self.app.id() == other.app.id() && self.values == other.values
    }
}

impl<const N: usize> Eq for Set<N> {}

impl<const N: usize> Hash for Set<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.app.id().hash(state);
        self.values.hash(state);
    }
}

impl<const N: usize> EncodeLabelSet for Set<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        ("app_id", &**self.app.name()).encode(encoder.encode_label())?;
        if self.names.namespace {
            ("namespace", self.app.namespace()).encode(encoder.encode_label())?;
        }
        for (name, value) in self.names.names.iter().zip(&self.values) {
            match value.text() {
                Some(text) => (*name, text).encode(encoder.encode_label())?,
                None => (*name, value.number()).encode(encoder.encode_label())?,
            }
        }
        Ok(())
    }
}
