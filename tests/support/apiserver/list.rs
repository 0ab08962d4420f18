//! Lists: the whole, pages, and what they were at a version.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::object::{Form, Object};
use super::request::{Query, Target};
use super::select::Selector;
use super::status::{bad_request, bad_version, failure, invalid_option, too_large};
use super::store::{FIRST_VERSION, State, Table};

const TOKEN_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// How much is handed to a connection at a time, about, in octets.
pub(super) const PIECE: usize = 64 * 1024;

/// A list that is ready to be written.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) head: Vec<u8>,
    pub(super) objects: Vec<Arc<Object>>,
    pub(super) form: Form,
}

/// Where a page starts, and at which version; 0 is the newest.
struct Start {
    version: u64,
    after: Option<(String, String)>,
}

impl Page {
    /// What a list request is answered with.
    ///
    /// # Errors
    /// The `Status` of its failure.
    pub(super) fn new(
        state: &State,
        table: &Table,
        target: &Target,
        query: &Query,
        partial: bool,
    ) -> Result<Self, Value> {
        let selector = selector(table, query)?;
        let parameter = |key: &str| query.get(key).map(String::as_str).filter(|v| !v.is_empty());
        let mut limit = match parameter("limit").map(str::parse::<usize>) {
            None => None,
            Some(Ok(limit)) => Some(limit).filter(|n| *n > 0),
            Some(Err(_)) => return Err(bad_request("limit: Invalid value")),
        };
        let start = start(state, parameter("continue"), query, limit.is_some())?;
        // From the server's cache, which knows no pages.
        if parameter("resourceVersion") == Some("0") && parameter("continue").is_none() {
            limit = None;
        }
        let version = if start.version == 0 { state.version } else { start.version };
        let mut objects = table.at(version);
        objects.retain(|object| {
            target.namespace.as_ref().is_none_or(|ns| *ns == object.namespace)
                && start.after.as_ref().is_none_or(|a| (&a.0, &a.1) < (&object.namespace, &object.name))
                && selector.matches(object)
        });
        let remaining = limit.map_or(0, |limit| objects.len().saturating_sub(limit));
        objects.truncate(limit.unwrap_or(usize::MAX));
        let last = objects.last().filter(|_| remaining > 0);
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if table.resource.custom {
            metadata["continue"] = "".into();
        }
        if let Some(last) = last {
            metadata["continue"] = token(i64::try_from(version).unwrap_or(i64::MAX), "/", last).into();
            // With a selector the server does not know how many of the rest match.
            if selector.is_empty() {
                metadata["remainingItemCount"] = remaining.into();
            }
        }
        let (kind, api_version, form) = shape(table, target, partial);
        let head = format!(r#"{{"kind":"{kind}List","apiVersion":"{api_version}","metadata":{metadata},"items":["#);
        Ok(Self { head: head.into_bytes(), objects, form })
    }
}

/// Kind and apiVersion of a list's items, and how they are written.
fn shape(table: &Table, target: &Target, partial: bool) -> (String, String, Form) {
    let resource = &table.resource;
    if partial {
        return ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned(), Form::partial());
    }
    let form = if resource.custom { resource.typed(&target.version) } else { Form::bare() };
    (resource.kind.clone(), resource.api_version(&target.version), form)
}

/// The selectors of a list or watch.
pub(super) fn selector(table: &Table, query: &Query) -> Result<Selector, Value> {
    let text = |key: &str| query.get(key).map_or("", String::as_str);
    let (labels, fields) = (text("labelSelector"), text("fieldSelector"));
    let plural = &table.resource.plural;
    Selector::parse(labels, fields, plural == "pods").map_err(|problem| {
        let version = &table.resource.versions[0];
        bad_request(&format!(
            "Unable to find \"{}/{version}, Resource={plural}\" that match label selector \"{labels}\", field \
             selector \"{fields}\": {problem}",
            table.resource.group,
        ))
    })
}

/// The version that a request names; `None` if it names none.
pub(super) fn asked_version(query: &Query) -> Result<Option<u64>, Value> {
    match query.get("resourceVersion").map(String::as_str) {
        None | Some("") => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|_| bad_version(text)),
    }
}

fn start(state: &State, token: Option<&str>, query: &Query, limited: bool) -> Result<Start, Value> {
    let asked = asked_version(query)?;
    let exactly = query.get("resourceVersionMatch").map(String::as_str);
    if let Some(token) = token {
        return match asked {
            Some(_) => Err(bad_request("specifying resource version is not allowed when using continue")),
            None => continued(state, token),
        };
    }
    if exactly.is_some() && asked.is_none() {
        let message = "resourceVersionMatch is forbidden unless resourceVersion is provided";
        return Err(invalid_option("resourceVersionMatch", message));
    }
    let asked = asked.unwrap_or(0);
    if asked > state.version {
        return Err(too_large(asked, state.version));
    }
    // Without a word on how the version is meant, pages are of exactly that version.
    let exact = exactly == Some("Exact") || (exactly.is_none() && limited && asked > 0);
    if exact && is_compacted(state, asked) {
        return Err(failure(410, "Expired", "The resourceVersion for the provided list is too old.", Value::Null));
    }
    Ok(Start { version: if exact { asked } else { 0 }, after: None })
}

/// Whether a version is too old to be read. Nothing was there before the first write, either.
pub(super) fn is_compacted(state: &State, version: u64) -> bool {
    version < state.compacted.max(FIRST_VERSION)
}

fn continued(state: &State, token: &str) -> Result<Start, Value> {
    let bad = || bad_request("continue key is not valid");
    let decoded = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad())?;
    let decoded: Value = serde_json::from_slice(&decoded).map_err(|_| bad())?;
    let version = decoded["rv"].as_i64().ok_or_else(bad)?;
    let start = decoded["start"].as_str().ok_or_else(bad)?.trim_matches(['/', '\0']);
    // Cluster-scoped objects have a name only.
    let (namespace, name) = start.split_once('/').unwrap_or(("", start));
    let after = Some((namespace.to_owned(), name.to_owned()));
    let Ok(version) = u64::try_from(version) else { return Ok(Start { version: 0, after }) };
    if is_compacted(state, version) {
        let mut status = failure(410, "Expired", TOKEN_EXPIRED, Value::Null);
        status["metadata"]["continue"] = encode(-1, start).into();
        return Err(status);
    }
    Ok(Start { version, after })
}

fn token(version: i64, root: &str, last: &Object) -> String {
    let separator = if last.namespace.is_empty() { "" } else { "/" };
    encode(version, &format!("{root}{}{separator}{}", last.namespace, last.name))
}

fn encode(version: i64, start: &str) -> String {
    let start = Value::String(format!("{start}\0"));
    URL_SAFE_NO_PAD.encode(format!(r#"{{"v":"meta.k8s.io/v1","rv":{version},"start":{start}}}"#))
}
