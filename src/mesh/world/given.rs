//! The names that each unit has given, so that they can be taken back when it no longer gives them.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::mesh::entry::{Unit, UnitKey};
use crate::mesh::name::Name;
use crate::mesh::pack::records::Records;
use crate::mesh::pack::{Room, put_part, split_part, text};

/// A name, and whether only its unit can have it.
pub type Gift = (Name, bool);

/// See the module's page.
#[derive(Debug, Default)]
pub struct Given {
    /// What Services have given, by namespace; see [`pack`].
    services: HashMap<Box<str>, Records, RandomState>,
    hosts: HashMap<Name, Vec<Gift>, RandomState>,
    endings: Endings,
    /// Room to pack in.
    room: Room,
}

/// What stands behind `<svc>.<ns>.` in names: zones, so that there are few of them, and each is kept once. Those that come when
/// there are too many are kept with each name.
#[derive(Debug, Default)]
struct Endings {
    /// Each with the number of names that end so; none do where there is room for another.
    all: Vec<(Box<str>, usize)>,
    places: HashMap<Box<str>, u8, RandomState>,
}

impl Endings {
    /// Where the ending of one more name stands, if there is room for it.
    fn take(&mut self, ending: &str) -> Option<u8> {
        let place = match self.places.get(ending) {
            Some(place) => *place,
            None => self.add(ending)?,
        };
        self.all[usize::from(place)].1 += 1;
        Some(place)
    }

    fn add(&mut self, ending: &str) -> Option<u8> {
        let at = self.all.iter().position(|(_, names)| *names == 0).unwrap_or(self.all.len());
        // As many as an octet can tell apart.
        let place = u8::try_from(at).ok()?;
        self.all.resize_with(self.all.len().max(at + 1), Default::default);
        self.all[at].0 = ending.into();
        self.places.insert(ending.into(), place);
        Some(place)
    }

    /// One name less ends so.
    fn give_back(&mut self, place: u8) {
        let (ending, names) = &mut self.all[usize::from(place)];
        *names -= 1;
        if *names == 0 {
            self.places.remove(&std::mem::take(ending));
        }
        while self.all.pop_if(|(_, names)| *names == 0).is_some() {}
    }
}

/// Only this unit can have the name.
const ONLY: u8 = 1;
/// The name is `<svc>.<ns>` and the ending of this place.
const OWN: u8 = 2;

/// What the unit of one Service name has given:
///
/// ```text
/// gifts   part (the Service's name) | gift*
/// gift    flags u8 | part (a name), or the place of its ending u8
/// ```
fn pack<'n>(
    (namespace, service): (&str, &str),
    names: impl Iterator<Item = (&'n Name, bool)>,
    endings: &mut Endings,
    bytes: &mut Vec<u8>,
) {
    put_part(bytes, service.as_bytes());
    for (name, only) in names {
        let flags = if only { ONLY } else { 0 };
        let behind = |name: &'n str| {
            let rest = name.strip_prefix(service)?.strip_prefix('.')?.strip_prefix(namespace)?;
            rest.strip_prefix('.')
        };
        if let Some(place) = behind(name.as_str()).and_then(|ending| endings.take(ending)) {
            bytes.extend_from_slice(&[flags | OWN, place]);
        } else {
            bytes.push(flags);
            put_part(bytes, name.as_str().as_bytes());
        }
    }
}

/// A name that was given.
enum Packed<'p> {
    /// As it is.
    Whole(&'p [u8]),
    /// `<svc>.<ns>` and the ending of this place.
    Own(u8),
}

/// The names, and whether only this unit can have each.
fn names(gifts: &[u8]) -> impl Iterator<Item = (Packed<'_>, bool)> {
    let mut rest = split_part(gifts).1;
    std::iter::from_fn(move || {
        let (flags, after) = rest.split_first()?;
        let name;
        if flags & OWN == 0 {
            let (part, after) = split_part(after);
            (name, rest) = (Packed::Whole(part), after);
        } else {
            let (place, after) = after.split_first()?;
            (name, rest) = (Packed::Own(*place), after);
        }
        Some((name, flags & ONLY != 0))
    })
}

fn unpack(namespace: &str, gifts: &[u8], endings: &Endings) -> Vec<Gift> {
    let service = text(split_part(gifts).0);
    let name = |name: Packed<'_>| match name {
        Packed::Whole(name) => text(name).to_owned(),
        Packed::Own(place) => format!("{service}.{namespace}.{}", endings.all[usize::from(place)].0),
    };
    names(gifts).map(|(packed, only)| (Name::known(name(packed)), only)).collect()
}

impl Given {
    /// What a unit has given.
    #[must_use]
    pub fn get(&self, unit: Unit<'_>) -> Vec<Gift> {
        match unit {
            Unit::Service { namespace, name } => {
                let gifts = self.services.get(namespace).and_then(|all| all.get(name.as_bytes()));
                gifts.map(|gifts| unpack(namespace, gifts, &self.endings)).unwrap_or_default()
            }
            Unit::Host(host) => self.hosts.get(host).cloned().unwrap_or_default(),
        }
    }

