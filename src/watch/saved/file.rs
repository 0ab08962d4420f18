//! The file on disk: read whole or not at all, replaced in one step.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::SystemTime;

use super::body::{self, Body};
use super::head::{self, Head, undecodable};
use super::{Identity, Saved, SavedError, WriteError};

/// The file's name in its directory.
pub const NAME: &str = "state";
/// What it is called while it is written. Always the same, so that what a crash leaves is replaced and not piled up.
const UNFINISHED: &str = "state.new";
/// A larger file is neither written nor read.
const MAX: usize = 1024 * 1024 * 1024;

/// Reads the state that was saved in `dir`; `None` if there is none.
///
/// # Errors
/// Why what is there cannot be used. It is left as it is.
pub fn read(dir: &Path, identity: &Identity) -> Result<Option<Saved>, SavedError> {
    let path = &dir.join(NAME);
    match load(path) {
        Ok(bytes) => parse(path, &bytes?, identity).map(Some),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SavedError::Unreadable { path: path.into(), error }),
    }
}

/// The bytes of a file that begins as a saved state does. Of any other, no more than a head is read.
fn load(path: &Path) -> io::Result<Result<Vec<u8>, SavedError>> {
    let foreign = |what: &str| Ok(Err(SavedError::Foreign { path: path.into(), what: what.into() }));
    // To open a FIFO would wait for somebody to write to it.
    if !fs::metadata(path)?.is_file() {
        return foreign("it is no regular file");
    }
    let mut file = File::open(path)?;
    let mut bytes = Vec::with_capacity(head::MAX);
    (&mut file).take(head::MAX as u64).read_to_end(&mut bytes)?;
    let (head, start) = match Head::parse(path, &bytes) {
        Ok(parsed) => parsed,
        Err(error) => return Ok(Err(error)),
    };
    if head.bytes > MAX {
        return foreign("it is larger than any state that is saved");
    }
    // One byte more than there should be, so that bytes after the end are noticed.
    let rest = (start + head.bytes + 1).saturating_sub(bytes.len());
    file.take(rest as u64).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

/// What the bytes of a whole file say; any bytes are safe to give. `path` is for errors only.
///
/// # Errors
/// Why they cannot be used.
pub fn parse(path: &Path, bytes: &[u8], identity: &Identity) -> Result<Saved, SavedError> {
    let (head, start) = Head::parse(path, bytes)?;
    head.check(path, identity)?;
    let rest = &bytes[start..];
    let torn = |what| SavedError::Torn { path: path.into(), what };
    if rest.len() < head.bytes {
        return Err(torn(format!("{} of its {} bytes of objects are there", rest.len(), head.bytes)));
    }
    if rest.len() > head.bytes {
        return Err(torn(format!("it goes on after its {} bytes of objects", head.bytes)));
    }
    if body::sha256(rest) != head.sha256 {
        return Err(torn("its objects do not match their checksum".into()));
    }
    let clusters = body::decode(rest).map_err(|what| undecodable(path, &head.segdns, what))?;
    if clusters.first().is_none_or(|first| first.name != identity.cluster) {
        return Err(undecodable(path, &head.segdns, "the local cluster is not the first".into()));
    }
    Ok(Saved { written: head.written(path)?, clusters })
}

/// Replaces the state that is saved in `dir`: whoever reads sees the old one or the new one, also after a crash. The
/// directory is made if it is missing.
///
/// # Errors
/// What failed; the old state stays.
pub fn write(dir: &Path, identity: &Identity, written: SystemTime, body: &Body) -> Result<(), WriteError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed(dir, "make the directory"))?;
    let held = File::open(dir).map_err(failed(dir, "open the directory"))?;
    lock(&held).map_err(failed(dir, "lock the directory"))?;
    let path = &dir.join(NAME);
    if body.bytes().len() > MAX {
        let error = io::Error::other(format!("the objects take more than {MAX} bytes"));
        return Err(failed(path, "write it")(error));
    }
    let lines = Head::new(identity, written, body).lines();
    let lines = lines.map_err(|error| failed(path, "write it")(error.into()))?;
    let unfinished = dir.join(UNFINISHED);
    let done = fill(&unfinished, lines.as_bytes(), body.bytes()).and_then(|()| fs::rename(&unfinished, path));
    if let Err(error) = done {
        // It takes space that may be short. Whatever keeps it there is what failed above, or is met by the next attempt.
        drop(fs::remove_file(&unfinished));
        return Err(failed(path, "write it")(error));
    }
    held.sync_all().map_err(failed(dir, "sync the directory"))
}

fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> WriteError {
    move |error| WriteError { path: path.into(), doing, error }
}

/// Two processes that write the same unfinished file would leave a mixture of both.
fn lock(dir: &File) -> io::Result<()> {
    match dir.try_lock() {
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::new(ErrorKind::WouldBlock, "another process is writing a saved state there"))
        }
        // Not every file system has locks; one process alone does not need them.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn fill(path: &Path, head: &[u8], body: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(head)?;
    file.write_all(body)?;
    file.sync_all()
}
