//! The three lines before the objects: what the file is, whose, and how to tell that it is whole.

use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::body::{Body, sha256};
use super::{FORMAT, Identity, SavedError};

/// What the first line begins with, in every format.
const MAGIC: &str = "segdns saved state, format ";

/// The lines are shorter than this together; names of clusters and nodes are at most 253 octets.
pub(super) const MAX: usize = 16 * 1024;

/// The second line.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Head {
    /// RFC 3339
    written: String,
    cluster: Box<str>,
    node: Option<Box<str>>,
    /// The version that wrote it.
    pub segdns: String,
    clusters: usize,
    objects: usize,
    /// Length of the body.
    pub bytes: usize,
    /// Of the body.
    pub sha256: String,
}

impl Head {
    pub fn new(identity: &Identity, written: SystemTime, body: &Body) -> Self {
        Self {
            written: Timestamp::try_from(written).unwrap_or_default().to_string(),
            cluster: identity.cluster.clone(),
            node: identity.node.clone(),
            segdns: env!("CARGO_PKG_VERSION").into(),
            clusters: body.clusters(),
            objects: body.objects(),
            bytes: body.bytes().len(),
            sha256: body.sha256().into(),
        }
    }

    /// All three lines.
    pub fn lines(&self) -> serde_json::Result<String> {
        let two = format!("{MAGIC}{FORMAT}\n{}\n", serde_json::to_string(self)?);
        let sum = sha256(two.as_bytes());
        Ok(two + &sum + "\n")
    }

    /// The head that `bytes` begin with, and its length.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<(Self, usize), SavedError> {
        let torn = |what: &str| SavedError::Torn { path: path.into(), what: what.into() };
        let Some(after) = bytes.strip_prefix(MAGIC.as_bytes()) else {
            return Err(if MAGIC.as_bytes().starts_with(bytes) {
                torn("it ends in its first line")
            } else {
                SavedError::Foreign { path: path.into(), what: format!("it does not begin with {MAGIC:?}") }
            });
        };
        let bytes = &bytes[..bytes.len().min(MAX)];
        let mut ends = bytes.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1);
        let Some(first) = ends.next() else { return Err(torn("its first line has no end")) };
        let found = String::from_utf8_lossy(&after[..first - MAGIC.len() - 1]);
        if found != FORMAT.to_string() {
            return Err(SavedError::Format { path: path.into(), found: found.chars().take(20).collect() });
        }
        let (Some(second), Some(third)) = (ends.next(), ends.next()) else {
            return Err(torn("its head is not complete"));
        };
        if sha256(&bytes[..second]).as_bytes() != &bytes[second..third - 1] {
            return Err(torn("its head does not match its checksum"));
        }
        let head = serde_json::from_slice::<Self>(&bytes[first..second]);
        head.map(|head| (head, third)).map_err(|error| undecodable(path, "unknown", error.to_string()))
    }

    /// Refuses the state of another cluster or node.
    pub fn check(&self, path: &Path, own: &Identity) -> Result<(), SavedError> {
        if (&self.cluster, &self.node) == (&own.cluster, &own.node) {
            return Ok(());
        }
        Err(SavedError::Elsewhere {
            path: path.into(),
            found: words(&self.cluster, self.node.as_deref()),
            own: words(&own.cluster, own.node.as_deref()),
        })
    }

    pub fn written(&self, path: &Path) -> Result<SystemTime, SavedError> {
        let time = self.written.parse::<Timestamp>();
        time.map(SystemTime::from).map_err(|error| undecodable(path, &self.segdns, error.to_string()))
    }
}

pub(super) fn undecodable(path: &Path, version: &str, what: String) -> SavedError {
    SavedError::Undecodable { path: path.into(), version: version.into(), what }
}

fn words(cluster: &str, node: Option<&str>) -> String {
    node.map_or_else(|| format!("cluster {cluster:?}, all nodes"), |node| format!("cluster {cluster:?}, node {node:?}"))
}
