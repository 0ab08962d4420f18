//! The objects, and the history of their changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fault::Faults;
use super::object::Object;
use super::resource::{Key, Resource, built_in};

/// Namespace and name, in the order of etcd's keys.
pub(super) type Place = (String, String);

/// The counter before the first write.
pub(super) const FIRST_VERSION: u64 = 200;

/// What the server holds, behind one lock.
#[derive(Debug)]
pub(super) struct State {
    pub(super) version: u64,
    /// What is older than this is refused.
    pub(super) compacted: u64,
    /// What is older than this is not there any more, not even for streams that were open before the compaction.
    pub(super) floor: u64,
    pub(super) tables: BTreeMap<Key, Table>,
    pub(super) managed_fields: bool,
    pub(super) access: Access,
    pub(super) faults: Faults,
    uids: u64,
}

/// Who may do what.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) token: String,
    pub(super) user: String,
    /// Without rules everything is allowed.
    pub(super) rules: Option<Vec<Rule>>,
}

/// A rule of the server's RBAC policy. `*` in a list stands for everything.
#[derive(Debug, Clone, Default)]
pub struct Rule {
    /// Where it holds; `None` is everywhere, and at the cluster scope.
    pub namespace: Option<String>,
    /// API groups, the core group being `""`.
    pub groups: Vec<String>,
    /// Plurals.
    pub resources: Vec<String>,
    /// `list`, `watch`, `get`.
    pub verbs: Vec<String>,
}

/// The objects of one resource.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) resource: Arc<Resource>,
    pub(super) objects: BTreeMap<Place, Arc<Object>>,
    pub(super) log: Vec<Event>,
    /// Grows when a CRD comes or goes: the streams of the former one end.
    pub(super) generation: u64,
    /// Whether its CRD has been removed.
    pub(super) gone: bool,
}

/// A change. It has `old` unless the object came, `new` unless it went.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) version: u64,
    pub(super) old: Option<Arc<Object>>,
    pub(super) new: Option<Arc<Object>>,
}

impl State {
    pub(super) fn new() -> Self {
        let mut state = Self {
            version: FIRST_VERSION,
            compacted: 0,
            floor: 0,
            tables: BTreeMap::new(),
            managed_fields: false,
            access: Access { token: "test-token".to_owned(), user: "nobody".to_owned(), rules: None },
            faults: Faults::default(),
            uids: 0,
        };
        built_in().into_iter().for_each(|resource| state.install(resource));
        state
    }

    /// Makes a resource known, or replaces its versions.
    pub(super) fn install(&mut self, resource: Resource) {
        match self.tables.entry(resource.key()) {
            Entry::Vacant(slot) => {
                slot.insert(Table::new(resource));
            }
            Entry::Occupied(mut slot) => {
                let table = slot.get_mut();
                table.generation += u64::from(table.gone);
                table.gone = false;
                table.resource = Arc::new(resource);
            }
        }
    }

    /// Deletes all its objects, and then forgets the resource.
    pub(super) fn uninstall(&mut self, key: &Key) {
        let Some(table) = self.tables.get_mut(key) else { return };
        let places: Vec<Place> = table.objects.keys().cloned().collect();
        for place in places {
            self.remove(key, &place);
        }
        if let Some(table) = self.tables.get_mut(key) {
            table.gone = true;
        }
    }

    /// The resource, if it is there.
    pub(super) fn table(&self, key: &Key) -> Option<&Table> {
        self.tables.get(key).filter(|table| !table.gone)
    }

