//! Why a saved state is not served, or not written.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use thiserror::Error;

/// Why the saved state is not served. All of them mean a start as if there were none.
#[derive(Debug, Error)]
pub enum SavedError {
    /// The system does not let it be read.
    #[error(
        "saved state {path:?} is ignored: it cannot be read: {error}; let segdns's user read it, or correct sources.snapshot"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something else than a saved state has its name.
    #[error(
        "saved state {path:?} is ignored: {what}; if it is somebody else's, move it away or correct sources.snapshot, because the next complete state replaces it"
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is not.
        what: String,
    },
    /// It is not whole, or not as it was written.
    #[error(
        "saved state {path:?} is ignored: it is torn: {what}; nothing to do, the next complete state replaces it, but if this happens again check the disk"
    )]
    Torn {
        /// The file.
        path: PathBuf,
        /// What shows it.
        what: String,
    },
    /// Another version of segdns wrote it.
    #[error(
        "saved state {path:?} is ignored: it has format {found} and this segdns ({version}) knows format {known}; nothing to do, the next complete state replaces it",
        version = env!("CARGO_PKG_VERSION"),
        known = super::FORMAT
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: String,
    },
    /// It is of another cluster or node.
    #[error(
        "saved state {path:?} is ignored: it is of {found} and this is {own}; give each its own sources.snapshot, or correct cluster.name or --node"
    )]
    Elsewhere {
        /// The file.
        path: PathBuf,
        /// What it is of, e.g. `cluster "a", node "n1"`.
        found: String,
        /// The same of this process.
        own: String,
    },
    /// It is whole, but does not hold what it should.
    #[error(
        "saved state {path:?} is ignored: it is whole but does not decode: {what}; another build of segdns wrote it (version {version}), the next complete state replaces it"
    )]
    Undecodable {
        /// The file.
        path: PathBuf,
        /// The version of segdns that wrote it.
        version: String,
        /// What is wrong.
        what: String,
    },
}

/// Why a state could not be saved. What was saved before is still there, unless the last step failed: then the file may be
/// either, but is whole.
#[derive(Debug, Error)]
#[error("saved state {path:?}: cannot {doing}: {error}")]
pub struct WriteError {
    /// The file or directory.
    pub path: PathBuf,
    /// What was tried, e.g. `write it`.
    pub doing: &'static str,
    /// What the system says.
    pub error: io::Error,
}

impl WriteError {
    /// What to change.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "free space there; until then the one saved before stays"
            }
            ErrorKind::PermissionDenied => "let segdns's user write there, or correct sources.snapshot",
            ErrorKind::ReadOnlyFilesystem => "mount it writable, or point sources.snapshot at a volume that is",
            ErrorKind::WouldBlock => "give every segdns on this node its own sources.snapshot",
            ErrorKind::FileTooLarge => "raise the limit on file sizes (RLIMIT_FSIZE), or remove sources.snapshot",
            _ => "correct sources.snapshot, or remove it to go without a saved state",
        }
    }
}
