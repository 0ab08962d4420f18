//! What files a directory has, by name and stamp; cheap enough to be asked four times a second.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::mesh::object::Fault;

/// A symlinked tree that leads back into itself ends here.
const MAX_NESTING: usize = 32;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Octets.
    pub size: u64,
    inode: (u64, u64),
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// From what the file system says.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            size: meta.size(),
            inode: (meta.dev(), meta.ino()),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Whether it was last written so shortly before `read_at` that a write after that may have left the same stamp: file
    /// systems count time in ticks, the coarsest in 2 s.
    pub fn is_fresh_at(&self, read_at: SystemTime) -> bool {
        let Ok(seconds) = u64::try_from(self.modified.0) else { return false };
        let modified = UNIX_EPOCH + Duration::new(seconds, u32::try_from(self.modified.1).unwrap_or_default());
        let apart = read_at.duration_since(modified).unwrap_or_else(|error| error.duration());
        apart < Duration::from_secs(2)
    }
}

/// What a walk found.
#[derive(Debug, Default)]
pub struct Scan {
    /// The manifests.
    pub files: BTreeMap<Arc<Path>, Stamp>,
    /// Places that could not be looked into; what was held below them stays.
    pub unseen: Vec<(PathBuf, Fault)>,
}

/// Walks a directory. Hidden entries are skipped (a ConfigMap mount keeps its versions in them) and symlinks followed.
pub fn scan(root: &Path) -> Scan {
    let mut scan = Scan::default();
    walk(root, &mut Vec::new(), &mut scan);
    scan
}

fn walk(dir: &Path, above: &mut Vec<(u64, u64)>, scan: &mut Scan) {
    let listed = fs::metadata(dir).and_then(|meta| Ok((Stamp::of(&meta).inode, fs::read_dir(dir)?)));
    let (identity, entries) = match listed {
        Ok(listed) => listed,
        Err(error) => return scan.unseen(dir, "the directory cannot be read", &error),
    };
    if above.contains(&identity) || above.len() >= MAX_NESTING {
        return;
    }
    above.push(identity);
    for entry in entries {
        match entry {
            Ok(entry) => visit(&entry, above, scan),
            Err(error) => scan.unseen(dir, "the directory cannot be read to its end", &error),
        }
    }
    above.pop();
}

fn visit(entry: &fs::DirEntry, above: &mut Vec<(u64, u64)>, scan: &mut Scan) {
    let name = entry.file_name();
    if name.as_encoded_bytes().starts_with(b".") {
        return;
    }
    let path = entry.path();
    let manifest = matches!(path.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json"));
    match fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => walk(&path, above, scan),
        Ok(_) if !manifest => {}
        Ok(meta) if meta.is_file() => {
            scan.files.insert(path.into(), Stamp::of(&meta));
        }
        // Opening a pipe would wait for its writer.
        Ok(_) => scan.unseen(&path, "it is no file", &io::Error::other("a pipe, socket or device")),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_symlink(&path) => {}
        Err(error) if manifest => scan.unseen(&path, "the file cannot be read", &error),
        Err(_) => {}
    }
}

fn is_symlink(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink())
}

impl Scan {
    fn unseen(&mut self, path: &Path, what: &str, error: &io::Error) {
        let fault = Fault {
            text: format!("{}: {what}: {error}; what it held before stays", path.display()),
            remedy: "restore it and let segdns's user read it".to_owned(),
        };
        self.unseen.push((path.to_owned(), fault));
    }
}
