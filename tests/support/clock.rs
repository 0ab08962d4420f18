//! A server whose clock on the wall jumps, by libfaketime. The one that counts from the start of the system does not.

use std::path::{Path, PathBuf};

/// What makes up a process's clock.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// One that is right, kept in this directory. `None`, and a line that says so, if the library is not installed.
    #[must_use]
    pub fn new(dir: &Path) -> Option<Self> {
        let libraries = std::fs::read_dir("/usr/lib").into_iter().flatten();
        let inside = |dir: PathBuf| dir.join("faketime/libfaketimeMT.so.1");
        let library = libraries.filter_map(|dir| Some(inside(dir.ok()?.path()))).find(|path| path.is_file());
        let Some(library) = library else {
            eprintln!("SKIPPED: this test needs libfaketime (package faketime)");
            return None;
        };
        let clock = Self { library, offset: dir.join("clock") };
        clock.jump("+0d");
        Some(clock)
    }

    /// Lets it be off by so much, e.g. `-4000d`; no process reads half of that.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn jump(&self, offset: &str) {
        let draft = self.offset.with_extension("draft");
        std::fs::write(&draft, offset).expect("a file");
        std::fs::rename(&draft, &self.offset).expect("moved");
    }

    /// The environment of a process that goes by it.
    #[must_use]
    pub fn env(&self) -> [(&'static str, &Path); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.offset),
            ("FAKETIME_NO_CACHE", Path::new("1")),
            // No clock that counts from the start of the system jumps.
            ("FAKETIME_DONT_FAKE_MONOTONIC", Path::new("1")),
        ]
    }
}
