//! Every fixture of `tests/fixtures`, as in `tests/fixtures.rs`, but fed by an API server for each of its clusters: the same
//! rows, callers and checks. How the objects come is described in `tests/support/fixture/clusters.rs`; `SEGDNS_SEED=anything`
//! lets them come in another order.

mod support;

use support::fed::Lab;
use support::fixture::Source;

// Faults of every kind of API server are tested elsewhere; here it is the objects that count, and those with fields that a
// real one would refuse.
every_fixture!(Source::ApiServers(Lab::Double));
