//! R22: how long a published name without an address is SERVFAIL before it is NODATA.

use std::collections::{BTreeMap, HashMap};

use super::entry::UnitKey;
use super::name::Name;

/// The moment of a batch: milliseconds of a clock that never jumps.
pub type Now = u64;

/// Names that appeared so lately that a missing address may still come.
#[derive(Debug)]
pub struct Grace {
    grace_ms: u64,
    until: HashMap<Name, u64>,
    queue: BTreeMap<(u64, UnitKey), Vec<Name>>,
}

impl Grace {
    /// With `answers.grace` in milliseconds.
    #[must_use]
    pub fn new(grace_ms: u64) -> Self {
        Self { grace_ms, until: HashMap::new(), queue: BTreeMap::new() }
    }

    /// A name without an address has appeared, at the start of the process as at any later time.
    pub fn appear(&mut self, unit: &UnitKey, name: &Name, now: Now) {
        let until = now + self.grace_ms;
        self.until.insert(name.clone(), until);
        self.queue.entry((until, unit.clone())).or_default().push(name.clone());
    }

    /// A name is gone.
    pub fn vanish(&mut self, name: &Name) {
        self.until.remove(name);
    }

    /// Whether its grace lasts.
    #[must_use]
    pub fn lasts(&self, name: &Name, now: Now) -> bool {
        self.until.get(name).is_some_and(|until| *until > now)
    }

    /// The units with a name whose grace has ended.
    pub fn end(&mut self, now: Now) -> Vec<UnitKey> {
        let later = self.queue.split_off(&(now + 1, UnitKey::service("", "")));
        let ended = std::mem::replace(&mut self.queue, later);
        let mut units = Vec::new();
        for ((until, unit), names) in ended {
            for name in names.iter().filter(|n| self.until.get(n) == Some(&until)).collect::<Vec<_>>() {
                self.until.remove(name);
            }
            units.push(unit);
        }
        units
    }

    /// When the next grace ends.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.queue.keys().next().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_grace_from_when_it_appeared_until_it_vanishes() {
        let mut grace = Grace::new(2000);
        let unit = UnitKey::service("ns", "svc");
        let name = |n: &str| Name::parse(n).unwrap();
        grace.appear(&unit, &name("one"), 10);
        grace.appear(&unit, &name("gone"), 10);
        grace.vanish(&name("gone"));
        assert!(grace.lasts(&name("one"), 2009) && !grace.lasts(&name("one"), 2010));
        assert!(!grace.lasts(&name("gone"), 11));
        assert_eq!((grace.end(2009), grace.next()), (vec![], Some(2010)));
        assert_eq!((grace.end(2010), grace.next()), (vec![unit], None));
    }
}
