//! What followers tell, against the changes that come of it.

use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::mesh::object::LOCAL;
use crate::watch::decode::item_as;
use crate::watch::item::Item;

const KINDS: [Kind; 4] = [Kind::Namespace, Kind::Service, Kind::EndpointSlice, Kind::Segment];

/// A cluster, its sinks, and what it tells.
struct Told {
    gather: Gather,
    updates: UnboundedReceiver<Update>,
}

impl Told {
    fn new(held: bool) -> Self {
        let (out, updates) = mpsc::unbounded_channel();
        Self { gather: Gather::new(LOCAL, &KINDS, held, out), updates }
    }

    /// A list of one kind, told to its end.
    fn list(&mut self, kind: Kind, objects: &[Value]) -> Vec<String> {
        let mut sink = self.gather.sink(kind);
        sink.begin();
        for object in objects {
            sink.seen(decoded(kind, object));
        }
        sink.complete();
        self.news()
    }

    fn applied(&mut self, kind: Kind, object: &Value) -> Vec<String> {
        self.gather.sink(kind).applied(decoded(kind, object));
        self.news()
    }

    fn deleted(&mut self, kind: Kind, namespace: &str, name: &str) -> Vec<String> {
        self.gather.sink(kind).deleted(namespace, name);
        self.news()
    }

    /// The updates since the last time, a line for each, its changes in a row.
    fn news(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while let Ok(update) = self.updates.try_recv() {
            let mut words: Vec<String> = update.changes.iter().map(word).collect();
            // Lists are told in no order of their own.
            if update.received.is_none() {
                words.sort();
            }
            out.push(words.join(" "));
        }
        out
    }
}

fn decoded(kind: Kind, object: &Value) -> Decoded {
    let text = object.to_string();
    let item: Item<'_> = serde_json::from_str(&text).expect("an item");
    item_as(kind, &item)
}

fn word(change: &Change) -> String {
    match change {
        Change::Apply { object, .. } => format!("+{}", place_of(&object.key()).replace(' ', ":")),
        Change::Delete { key, .. } => format!("-{}", place_of(key).replace(' ', ":")),
        Change::Source { place, faults, .. } => format!("!{}={}", place.replace(' ', ":"), faults.len()),
        Change::Synced { .. } => "synced".into(),
        other => format!("{other:?}"),
    }
}

fn namespace(name: &str, scope: Option<&str>) -> Value {
    json!({"metadata": {"name": name, "labels": scope.map_or(json!({}), |s| json!({"solo.io/service-scope": s}))}})
}

fn service(name: &str, scope: Option<&str>) -> Value {
    let labels = scope.map_or(json!({}), |s| json!({"solo.io/service-scope": s}));
    json!({"metadata": {"namespace": "shop", "name": name, "labels": labels}, "spec": {"clusterIPs": ["10.0.0.1"]}})
}

