//! The soak: callers that ask, objects that change, addresses that go from pod to pod, API servers and upstreams that fail,
//! configurations that are read again, processes that are replaced, all at once; and an oracle that knows what each answer may
//! be.

pub mod faults;
pub mod load;
pub mod oracle;

use std::time::{Duration, Instant};

use super::load::from_env;
use super::load::meter::{mb, open_files};
use faults::Surroundings;
use load::Load;

/// How much more may be resident at the end than at the start: the cache fills, and tables have grown.
const GROWTH: u64 = 24 << 20;
/// Of a run that is as long as that.
const FAULTS: usize = 6;

/// All of it for so many seconds, unless `SEGDNS_SOAK_SECONDS` says otherwise; panics if anything was not as it has to be.
pub fn run(seconds: u32) {
    let time = Duration::from_secs(from_env("SEGDNS_SOAK_SECONDS", seconds).into());
    let seed = u64::from(from_env("SEGDNS_SOAK_SEED", rand::random()));
    println!("soak: SEGDNS_SOAK_SEED={seed}, {time:?}");
    let mut all = Surroundings::new(seed);
    // Something to ask for, before anything goes wrong.
    all.run_without_faults(Duration::from_secs(3));
    let before = (all.server.resident(), open_files(&all.server));
    let begun = Instant::now();
    let load = Load::start(all.fed.at, &all.oracle, seed);
    all.run(time);
    let tally = load.end();
    let after = (all.server.resident(), open_files(&all.server));
    println!(
        "soak: {:?}: {} answers checked ({} of the mesh, {} from outside, {} over TCP), {} took over a second, {} lost, {} wrong",
        begun.elapsed(),
        tally.mesh + tally.outside,
        tally.mesh,
        tally.outside,
        tally.tcp,
        tally.slow,
        tally.lost.len(),
        tally.wrong.len()
    );
    println!("soak: done meanwhile: {:?}", all.done);
    println!("soak: resident {} -> {}, open files {} -> {}", mb(before.0), mb(after.0), before.1, after.1);
    assert!(tally.lost.is_empty(), "lost: {:#?}", &tally.lost[..tally.lost.len().min(10)]);
    assert!(tally.wrong.is_empty(), "wrong: {:#?}", &tally.wrong[..tally.wrong.len().min(10)]);
    assert!(tally.mesh + tally.outside > 20 * time.as_secs(), "hardly anything was asked");
    if time.as_secs() >= 50 {
        let faults = all.done.keys().filter(|what| faults::KINDS.contains(what)).count();
        assert_eq!(faults, FAULTS, "not all faults came up: {:?}", all.done);
    }
    assert!(after.0 < before.0 + GROWTH, "resident memory grew from {} to {}", mb(before.0), mb(after.0));
    assert!(after.1 < before.1 + 40, "open files went from {} to {}", before.1, after.1);
}