    /// The key of an object's resource.
    pub(super) fn key_of(&self, api_version: &str, kind: &str) -> Option<Key> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let is_it = |table: &&Table| !table.gone && table.resource.group == group && table.resource.kind == kind;
        self.tables.values().find(is_it).map(|table| table.resource.key())
    }

    /// Creates or replaces an object, and returns its version.
    ///
    /// # Panics
    /// It is of no resource that is installed, or has no name.
    pub(super) fn put(&mut self, object: Value) -> u64 {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let key = self.key_of(api_version, kind).unwrap_or_else(|| panic!("no resource for {api_version} {kind}"));
        let api_version = api_version.to_owned();
        let Value::Object(mut object) = object else { panic!("no object: {object}") };
        self.version += 1;
        let version = self.version;
        let place = self.complete(&key, &mut object, &api_version);
        let new = Arc::new(Object::encode(&object, version));
        let table = self.tables.get_mut(&key).expect("found by its kind");
        let old = table.objects.insert(place, Arc::clone(&new));
        table.log.push(Event { version, old, new: Some(new) });
        version
    }

    /// Sets what the server sets: uid, resourceVersion, creationTimestamp.
    fn complete(&mut self, key: &Key, object: &mut Map<String, Value>, api_version: &str) -> Place {
        let table = &self.tables[key];
        let metadata = object.entry("metadata").or_insert_with(|| json!({}));
        if table.resource.namespaced && metadata["namespace"].is_null() {
            metadata["namespace"] = "default".into();
        }
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let place = (text("namespace"), text("name"));
        assert!(!place.1.is_empty(), "an object without a name: {metadata}");
        let old = table.objects.get(&place).map(|old| old.value());
        let mut keep = |field: &str, new: &dyn Fn() -> String| {
            if metadata[field].is_null() {
                let old = old.as_ref().map(|old| old["metadata"][field].clone()).filter(|v| !v.is_null());
                metadata[field] = old.unwrap_or_else(|| new().into());
            }
        };
        self.uids += 1;
        keep("uid", &|| format!("00000000-0000-4000-8000-{:012x}", self.uids));
        keep("creationTimestamp", &now);
        metadata["resourceVersion"] = self.version.to_string().into();
        if self.managed_fields {
            metadata["managedFields"] = managed_fields(api_version);
        }
        place
    }

    /// Deletes an object; the version of the deletion.
    pub(super) fn remove(&mut self, key: &Key, place: &Place) -> Option<u64> {
        let old = self.tables.get_mut(key)?.objects.remove(place)?;
        self.version += 1;
        self.tables.get_mut(key)?.log.push(Event { version: self.version, old: Some(old), new: None });
        Some(self.version)
    }

    /// Refuses everything older than now. Streams that are open may still read what they have not read yet, until the
    /// next compaction: the server's watch cache outlives etcd's compaction, too.
    pub(super) fn compact(&mut self) {
        self.floor = self.compacted;
        self.compacted = self.version;
        let floor = self.floor;
        self.tables.values_mut().for_each(|table| table.log.retain(|event| event.version > floor));
    }

    /// Goes back to an earlier version, as a restored backup does.
    ///
    /// # Panics
    /// That version has been compacted away.
    pub(super) fn rewind(&mut self, to: u64) {
        assert!(to >= self.floor, "version {to} is compacted away ({})", self.floor);
        for table in self.tables.values_mut() {
            while let Some(event) = table.log.pop_if(|event| event.version > to) {
                let place = event.place();
                match event.old {
                    Some(old) => table.objects.insert(place, old),
                    None => table.objects.remove(&place),
                };
            }
        }
        self.version = to;
        self.compacted = self.compacted.min(to);
    }
}

impl Table {
    fn new(resource: Resource) -> Self {
        Self { resource: Arc::new(resource), objects: BTreeMap::new(), log: Vec::new(), generation: 0, gone: false }
    }

    /// The changes after a version.
    pub(super) fn after(&self, version: u64) -> &[Event] {
        &self.log[self.log.partition_point(|event| event.version <= version)..]
    }

    /// All objects as they were at a version that is not compacted, in order.
    pub(super) fn at(&self, version: u64) -> Vec<Arc<Object>> {
        let mut before: BTreeMap<Place, Option<Arc<Object>>> = BTreeMap::new();
        // Backwards, so that the oldest change has the last word.
        for event in self.after(version).iter().rev() {
            before.insert(event.place(), event.old.clone());
        }
        if before.is_empty() {
            return self.objects.values().cloned().collect();
        }
        let mut objects = self.objects.clone();
        for (place, old) in before {
            match old {
                Some(old) => objects.insert(place, old),
                None => objects.remove(&place),
            };
        }
        objects.into_values().collect()
    }
}

impl Event {
    fn place(&self) -> Place {
        let object = self.new.as_ref().or(self.old.as_ref()).expect("a change of something");
        (object.namespace.clone(), object.name.clone())
    }
}

impl Access {
    /// Whether a verb is allowed.
    pub(super) fn allows(&self, verb: &str, group: &str, resource: &str, namespace: Option<&str>) -> bool {
        let Some(rules) = &self.rules else { return true };
        let has = |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
        rules.iter().any(|rule| {
            rule.namespace.as_deref().is_none_or(|ns| namespace == Some(ns))
                && has(&rule.groups, group)
                && has(&rule.resources, resource)
                && has(&rule.verbs, verb)
        })
    }
}

/// The time, in seconds, as the server writes it.
fn now() -> String {
    let now = jiff::Timestamp::now();
    jiff::Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()
}

/// About what kubectl leaves behind on a Service, 500 octets.
fn managed_fields(api_version: &str) -> Value {
    json!([{
        "manager": "kubectl-client-side-apply",
        "operation": "Update",
        "apiVersion": api_version,
        "time": "2026-11-20T12:45:30Z",
        "fieldsType": "FieldsV1",
        "fieldsV1": {
            "f:metadata": {
                "f:annotations": {".": {}, "f:kubectl.kubernetes.io/last-applied-configuration": {}},
                "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:app.kubernetes.io/part-of": {}},
            },
            "f:spec": {
                "f:internalTrafficPolicy": {},
                "f:ports": {
                    ".": {},
                    "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:name": {}, "f:port": {}, "f:targetPort": {}},
                },
                "f:selector": {},
                "f:sessionAffinity": {},
                "f:type": {},
            },
        },
    }])
}
