//! What is read of answers that a real API server gave.

use std::time::Duration;

use super::super::super::connect::{Connection, PeerConfig};
use super::super::super::resource::{Content, Resource};
use super::super::Secret;
use super::super::failure::{Failure, Said};
use super::super::wire::{Event, Page, Part, event, list, page};
use super::script::services;
use crate::mesh::object::{Kind, Object, Reach};
use crate::watch::decode::Decoded;

macro_rules! recorded {
    ($name:literal) => {
        include_str!(concat!("../../../../../tests/fixtures-apiserver/", $name, ".txt"))
            .split_once("\r\n\r\n")
            .unwrap()
            .1
            .as_bytes()
    };
}

fn of(kind: Kind) -> Resource {
    Resource { content: Content::Object(kind), ..services() }
}

fn listed(kind: Kind, text: &[u8]) -> Page<Decoded> {
    page(&of(kind), text).unwrap()
}

fn object(decoded: Option<Decoded>) -> Object {
    match decoded {
        Some(Decoded::Object(object, problems)) if problems.is_empty() => object,
        other => panic!("{other:?}"),
    }
}

fn events(kind: Kind, text: &[u8]) -> Vec<(Option<Box<str>>, Event<Decoded>)> {
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| event(&of(kind), line).unwrap()).collect()
}

#[test]
fn lists_are_read_as_a_server_wrote_them() {
    let services = listed(Kind::Service, recorded!("list-services-page1"));
    assert_eq!(&*services.version, "276");
    assert!(services.token.unwrap().starts_with("eyJ2Ijo"));
    let Object::Service(service) = object(services.objects.into_iter().next()) else { panic!() };
    assert_eq!(service.reach, Reach::ClusterIps(["10.96.0.1".parse().unwrap()].into()));

    let slices = listed(Kind::EndpointSlice, recorded!("list-endpointslices"));
    assert_eq!(slices.token, None);
    let slices: Vec<Object> = slices.objects.into_iter().map(|slice| object(Some(slice))).collect();
    let db = slices.iter().find_map(|slice| match slice {
        Object::EndpointSlice(slice) if &*slice.service == "db" => Some(slice),
        _ => None,
    });
    let endpoints = &db.unwrap().endpoints;
    assert_eq!((endpoints.len(), endpoints[0].ready, endpoints[1].ready), (2, true, false));

    let pods = listed(Kind::Pod, recorded!("list-pods"));
    let Object::Pod(pod) = object(pods.objects.into_iter().next()) else { panic!() };
    assert_eq!((&*pod.namespace, &*pod.name), ("shop", "web-1"));
}

#[test]
fn an_empty_list_may_be_null() {
    let text = br#"{"metadata":{"resourceVersion":"1"},"items":null}"#;
    assert!(listed(Kind::Service, text).objects.is_empty());
}

#[test]
fn an_odd_object_costs_nothing_but_itself() {
    let text = br#"{"metadata":{"resourceVersion":"1"},"items":[5, null, {}, {"metadata":[]}, {"metadata":{"name":"a",
        "namespace":"shop"},"spec":{"clusterIP":7}}, {"metadata":{"name":"b","namespace":"shop"}}]}"#;
    let objects = listed(Kind::Service, text).objects;
    assert_eq!(objects.len(), 6);
    let broken = objects.iter().filter(|object| matches!(object, Decoded::Broken(None, why) if !why.is_empty()));
    assert_eq!(broken.count(), 4);
    for line in
        [r#"{"type":"ADDED","object":5}"#, r#"{"type":"ADDED","object":null}"#, r#"{"object":[],"type":"ADDED"}"#]
    {
        let (version, event) = event::<Decoded>(&services(), line.as_bytes()).unwrap();
        assert!(version.is_none() && matches!(event, Event::Applied(Some(Decoded::Broken(None, _)))), "{line}");
    }
    let nameless = br#"{"type":"DELETED","object":{"metadata":{}}}"#;
    assert!(matches!(event::<Decoded>(&services(), nameless).unwrap().1, Event::Other));
}

