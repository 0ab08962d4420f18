//! Every fixture of `tests/fixtures`, against the binary: one test per directory.
//!
//! What a fixture is and what is checked beyond its rows is described in `tests/fixtures/README.md`. A fixture whose callers
//! are outside 127.0.0.0/8 needs root and `ip`, and is skipped without, visibly (in CI only with `SEGDNS_SKIP_NETNS=1`).
//! `SEGDNS_BIN` names another build of
//! the binary, `SEGDNS_KEEP=1` keeps configurations and logs.

mod support;

use support::fixture::Source;

every_fixture!(Source::Manifests);