    /// Notes what a unit gives from now on.
    pub fn put<'n>(&mut self, unit: Unit<'_>, mut names: impl Iterator<Item = (&'n Name, bool)>) {
        let mut names = names.by_ref().peekable();
        self.forget_endings(unit);
        match unit {
            Unit::Service { namespace, name } if names.peek().is_none() => {
                let Some(all) = self.services.get_mut(namespace) else { return };
                all.remove(name.as_bytes());
                if all.is_empty() {
                    self.services.remove(namespace);
                }
            }
            Unit::Service { namespace, name } => {
                let bytes = self.room.empty();
                pack((namespace, name), names, &mut self.endings, bytes);
                // Most namespaces are there already: a name is only copied for one that is not.
                if let Some(all) = self.services.get_mut(namespace) {
                    all.put(bytes);
                } else {
                    self.services.entry(namespace.into()).or_default().put(bytes);
                }
            }
            Unit::Host(host) if names.peek().is_none() => drop(self.hosts.remove(host)),
            Unit::Host(host) => {
                self.hosts.insert(host.clone(), names.map(|(name, only)| (name.clone(), only)).collect());
            }
        }
    }

    /// What a Service has given no longer counts among the names of an ending.
    fn forget_endings(&mut self, unit: Unit<'_>) {
        let Unit::Service { namespace, name } = unit else { return };
        let gifts = self.services.get(namespace).and_then(|all| all.get(name.as_bytes()));
        for (name, _) in gifts.into_iter().flat_map(self::names) {
            if let Packed::Own(place) = name {
                self.endings.give_back(place);
            }
        }
    }

    /// Gives back room for more; see [`Records::trim`].
    pub fn trim(&mut self) {
        self.services.values_mut().for_each(Records::trim);
    }

    /// Namespace and name of every Service unit that has given something.
    pub fn services(&self) -> impl Iterator<Item = (&str, &str)> {
        let all = self.services.iter().flat_map(|(namespace, all)| all.iter().map(move |gifts| (namespace, gifts)));
        all.map(|(namespace, gifts)| (&**namespace, text(split_part(gifts).0)))
    }

    /// Every other unit that has.
    pub fn hosts(&self) -> impl Iterator<Item = &Name> {
        self.hosts.keys()
    }

    /// Every unit that has given something.
    pub fn units(&self) -> impl Iterator<Item = UnitKey> {
        let services = self.services().map(|(namespace, name)| UnitKey::service(namespace, name));
        services.chain(self.hosts().cloned().map(UnitKey::Host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many endings are kept once at most.
    const MOST: usize = 256;

    #[test]
    fn what_was_given_can_be_taken_back_wherever_it_lies() {
        let name = |text: &str| Name::parse(text).unwrap();
        let gifts = [
            (name("web.shop.mesh.acme"), true),
            (name("web-0.web.shop.mesh.acme"), true),
            (name("web.shop.svc.cluster.local"), true),
            (name("web.corp"), false),
            (name("webx.shop.mesh.acme"), false),
        ];
        let units = [UnitKey::service("shop", "web"), UnitKey::Host(name("far.example"))];
        let mut given = Given::default();
        for unit in &units {
            given.put(unit.into(), gifts.iter().map(|(name, only)| (name, *only)));
            assert_eq!(given.get(unit.into()), gifts);
            assert_eq!(given.get(Unit::Service { namespace: "shop", name: "we" }), []);
        }
        assert_eq!(given.units().collect::<Vec<_>>(), units);
        units.iter().for_each(|unit| given.put(unit.into(), std::iter::empty()));
        assert!(given.services.is_empty() && given.hosts.is_empty());
    }

    #[test]
    fn there_may_be_more_endings_than_are_kept_once_and_none_is_kept_for_nothing() {
        let mut given = Given::default();
        let units = ["web", "db"].map(|name| Unit::Service { namespace: "shop", name });
        for round in 0..3 {
            for [unit, name] in [[0, 1], [1, 0], [0, 1]] {
                let zone = |n: usize| format!("{}.shop.zone-{}.acme", ["web", "db"][unit], n + 100 * round + 50 * name);
                let gift = |n: usize| (Name::parse(&zone(n)).unwrap(), n.is_multiple_of(2));
                let all: Vec<Gift> = (0..MOST + 9).map(gift).collect();
                given.put(units[unit], all.iter().map(|(name, only)| (name, *only)));
                assert_eq!((given.get(units[unit]), given.endings.all.len()), (all, MOST));
                let names: usize = given.endings.all.iter().map(|(_, names)| names).sum();
                assert!(names >= MOST, "{names}");
            }
        }
        units.iter().for_each(|unit| given.put(*unit, std::iter::empty()));
        assert!(given.endings.all.is_empty() && given.endings.places.is_empty(), "{:?}", given.endings);
    }
}
