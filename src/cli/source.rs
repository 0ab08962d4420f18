//! The source of objects that the configuration names, opened: directories, or API servers.

use std::sync::Arc;

use thiserror::Error;

use crate::admin::sources::MANIFESTS;
use crate::config::Config;
use crate::mesh::object::Change;
use crate::watch::board::{self, Board};
use crate::watch::kubernetes::{Kubernetes, StartError};
use crate::watch::manifests::{Manifests, SourceError};
use crate::watch::saved::Saved;

/// Where objects come from.
pub enum Source {
    /// Directories, which are looked at.
    Manifests(Directories),
    /// API servers, which tell.
    Kubernetes(Kubernetes),
}

/// Why it cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The configuration names none.
    #[error("no source of objects: give --manifests DIR or --kubernetes, or write sources in the configuration")]
    None,
    /// A directory.
    #[error(transparent)]
    Manifests(#[from] SourceError),
    /// The API server.
    #[error(transparent)]
    Kubernetes(#[from] StartError),
}

impl Source {
    /// Opens it. `saved` is what API servers are stood in for by while they are away.
    ///
    /// # Errors
    /// A directory that cannot be listed, no credentials for an API server, or no source at all.
    pub fn open(config: &Config, saved: Option<Saved>) -> Result<Self, OpenError> {
        if let Some(options) = config.watched() {
            return Ok(Self::Kubernetes(Kubernetes::start(options, saved)?));
        }
        if config.sources.manifests.is_empty() {
            return Err(OpenError::None);
        }
        Ok(Self::Manifests(Directories::open(config)?))
    }

    /// What it is doing.
    pub fn board(&self) -> &Arc<Board> {
        match self {
            Self::Manifests(directories) => &directories.board,
            Self::Kubernetes(kubernetes) => &kubernetes.board,
        }
    }
}

/// Manifests, and what is to be told of them.
pub struct Directories {
    manifests: Manifests,
    sources: Vec<board::Source>,
    board: Arc<Board>,
}

impl Directories {
    /// Opens them.
    ///
    /// # Errors
    /// A directory that cannot be listed.
    pub fn open(config: &Config) -> Result<Self, SourceError> {
        let dirs = config.sources.manifests.iter().enumerate().map(|(ix, dir)| (ix, dir.path.clone())).collect();
        let manifests = Manifests::open(dirs)?;
        let source = |cluster| board::Source { cluster, kind: MANIFESTS.into() };
        let sources: Vec<board::Source> = config.clusters().into_iter().map(source).collect();
        let board = Arc::new(Board::default());
        for source in &sources {
            board.expect(source);
        }
        Ok(Self { manifests, sources, board })
    }

    /// What has changed on disk since the last time.
    pub fn poll(&mut self) -> Vec<Change> {
        let changes = self.manifests.poll();
        for source in &self.sources {
            self.board.heard(source);
        }
        for change in &changes {
            if let Change::Synced { cluster } = change {
                // Directories have no troubles that this could end.
                drop(self.board.complete(&self.sources[*cluster]));
            }
        }
        changes
    }
}
