//! The names that each unit has given, so that they can be taken back when it no longer gives them.

use std::borrow::Borrow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::{Hash, Hasher};

use foldhash::fast::RandomState;

use crate::mesh::entry::{Unit, UnitKey};
use crate::mesh::name::Name;
use crate::mesh::pack::{Room, put_part, split_part, text};

/// A name, and whether only its unit can have it.
pub type Gift = (Name, bool);

/// See the module's page.
#[derive(Debug, Default)]
pub struct Given {
    /// By namespace.
    services: HashMap<Box<str>, HashSet<Gifts, RandomState>, RandomState>,
    hosts: HashMap<Name, Vec<Gift>, RandomState>,
    /// Room to pack in.
    room: Room,
}

/// What the unit of one Service name has given: `part (its name) | (flags u8 | part (a name))*`. Of a name that begins with
/// that of the Service and its namespace, as nearly all do, only what stands behind that is kept.
struct Gifts(Box<[u8]>);

/// Only this unit can have the name.
const ONLY: u8 = 1;
/// The name is below `<svc>.<ns>`.
const OWN: u8 = 2;

impl Gifts {
    fn new<'n>(namespace: &str, service: &str, names: impl Iterator<Item = (&'n Name, bool)>, room: &mut Room) -> Self {
        let bytes = room.empty();
        put_part(bytes, service.as_bytes());
        for (name, only) in names {
            let flags = if only { ONLY } else { 0 };
            let behind = |name: &'n str| {
                let rest = name.strip_prefix(service)?.strip_prefix('.')?.strip_prefix(namespace)?;
                rest.strip_prefix('.')
            };
            match behind(name.as_str()) {
                Some(rest) => {
                    bytes.push(flags | OWN);
                    put_part(bytes, rest.as_bytes());
                }
                None => {
                    bytes.push(flags);
                    put_part(bytes, name.as_str().as_bytes());
                }
            }
        }
        Self(bytes.as_slice().into())
    }

    fn service(&self) -> &str {
        text(split_part(&self.0).0)
    }

    fn names(&self, namespace: &str) -> Vec<Gift> {
        let (service, mut rest) = split_part(&self.0);
        let service = text(service);
        let mut names = Vec::new();
        while let Some((flags, after)) = rest.split_first() {
            let (part, after) = split_part(after);
            let part = text(part);
            let name = if flags & OWN == 0 { part.to_owned() } else { format!("{service}.{namespace}.{part}") };
            names.push((Name::known(name), flags & ONLY != 0));
            rest = after;
        }
        names
    }
}

impl Borrow<[u8]> for Gifts {
    fn borrow(&self) -> &[u8] {
        split_part(&self.0).0
    }
}

impl Hash for Gifts {
    fn hash<H: Hasher>(&self, state: &mut H) {
        split_part(&self.0).0.hash(state);
    }
}

impl PartialEq for Gifts {
    fn eq(&self, other: &Self) -> bool {
        split_part(&self.0).0 == split_part(&other.0).0
    }
}

impl Eq for Gifts {}

impl fmt::Debug for Gifts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gifts").field(&self.service()).field(&self.names("")).finish()
    }
}

impl Given {
    /// What a unit has given.
    #[must_use]
    pub fn get(&self, unit: Unit<'_>) -> Vec<Gift> {
        match unit {
            Unit::Service { namespace, name } => {
                let gifts = self.services.get(namespace).and_then(|all| all.get(name.as_bytes()));
                gifts.map(|gifts| gifts.names(namespace)).unwrap_or_default()
            }
            Unit::Host(host) => self.hosts.get(host).cloned().unwrap_or_default(),
        }
    }

    /// Notes what a unit gives from now on.
    pub fn put<'n>(&mut self, unit: Unit<'_>, mut names: impl Iterator<Item = (&'n Name, bool)>) {
        let mut names = names.by_ref().peekable();
        match unit {
            Unit::Service { namespace, name } if names.peek().is_none() => {
                let Some(all) = self.services.get_mut(namespace) else { return };
                all.remove(name.as_bytes());
                if all.is_empty() {
                    self.services.remove(namespace);
                }
            }
            Unit::Service { namespace, name } => {
                let gifts = Gifts::new(namespace, name, names, &mut self.room);
                if let Some(all) = self.services.get_mut(namespace) {
                    all.replace(gifts);
                } else {
                    self.services.insert(namespace.into(), HashSet::from_iter([gifts]));
                }
            }
            Unit::Host(host) if names.peek().is_none() => drop(self.hosts.remove(host)),
            Unit::Host(host) => {
                self.hosts.insert(host.clone(), names.map(|(name, only)| (name.clone(), only)).collect());
            }
        }
    }

    /// Namespace and name of every Service unit that has given something.
    pub fn services(&self) -> impl Iterator<Item = (&str, &str)> {
        self.services.iter().flat_map(|(namespace, all)| all.iter().map(move |gifts| (&**namespace, gifts.service())))
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
}