fn slice(service: &str, ip: &str) -> Value {
    json!({
        "metadata": {"namespace": "shop", "name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "endpoints": [{"addresses": [ip]}],
    })
}

fn segment(domain: &str) -> Value {
    json!({"metadata": {"namespace": "istio-system", "name": "acme"}, "spec": {"domain": domain}})
}

/// A cluster whose first state is out: web is published, db is not.
fn following() -> Told {
    let mut told = Told::new(false);
    told.list(Kind::Namespace, &[namespace("shop", None)]);
    told.list(Kind::Segment, &[]);
    told.list(Kind::EndpointSlice, &[slice("web", "10.1.0.1"), slice("db", "10.1.0.2")]);
    let first = told.list(Kind::Service, &[service("web", Some("global")), service("db", None)]);
    assert_eq!(first, ["+EndpointSlice:shop/web-1 +Namespace:shop +Service:shop/db +Service:shop/web synced"]);
    told
}

const NONE: [&str; 0] = [];

#[test]
fn the_first_state_is_told_at_once_but_for_segments_which_make_zones_known() {
    let mut told = Told::new(false);
    assert_eq!(told.list(Kind::Namespace, &[namespace("shop", None)]), NONE);
    assert_eq!(told.list(Kind::Segment, &[segment("mesh.acme")]), ["+Segment:istio-system/acme"]);
    assert_eq!(told.list(Kind::Service, &[service("web", None)]), NONE);
    // A watch may already tell more while another kind is still being listed.
    assert_eq!(told.applied(Kind::Service, &service("late", None)), NONE);
    assert_eq!(told.deleted(Kind::Service, "shop", "web"), NONE);
    let all = ["+Namespace:shop +Service:shop/late +Service:shop/web -Service:shop/web synced"];
    assert_eq!(told.list(Kind::EndpointSlice, &[]), all);
}

#[tokio::test]
async fn what_is_held_waits_for_its_release() {
    let mut told = Told::new(true);
    for kind in KINDS {
        assert_eq!(told.list(kind, &[]), NONE);
    }
    told.gather.completed().await;
    assert_eq!(told.applied(Kind::Namespace, &namespace("shop", None)), NONE);
    told.gather.release();
    assert_eq!(told.news(), ["+Namespace:shop synced"]);
    assert_eq!(told.applied(Kind::Namespace, &namespace("back", None)), ["+Namespace:back"]);
}

#[test]
fn only_what_differs_is_told_and_a_new_list_removes_what_is_gone() {
    let mut told = following();
    assert_eq!(told.applied(Kind::Service, &service("web", Some("global"))), NONE);
    assert_eq!(told.applied(Kind::Service, &service("web", Some("segment"))), ["+Service:shop/web"]);
    assert_eq!(told.list(Kind::Service, &[service("web", Some("segment")), service("db", None)]), NONE);
    let relisted = told.list(Kind::Service, &[service("web", Some("segment")), service("new", None)]);
    assert_eq!(relisted, ["+Service:shop/new -Service:shop/db"]);
    assert_eq!(told.deleted(Kind::Service, "shop", "db"), NONE, "told gone already");
    // A list that breaks off takes nothing back, and the next one corrects it.
    let mut sink = told.gather.sink(Kind::Service);
    sink.begin();
    sink.seen(decoded(Kind::Service, &service("short", None)));
    // One that goes while it is told was seen by nobody.
    sink.seen(decoded(Kind::Service, &service("gone", None)));
    sink.deleted("shop", "gone");
    assert_eq!(told.news(), NONE);
    let relisted = told.list(Kind::Service, &[service("web", Some("segment")), service("new", None)]);
    let broke_off = "+Service:shop/gone +Service:shop/short -Service:shop/gone -Service:shop/short";
    assert_eq!(relisted, [broke_off]);
    sink.absent();
    assert_eq!(told.news(), ["-Service:shop/new -Service:shop/web"]);
    told.gather.close();
    assert_eq!(told.applied(Kind::Service, &service("web", None)), NONE);
}

#[test]
fn slices_are_told_while_their_service_is_published() {
    let mut told = following();
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("db", "10.1.0.3")), NONE);
    // In one update, so that the Service is never seen without its endpoints.
    let both = ["+Service:shop/db +EndpointSlice:shop/db-1"];
    assert_eq!(told.applied(Kind::Service, &service("db", Some("segment"))), both);
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("db", "10.1.0.4")), ["+EndpointSlice:shop/db-1"]);
    assert_eq!(told.applied(Kind::Service, &service("db", None)), ["+Service:shop/db"]);
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("db", "10.1.0.5")), ["-EndpointSlice:shop/db-1"]);
    // The namespace's label counts where the Service has none.
    let both = ["+Namespace:shop +EndpointSlice:shop/db-1"];
    assert_eq!(told.applied(Kind::Namespace, &namespace("shop", Some("global"))), both);
    assert_eq!(told.applied(Kind::Service, &service("db", Some("cluster"))), ["+Service:shop/db"]);
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("db", "10.1.0.6")), ["-EndpointSlice:shop/db-1"]);
    // One that was never told is not told gone either.
    assert_eq!(told.deleted(Kind::EndpointSlice, "shop", "db-1"), NONE);
    assert_eq!(told.deleted(Kind::EndpointSlice, "shop", "web-1"), ["-EndpointSlice:shop/web-1"]);
    // One that comes before its Service.
    assert_eq!(told.deleted(Kind::Namespace, "", "shop"), ["-Namespace:shop"]);
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("late", "10.1.0.7")), NONE);
    let both = ["+Service:shop/late +EndpointSlice:shop/late-1"];
    assert_eq!(told.applied(Kind::Service, &service("late", Some("global"))), both);
}

