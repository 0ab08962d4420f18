//! From a report to an Event (`v1`) at its object.
//!
//! The Event's name is made from the report, so that the next node that writes finds the Event of the last one, and counts it
//! on instead of making another.

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::call::{Ask, call, is};
use crate::mesh::object::Kind;
use crate::mesh::report::{ObjectRef, Report};
use crate::watch::kubernetes::connect::Connection;
use crate::watch::kubernetes::follow::Failure;

/// Octets of a message: API servers take no more.
const MESSAGE: usize = 1024;
/// Octets of the object's name that are in the Event's.
const NAME: usize = 230;

/// An Event that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When it was written last.
    pub at: Instant,
    /// How often it was.
    pub count: i64,
}

/// Writes Events.
pub struct Writer {
    connection: Connection,
    node: Box<str>,
    /// `apiVersion` of Segments.
    segments: String,
}

impl Writer {
    /// For objects of the cluster behind this connection.
    pub fn new(connection: Connection, node: Box<str>, segments: String) -> Self {
        Self { connection, node, segments }
    }

    /// Writes a report; `before` is what was written of it already.
    ///
    /// # Errors
    /// The API server's.
    pub async fn write(&self, report: &Report, before: Option<&Told>) -> Result<Told, Failure> {
        let namespace = if report.object.namespace.is_empty() { "default" } else { &report.object.namespace };
        let path = format!("/api/v1/namespaces/{namespace}/events");
        let (name, now) = (event_name(report), Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        if let Some(told) = before {
            let count = told.count + 1;
            let more = json!({"count": count, "lastTimestamp": now});
            let merged = call(&self.connection, &path, Ask::Merge(&name, &more)).await;
            if !is(&merged, 404) {
                return merged.map(|_| Told { at: Instant::now(), count });
            }
        }
        let event = self.event(report, &name, namespace, &now).await;
        let created = call(&self.connection, &path, Ask::Create(&event)).await;
        if is(&created, 409) {
            // Another node, or this one before it was restarted, has written it.
            let more = json!({"lastTimestamp": now});
            let merged = call(&self.connection, &path, Ask::Merge(&name, &more)).await?;
            return Ok(Told { at: Instant::now(), count: merged["count"].as_i64().unwrap_or(1) });
        }
        created.map(|_| Told { at: Instant::now(), count: 1 })
    }

    async fn event(&self, report: &Report, name: &str, namespace: &str, now: &str) -> Value {
        let object = &report.object;
        let (api_version, _) = self.place(object);
        let mut involved = json!({"apiVersion": api_version, "kind": object.kind.to_string(), "name": object.name});
        if !object.namespace.is_empty() {
            involved["namespace"] = object.namespace.to_string().into();
        }
        if let Some(uid) = self.uid(object).await {
            involved["uid"] = uid.into();
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": involved,
            "reason": reason(report),
            "message": message(report),
            "type": "Warning",
            "source": {"component": "segdns", "host": self.node},
            "reportingComponent": "segdns",
            "reportingInstance": self.node,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        })
    }

    /// What `kubectl describe` finds the Events of an object by; an Event without it counts, too.
    async fn uid(&self, object: &ObjectRef) -> Option<String> {
        let (api_version, plural) = self.place(object);
        let root = if api_version.contains('/') { "apis" } else { "api" };
        let path = if object.namespace.is_empty() {
            format!("/{root}/{api_version}/{plural}")
        } else {
            format!("/{root}/{api_version}/namespaces/{}/{plural}", object.namespace)
        };
        let list = call(&self.connection, &path, Ask::Find(&object.name)).await.ok()?;
        list["items"][0]["metadata"]["uid"].as_str().map(str::to_owned)
    }

    /// `apiVersion` and plural of an object.
    fn place(&self, object: &ObjectRef) -> (&str, &'static str) {
        match object.kind {
            Kind::Namespace => ("v1", "namespaces"),
            Kind::Service => ("v1", "services"),
            Kind::Pod => ("v1", "pods"),
            Kind::EndpointSlice => ("discovery.k8s.io/v1", "endpointslices"),
            Kind::Segment => (&self.segments, "segments"),
            Kind::ServiceEntry => ("networking.istio.io/v1", "serviceentries"),
            Kind::WorkloadEntry => ("networking.istio.io/v1", "workloadentries"),
            Kind::Source => ("", ""),
        }
    }
}

/// `segment-label-invalid` as `SegmentLabelInvalid`, as Events have it.
fn reason(report: &Report) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(word.len().min(1));
        first.to_ascii_uppercase() + rest
    };
    report.kind.word().split('-').map(capital).collect()
}

fn message(report: &Report) -> String {
    let Report { text, remedy, rule, .. } = report;
    let mut message = format!("{text} ({rule}); {remedy}");
    if let Some((at, _)) = message.char_indices().find(|(at, c)| at + c.len_utf8() > MESSAGE) {
        message.truncate(at);
    }
    message
}

fn event_name(report: &Report) -> String {
    let Report { kind, rule, object, text, .. } = report;
    let words = format!("{}\0{rule}\0{}\0{}\0{text}", kind.word(), object.kind, object.namespace);
    let digest = ring::digest::digest(&ring::digest::SHA256, words.as_bytes());
    let hash: String = digest.as_ref().iter().take(8).map(|octet| format!("{octet:02x}")).collect();
    let name: String = object.name.chars().take(NAME).collect();
    format!("{}.{hash}", name.trim_end_matches(['.', '-']))
}
