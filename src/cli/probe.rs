//! `segdns probe`: asks a server for its health and ends with the answer, for probes that are commands.
//!
//! During an upgrade the old and the new process share the node's network, and a probe over it may reach either. A command in
//! the pod that asks a Unix socket in the pod reaches its own.

use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;

use super::args::{Probe, ProbeArgs};
use super::{FAILED, fail, print};
use crate::admin::http::endpoint::Place;

/// After this nobody waits for an answer: less than the shortest period that a kubelet would use, and more than `/healthz` takes.
const LIMIT: Duration = Duration::from_millis(1800);

/// Prints what the server says; exit status 0 if it is well, else 1.
pub fn probe(args: &ProbeArgs) -> ExitCode {
    let place = match (&args.socket, args.server) {
        (Some(path), _) => Place::Path(path.clone()),
        (None, Some(address)) => Place::Port(address),
        (None, None) => return fail(FAILED, "whom to ask is missing: --socket PATH or --server ADDR:PORT"),
    };
    let path = match args.what {
        Probe::Ready => "/readyz",
        Probe::Live => "/healthz",
    };
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(FAILED, error),
    };
    match runtime.block_on(place.get(path, LIMIT)) {
        Ok((status, body)) => {
            print::out(&body);
            if status == 200 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
        }
        Err(error) => fail(FAILED, format_args!("{place} does not say whether it is well: {error}")),
    }
}
