//! Which Services the local cluster has: a membership test, no more, so that it costs four octets for each.

use std::sync::Arc;

use crate::mesh::world::{Presence, World};

use super::key::{Hasher, wire_into};

/// How many parts there are; a Service that comes or goes has one of them copied.
const PARTS: usize = 256;

/// Sorted tags of the names `<svc>.<ns>`, by the lowest bits of their hashes. Two names with one tag have it twice, so that
/// one of them may go: [`Services::may_have`] never misses one that is there, and may take another for it.
#[derive(Clone, Debug)]
pub struct Services {
    parts: Box<[Arc<[u32]>]>,
}

impl Default for Services {
    fn default() -> Self {
        let empty: Arc<[u32]> = Arc::new([]);
        Self { parts: (0..PARTS).map(|_| Arc::clone(&empty)).collect() }
    }
}

/// The upper half tags a Service, the lowest octet chooses its part.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "both parts of the hash are wanted")]
fn split(hash: u64) -> (usize, u32) {
    (hash as usize & (PARTS - 1), (hash >> 32) as u32)
}

/// What a Service that comes or goes changes: its part, its tag, and whether it has come.
pub type Change = (usize, u32, bool);

/// What this changes; nothing if it can be no part of a DNS name.
#[must_use]
pub fn change(presence: &Presence, hasher: Hasher) -> Option<Change> {
    let Presence { namespace, name, here } = presence;
    let mut wire = Vec::with_capacity(name.len() + namespace.len() + 2);
    let (part, tag) =
        (wire_into(name, &mut wire) && wire_into(namespace, &mut wire)).then(|| split(hasher.of_wire(&wire)))?;
    Some((part, tag, *here))
}

impl Services {
    /// Those of a world.
    #[must_use]
    pub fn of(world: &World, hasher: Hasher) -> Self {
        Self::default().with(world.services().iter().filter_map(|presence| change(presence, hasher)).collect())
    }

    /// What they are after these have come and gone; each of them was not there, or was, before.
    #[must_use]
    pub fn with(&self, mut changes: Vec<Change>) -> Self {
        changes.sort_unstable();
        let mut next = self.clone();
        for of_part in changes.chunk_by(|one, other| one.0 == other.0) {
            let part = &mut next.parts[of_part[0].0];
            *part = merged(part, of_part);
        }
        next
    }

    /// Whether there may be a Service whose `<svc>.<ns>` has this hash; if there is, it says so.
    #[inline]
    #[must_use]
    pub fn may_have(&self, hash: u64) -> bool {
        let (part, tag) = split(hash);
        self.parts[part].binary_search(&tag).is_ok()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.iter().map(|part| part.len()).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One part after its changes, both sorted.
fn merged(part: &[u32], changes: &[Change]) -> Arc<[u32]> {
    let mut tags: Vec<u32> = Vec::with_capacity(part.len() + changes.len());
    tags.extend(changes.iter().filter(|(.., here)| *here).map(|(_, tag, _)| *tag));
    let mut gone = changes.iter().filter(|(.., here)| !*here).map(|(_, tag, _)| *tag).peekable();
    for tag in part {
        while gone.next_if(|gone| gone < tag).is_some() {}
        if gone.next_if_eq(tag).is_none() {
            tags.push(*tag);
        }
    }
    tags.sort_unstable();
    tags.into()
}

#[cfg(test)]
mod tests {
    use super::super::key::wire_of;
    use super::*;

    fn presence(name: &str, here: bool) -> Presence {
        Presence { namespace: "shop".into(), name: name.into(), here }
    }

    fn has(services: &Services, hasher: Hasher, name: &str) -> bool {
        services.may_have(hasher.of_wire(&wire_of(&format!("{name}.shop")).unwrap()))
    }

    #[test]
    fn none_that_is_there_is_missed_however_they_come_and_go() {
        let hasher = Hasher::new(7);
        let mut services = Services::default();
        let all: Vec<Presence> = (0..5000).map(|n| presence(&format!("s{n}"), true)).collect();
        let changes = |all: &[Presence]| all.iter().filter_map(|one| change(one, hasher)).collect();
        services = services.with(changes(&all[..4000]));
        for one in &all[4000..] {
            services = services.with(changes(std::slice::from_ref(one)));
        }
        assert!(all.iter().all(|one| has(&services, hasher, &one.name)));
        assert!((0..5000).filter(|n| has(&services, hasher, &format!("x{n}"))).count() < 5, "by chance only");
        let (stays, goes) = all.split_at(2500);
        let gone: Vec<Presence> = goes.iter().map(|one| presence(&one.name, false)).collect();
        services = services.with(changes(&gone));
        assert!(stays.iter().all(|one| has(&services, hasher, &one.name)));
        assert!(goes.iter().filter(|one| has(&services, hasher, &one.name)).count() < 5);
        assert_eq!(services.len(), stays.len());
    }

    #[test]
    fn of_two_names_with_one_tag_one_may_go() {
        let (one, other) = ((0, 9, true), (0, 9, true));
        let both = merged(&[3], &[one, other]);
        assert_eq!(*both, [3, 9, 9]);
        assert_eq!(*merged(&both, &[(0, 9, false)]), [3, 9]);
        assert_eq!(*merged(&both, &[(0, 1, false), (0, 9, false), (0, 9, false)]), [3]);
    }
}
