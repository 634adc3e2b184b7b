//! Why a folder could not be shared.

use crate::wire;

/// An error of an engine that this crate does not know.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why an opener did not open the engine.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Another process has it open.
    #[error(transparent)]
    InUse(BoxError),
    /// Anything else; trying again does not help soon.
    #[error(transparent)]
    Failed(BoxError),
}

/// Why a process could not join those that share a folder.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// A process holds the folder and does not answer: it is paused, or does not share.
    #[error("{0}; it does not answer")]
    InUse(BoxError),
    /// The engine could not be opened.
    #[error(transparent)]
    Failed(BoxError),
    /// Nobody serves the folder, and this process was not to hold it.
    #[error("no process serves the data folder: {0}")]
    Nobody(std::io::Error),
    /// The holder is a release that speaks another protocol.
    #[error(
        "the process that holds the data folder speaks version {theirs} of the sharing protocol, this one {}; \
        stop it, or use the same release",
        wire::VERSION
    )]
    Version {
        /// What it speaks.
        theirs: u32,
    },
    /// The socket in the folder is another user's.
    #[error(
        "the process that holds the data folder runs as user {uid}, who is somebody else; use a folder of your own"
    )]
    Stranger {
        /// Whose process it is.
        uid: u32,
    },
}