#[test]
fn a_list_that_publishes_a_service_tells_its_slices_as_they_are_at_its_end() {
    let mut told = following();
    let mut sink = told.gather.sink(Kind::Service);
    sink.begin();
    sink.seen(decoded(Kind::Service, &service("db", Some("global"))));
    // The watch of slices goes on meanwhile.
    assert_eq!(told.applied(Kind::EndpointSlice, &slice("db", "10.1.0.9")), ["+EndpointSlice:shop/db-1"]);
    sink.seen(decoded(Kind::Service, &service("web", Some("global"))));
    sink.complete();
    assert_eq!(told.news(), ["+Service:shop/db"], "told as it is now already");

    let mut told = following();
    let mut sink = told.gather.sink(Kind::Service);
    sink.begin();
    sink.seen(decoded(Kind::Service, &service("db", Some("global"))));
    assert_eq!(told.deleted(Kind::EndpointSlice, "shop", "db-1"), NONE);
    sink.seen(decoded(Kind::Service, &service("web", Some("global"))));
    sink.complete();
    assert_eq!(told.news(), ["+Service:shop/db"], "what is gone does not come back");

    let mut told = following();
    let both = ["+EndpointSlice:shop/db-1 +Service:shop/db"];
    let services = [service("web", Some("global")), service("db", Some("global"))];
    assert_eq!(told.list(Kind::Service, &services), both, "what waited is told with its Service");
}

#[test]
fn a_list_of_slices_does_not_take_back_what_was_published_meanwhile() {
    let mut told = following();
    assert_eq!(told.applied(Kind::Service, &service("web", None)), ["+Service:shop/web"]);
    let mut sink = told.gather.sink(Kind::EndpointSlice);
    sink.begin();
    sink.seen(decoded(Kind::EndpointSlice, &slice("web", "10.1.0.8")));
    let both = ["+Service:shop/web +EndpointSlice:shop/web-1"];
    assert_eq!(told.applied(Kind::Service, &service("web", Some("global"))), both);
    sink.seen(decoded(Kind::EndpointSlice, &slice("db", "10.1.0.2")));
    sink.complete();
    let mut last = Vec::new();
    while let Ok(update) = told.updates.try_recv() {
        last.extend(update.changes.iter().map(word));
    }
    assert_eq!(last, ["-EndpointSlice:shop/web-1", "+EndpointSlice:shop/web-1"]);
}

#[test]
fn an_object_that_cannot_be_used_keeps_its_last_version_until_it_can() {
    let mut told = following();
    let broken = json!({"metadata": {"namespace": "shop", "name": "web", "labels": "none"}, "spec": {}});
    assert_eq!(told.applied(Kind::Service, &broken), ["!Service:shop/web=1"]);
    assert_eq!(told.list(Kind::Service, &[broken.clone(), service("db", None)]), ["!Service:shop/web=1"]);
    // One that was never read is there all the same.
    let other = json!({"metadata": {"namespace": "shop", "name": "odd", "labels": "none"}, "spec": {}});
    assert_eq!(told.applied(Kind::Service, &other), ["+Service:shop/odd !Service:shop/odd=1"]);
    assert_eq!(told.deleted(Kind::Service, "shop", "odd"), ["!Service:shop/odd=0 -Service:shop/odd"]);
    let mended = ["!Service:shop/web=0 +Service:shop/web"];
    assert_eq!(told.applied(Kind::Service, &service("web", Some("global"))), mended);
    assert_eq!(told.applied(Kind::Service, &broken), ["!Service:shop/web=1"]);
    assert_eq!(told.deleted(Kind::Service, "shop", "web"), ["!Service:shop/web=0 -Service:shop/web"]);
}

#[test]
fn a_saved_state_is_corrected_by_the_first_complete_one_as_a_whole() {
    let objects = [
        (Kind::Namespace, namespace("shop", None)),
        (Kind::Namespace, namespace("old", None)),
        (Kind::Segment, segment("mesh.acme")),
        (Kind::Service, service("web", Some("global"))),
        (Kind::EndpointSlice, slice("web", "10.1.0.1")),
    ];
    let saved: Vec<Object> = objects
        .iter()
        .map(|(kind, object)| match decoded(*kind, object) {
            Decoded::Object(object, _) => object,
            other => panic!("{other:?}"),
        })
        .collect();
    let mut told = Told::new(false);
    told.gather.seed(&saved);
    assert_eq!(told.list(Kind::Segment, &[segment("mesh.other")]), NONE);
    assert_eq!(told.list(Kind::Namespace, &[namespace("shop", None)]), NONE);
    assert_eq!(told.list(Kind::EndpointSlice, &[slice("web", "10.1.0.2"), slice("db", "10.1.0.3")]), NONE);
    let all = ["+EndpointSlice:shop/web-1 +Segment:istio-system/acme -Namespace:old synced"];
    assert_eq!(told.list(Kind::Service, &[service("web", Some("global"))]), all);
    let both = ["+Service:shop/db +EndpointSlice:shop/db-1"];
    assert_eq!(told.applied(Kind::Service, &service("db", Some("global"))), both);
}
