//! Hidden equals nonexistent (R13), in meshes by chance: every answer is the one of a model that was written from the contract
//! alone; a hidden name that is taken out changes no octet of any answer; no name in a mesh zone reaches the upstream.
//!
//! `SEGDNS_MESHES` sets how many meshes are tried (default 10,000), `SEGDNS_SEED` from which seed on; a failure names its own,
//! and `SEGDNS_MESHES=1 SEGDNS_SEED=n` repeats it. A mesh that fails is made as small as can be, and printed as manifests.

mod model;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::case::{Case, Kind, Tally};
use model::front::Lab;
use model::shrink::{shown, shrink};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name}: {text}")))
}

#[test]
fn every_answer_is_the_models_and_what_is_hidden_changes_no_octet() {
    let (meshes, seed) = (setting("SEGDNS_MESHES", 10_000), setting("SEGDNS_SEED", 1));
    let most = usize::try_from(setting("SEGDNS_FAULTS", 1)).expect("few");
    let next = AtomicU64::new(seed);
    let tally = Mutex::new(Tally::default());
    let failed: Mutex<Vec<(u64, Case, Kind)>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    std::thread::scope(|s| {
        for _ in 0..workers {
            s.spawn(|| {
                let lab = Lab::new();
                let mut own = Tally::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= meshes + setting("SEGDNS_SEED", 1) || failed.lock().unwrap().len() >= most {
                        break;
                    }
                    let case = Case::draw(seed);
                    if let Some(fault) = case.faults(&lab, &mut own).into_iter().next() {
                        failed.lock().unwrap().push((seed, case, fault.kind));
                    }
                }
                tally.lock().unwrap().add(&own);
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let lab = Lab::new();
    let texts: Vec<String> = failed
        .iter()
        .map(|(seed, case, kind)| {
            let (least, fault) = shrink(&lab, case, *kind);
            format!("seed {seed}: {}", shown(&least, &fault))
        })
        .collect();
    println!("{:?}", tally.into_inner().unwrap());
    assert!(texts.is_empty(), "{}", texts.join("\n==========\n"));
}
