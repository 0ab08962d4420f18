//! R22: how long a published name without an address is SERVFAIL before it is NODATA.

use std::collections::{BTreeSet, HashMap};

use super::entry::UnitKey;
use super::name::Name;

/// The moment of a batch: milliseconds of a clock that never jumps.
pub type Now = u64;

/// Names that appeared so lately that a missing address may still come.
#[derive(Debug)]
pub struct Grace {
    grace_ms: u64,
    /// By the unit that gives the name: two may want one alias, and each has its own grace.
    until: HashMap<UnitKey, Vec<(Name, u64)>>,
    queue: BTreeSet<(u64, UnitKey)>,
}

impl Grace {
    /// With `answers.grace` in milliseconds.
    #[must_use]
    pub fn new(grace_ms: u64) -> Self {
        Self { grace_ms, until: HashMap::new(), queue: BTreeSet::new() }
    }

    /// Takes another `answers.grace`, for names that appear from now on.
    pub fn set(&mut self, grace_ms: u64) {
        self.grace_ms = grace_ms;
    }

    /// A name without an address has appeared, at the start of the process as at any later time.
    pub fn appear(&mut self, unit: &UnitKey, name: &Name, now: Now) {
        let until = now + self.grace_ms;
        self.vanish(unit, name);
        self.until.entry(unit.clone()).or_default().push((name.clone(), until));
        self.queue.insert((until, unit.clone()));
    }

    /// A name is gone.
    pub fn vanish(&mut self, unit: &UnitKey, name: &Name) {
        self.retain(unit, |(have, _)| have != name);
    }

    /// Whether its grace lasts.
    #[must_use]
    pub fn lasts(&self, unit: &UnitKey, name: &Name, now: Now) -> bool {
        self.until.get(unit).is_some_and(|names| names.iter().any(|(have, until)| have == name && *until > now))
    }

    /// The units with a name whose grace has ended.
    pub fn end(&mut self, now: Now) -> Vec<UnitKey> {
        let later = self.queue.split_off(&(now + 1, UnitKey::service("", "")));
        let ended = std::mem::replace(&mut self.queue, later);
        for (_, unit) in &ended {
            self.retain(unit, |(_, until)| *until > now);
        }
        ended.into_iter().map(|(_, unit)| unit).collect()
    }

    fn retain(&mut self, unit: &UnitKey, keep: impl Fn(&(Name, u64)) -> bool) {
        if let Some(names) = self.until.get_mut(unit) {
            names.retain(keep);
            if names.is_empty() {
                self.until.remove(unit);
            }
        }
    }

    /// When the next grace ends.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        self.queue.first().map(|(until, _)| *until)
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
        grace.vanish(&unit, &name("gone"));
        assert!(grace.lasts(&unit, &name("one"), 2009) && !grace.lasts(&unit, &name("one"), 2010));
        assert!(!grace.lasts(&unit, &name("gone"), 11));
        assert_eq!((grace.end(2009), grace.next()), (vec![], Some(2010)));
        assert_eq!((grace.end(2010), grace.next()), (vec![unit], None));
        assert!(grace.until.is_empty());
    }

    #[test]
    fn another_length_is_that_of_names_that_appear_later() {
        let mut grace = Grace::new(2000);
        let unit = UnitKey::service("ns", "svc");
        let name = |n: &str| Name::parse(n).unwrap();
        grace.appear(&unit, &name("one"), 0);
        grace.set(500);
        grace.appear(&unit, &name("two"), 0);
        let last = |now| [grace.lasts(&unit, &name("one"), now), grace.lasts(&unit, &name("two"), now)];
        assert_eq!((last(499), last(500), last(2000)), ([true, true], [true, false], [false, false]));
    }

    #[test]
    fn two_units_that_want_one_name_have_graces_of_their_own() {
        let mut grace = Grace::new(2000);
        let (old, new) = (UnitKey::service("ns", "old"), UnitKey::service("ns", "new"));
        let name = Name::parse("same.corp").unwrap();
        grace.appear(&old, &name, 0);
        grace.appear(&new, &name, 1000);
        assert_eq!(grace.end(2000), vec![old.clone()]);
        assert!(!grace.lasts(&old, &name, 2000) && grace.lasts(&new, &name, 2000));
        grace.vanish(&old, &name);
        assert!(grace.lasts(&new, &name, 2000));
        assert_eq!(grace.end(3000), vec![new]);
    }
}