#[test]
fn what_is_no_answer_of_an_api_server_is_an_error() {
    for text in
        ["", "<html>", "[]", r#"{"metadata":{},"items":[]}"#, r#"{"metadata":{"resourceVersion":"1"},"items":["#]
    {
        assert!(page::<Decoded>(&services(), text.as_bytes()).is_err(), "{text}");
        assert!(event::<Decoded>(&services(), text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn a_list_in_a_stream_ends_with_its_bookmark() {
    let events = events(Kind::Service, recorded!("watch-streaminglist"));
    let end = events.iter().position(|(_, event)| matches!(event, Event::Bookmark { end: true })).unwrap();
    assert!(end > 1 && events[end].0.is_some());
    assert!(events[..end].iter().all(|(_, event)| matches!(event, Event::Applied(Some(Decoded::Object(..))))));
}

#[test]
fn a_watch_tells_what_comes_and_goes() {
    let events = events(Kind::Service, recorded!("watch-live"));
    let mut words = Vec::new();
    for (version, event) in &events {
        assert!(version.is_some());
        words.push(match event {
            Event::Applied(Some(Decoded::Object(object, _))) => format!("applied {}", object.key().name),
            Event::Deleted { namespace, name } => format!("deleted {namespace}/{name}"),
            Event::Bookmark { end } => format!("bookmark {end}"),
            other => format!("{other:?}"),
        });
    }
    assert_eq!(&words[..3], ["bookmark true", "applied tr", "applied tr"]);
    assert!(words.contains(&"deleted shop/tr".to_owned()), "{words:?}");
}

#[test]
fn a_custom_resource_that_goes_takes_its_objects_along() {
    let events = events(Kind::Segment, recorded!("watch-crd-deleted"));
    let Event::Applied(Some(Decoded::Object(Object::Segment(segment), _))) = &events[0].1 else { panic!() };
    assert_eq!(segment.domain.as_deref(), Some("mesh.acme"));
    let (_, last) = events.last().unwrap();
    assert!(matches!(last, Event::Deleted { name, .. } if &**name == "acme"), "{last:?}");
}

#[test]
fn an_expired_version_is_an_error_in_the_stream() {
    let events = events(Kind::Service, recorded!("watch-rv-1-expired"));
    let Event::Failed(said) = &events[0].1 else { panic!() };
    assert_eq!((said.code, &*said.message), (410, "too old resource version: 1 (272)"));
    let odd = event::<Decoded>(&services(), br#"{"type":"ERROR","object":"out of memory"}"#).unwrap().1;
    assert!(matches!(odd, Event::Failed(Said { code: 500, .. })));
}

#[test]
fn namespaces_come_as_metadata_alone() {
    let text =
        br#"{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"9"},
        "items":[{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"shop",
        "labels":{"admin.solo.io/segment":"acme"}}}]}"#;
    let Object::Namespace(namespace) = object(listed(Kind::Namespace, text).objects.into_iter().next()) else {
        panic!()
    };
    assert_eq!(namespace.labels.get("admin.solo.io/segment"), Some("acme"));
}

#[test]
fn secrets_are_decoded_and_never_printed() {
    let text = br#"{"metadata":{"resourceVersion":"9"},"items":[7, {"metadata":{}}, {"metadata":{"name":"east",
        "namespace":"peers","uid":"u","creationTimestamp":"2026-01-31T12:00:00Z"},
        "data":{"east":"a3ViZWNvbmZpZw==","odd":"***","empty":""},"type":"Opaque"}]}"#;
    let secrets: Page<Secret> = page(&Resource { content: Content::Secret, ..services() }, text).unwrap();
    let [secret] = &*secrets.objects else { panic!("{:?}", secrets.objects) };
    assert_eq!((&*secret.namespace, &*secret.name, &*secret.uid), ("peers", "east", "u"));
    assert_eq!(secret.created, 1_769_860_800);
    assert_eq!(secret.data["east"].as_deref(), Some(&b"kubeconfig"[..]));
    assert_eq!((secret.data["odd"].as_deref(), secret.data["empty"].as_deref()), (None, Some(&b""[..])));
    assert_eq!(format!("{secret:?}"), r#"Secret peers/east with ["east", "empty", "odd"]"#);
}

#[tokio::test]
async fn a_server_that_is_away_is_named_with_the_reason() {
    let config =
        "{clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: u, user: {token: t}}],
        contexts: [{name: x, context: {cluster: c, user: u}}], current-context: x}";
    let connection = Connection::peer(PeerConfig::parse(config).unwrap()).unwrap();
    let answer = list::<Decoded>(&connection, &services(), 0, Part::First, Duration::from_secs(5)).await;
    let Err(Failure::Unreachable { text, credentials: false }) = answer.map(|_| ()) else { panic!() };
    assert_eq!(text, "client error (Connect): tcp connect error: Connection refused (os error 111)");
}
