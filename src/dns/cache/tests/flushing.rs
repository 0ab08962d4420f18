//! Names that are forgotten on demand.

use super::*;

const NAMES: [&str; 6] =
    ["example.", "www.example.", "a.www.example.", "xwww.example.", "www.example.org.", "example.www.example."];

#[test]
fn a_name_and_everything_below_it_is_forgotten() {
    let cases: [(Option<&str>, &[&str]); 7] = [
        (Some("www.example."), &["www.example.", "a.www.example.", "example.www.example."]),
        (Some("a.www.example."), &["a.www.example."]),
        (Some("example."), &["example.", "www.example.", "a.www.example.", "xwww.example.", "example.www.example."]),
        (Some("org."), &["www.example.org."]),
        (Some("none.example."), &[]),
        (Some("."), &NAMES),
        (None, &NAMES),
    ];
    for (what, gone) in cases {
        let cache = Cache::new(4 * MIB, OPTIONS, hasher());
        for owner in NAMES {
            keep(&cache, owner, &address(owner, 300), at(0.0));
            cache.store(&Question { dnssec_ok: true, ..question(&key(owner), 1) }, true, &address(owner, 300), at(0.0));
            cache.store_denial(question(&key(owner), 1).name, &nxdomain(owner, 9), at(0.0));
        }
        assert_eq!(cache.stats().entries, 18);
        let below = what.map(key);
        let below = below.as_ref().map(|below| question(below, 1).name);
        // The proof of a name above denies what is below, and goes with it.
        let denied =
            |owner: &str| gone.contains(&owner) || what.is_some_and(|what| what.ends_with(&format!(".{owner}")));
        let proofs = NAMES.iter().filter(|owner| denied(owner)).count();
        assert_eq!(cache.flush(below), 2 * gone.len() + proofs, "{what:?}");
        for owner in NAMES {
            assert_eq!(state(&cache, owner, at(1.0)).is_none(), gone.contains(&owner), "{what:?}: {owner}");
            let proof = cache.load_denial(question(&key(owner), 1).name, at(1.0), Look::Use);
            assert_eq!(proof.is_none(), denied(owner), "{what:?}: {owner}");
        }
        assert_eq!(cache.stats().entries, 18 - 2 * gone.len() - proofs);
        assert_eq!(cache.stats().evictions, 0, "this is no eviction");
        keep(&cache, "www.example.", &address("www.example.", 300), at(2.0));
        assert!(state(&cache, "www.example.", at(3.0)).is_some(), "the cache goes on");
    }
}

#[test]
fn an_empty_cache_takes_no_octets() {
    let cache = cache();
    keep(&cache, "www.example.", &address("www.example.", 300), at(0.0));
    assert!(cache.stats().octets > 0);
    assert_eq!(cache.flush(None), 1);
    assert_eq!(cache.stats(), Stats::default());
}

#[test]
fn a_proof_goes_with_the_names_that_it_denies() {
    for (name, gone) in
        [("web.shop.svc.cluster.local.", 1), ("svc.cluster.local.", 1), ("local.", 1), ("pod.cluster.local.", 0)]
    {
        let cache = cache();
        let proof = key("svc.cluster.local.");
        let proof = proof.span(proof.all());
        let kept = cache.store_denial(proof, &nxdomain("x.shop.svc.cluster.local.", 20), at(0.0));
        assert!(matches!(kept, Kept::As { .. }), "{kept:?}");
        let flushed = key(name);
        assert_eq!(cache.flush(Some(flushed.span(flushed.all()))), gone, "{name}");
        let left = cache.load_denial(proof, at(1.0), Look::Peek).is_some();
        assert_eq!(left, gone == 0, "{name}");
    }
}
