//! R22: how long a published name without an address is SERVFAIL before it is NODATA.

use std::collections::{BTreeMap, HashMap};

use super::entry::UnitKey;
use super::name::Name;

/// The moment of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// Milliseconds of a clock that never jumps.
    pub mono_ms: u64,
    /// Seconds since the epoch, to compare with creation timestamps.
    pub wall_s: i64,
}

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

    /// A name has appeared. `live` is false for the first complete state: its names appeared when their objects were
    /// made, so that a restart does not turn every old NODATA into SERVFAIL.
    pub fn appear(&mut self, unit: &UnitKey, name: &Name, created: i64, live: bool, now: Now) {
        let passed = if live { 0 } else { u64::try_from(now.wall_s.saturating_sub(created)).unwrap_or(0) * 1000 };
        if passed < self.grace_ms {
            let until = now.mono_ms + self.grace_ms - passed;
            self.until.insert(name.clone(), until);
            self.queue.entry((until, unit.clone())).or_default().push(name.clone());
        }
    }

    /// A name is gone.
    pub fn vanish(&mut self, name: &Name) {
        self.until.remove(name);
    }

    /// Whether its grace lasts.
    #[must_use]
    pub fn lasts(&self, name: &Name, now: Now) -> bool {
        self.until.get(name).is_some_and(|until| *until > now.mono_ms)
    }

    /// The units with a name whose grace has ended.
    pub fn end(&mut self, now: Now) -> Vec<UnitKey> {
        let later = self.queue.split_off(&(now.mono_ms + 1, UnitKey::service("", "")));
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
    fn a_new_name_has_grace_and_an_old_one_at_start_has_what_is_left() {
        let mut grace = Grace::new(2000);
        let unit = UnitKey::service("ns", "svc");
        let name = |n: &str| Name::parse(n).unwrap();
        let at = |mono_ms| Now { mono_ms, wall_s: 100 };
        grace.appear(&unit, &name("live"), 0, true, at(10));
        grace.appear(&unit, &name("old"), 50, false, at(10));
        grace.appear(&unit, &name("fresh"), 99, false, at(10));
        assert!(grace.lasts(&name("live"), at(2009)) && !grace.lasts(&name("live"), at(2010)));
        assert!(!grace.lasts(&name("old"), at(10)));
        assert!(grace.lasts(&name("fresh"), at(1009)) && !grace.lasts(&name("fresh"), at(1010)));
        assert_eq!(grace.next(), Some(1010));
        assert_eq!(grace.end(at(1010)), vec![unit.clone()]);
        assert_eq!(grace.end(at(5000)), vec![unit]);
        assert_eq!(grace.next(), None);
    }
}
