//! Requests, and the text of answers: a page of a list as a whole, a watch line by line.
//!
//! Requests are built and sent by kube. Answers are read here and not by kube's typed calls, because those log the whole
//! text of what they cannot read (Secrets would be in it), hold a page three times over, and keep the headers back.

use std::borrow::Cow;
use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;
use kube::core::Request;
use kube::core::params::{ListParams, VersionMatch, WatchParams};
use serde::Deserialize;
use tokio::time::timeout;

use super::super::connect::Connection;
use super::super::resource::Resource;
use super::failure::{Failure, Said};
use super::watched::{Watched, read, text};

/// Objects of one page.
const PAGE: u32 = 500;
/// Longest event. Objects are below 2 MiB where they are stored.
const MAX_LINE: usize = 32 << 20;
/// Longest page. A cluster that is not one's own must not fill the node's memory.
const MAX_PAGE: usize = 512 << 20;
/// Longest answer that is one object.
const MAX_OBJECT: usize = 4 << 20;
/// What a watch keeps for the next event.
const KEPT: usize = 16 << 10;
/// Longest word on a failure that is read at all.
const MAX_SAID: usize = 64 << 10;
/// The annotation of the bookmark that ends a list in a stream.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// Which part of a list to ask for.
#[derive(Clone, Copy, Debug)]
pub enum Part<'a> {
    /// The first page of what is there now.
    First,
    /// The page that this token leads to.
    Next(&'a str),
    /// All at once, at least as new as this version.
    Whole(&'a str),
}

/// Whence to watch.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// From what is there now, which is told first.
    Now,
    /// From this version on.
    After(&'a str),
}

/// One page of a list.
pub struct Page<T> {
    pub objects: Vec<T>,
    /// Of the list as a whole.
    pub version: Box<str>,
    /// Leads to the next page.
    pub token: Option<Box<str>>,
}

/// What a line of a watch says.
#[derive(Debug)]
pub enum Event<T> {
    /// An object as it is now; `None` if nothing can be made of it.
    Applied(Option<T>),
    /// An object is gone.
    Deleted { namespace: Box<str>, name: Box<str> },
    /// Nothing but the version; or that all objects have been told.
    Bookmark { end: bool },
    /// The API server has failed.
    Failed(Said),
    /// Of a type that is not known.
    Other,
}

/// Asks for a part of a list.
pub async fn list<T: Watched>(
    connection: &Connection,
    resource: &Resource,
    version: usize,
    part: Part<'_>,
    limit: Duration,
) -> Result<Page<T>, Failure> {
    let mut params = ListParams {
        label_selector: resource.labels.as_deref().map(str::to_owned),
        field_selector: resource.fields.as_deref().map(str::to_owned),
        ..ListParams::default()
    };
    match part {
        Part::First => params.limit = Some(PAGE),
        Part::Next(token) => (params.limit, params.continue_token) = (Some(PAGE), Some(token.to_owned())),
        Part::Whole(version) => {
            (params.resource_version, params.version_match) =
                (Some(version.to_owned()), Some(VersionMatch::NotOlderThan));
        }
    }
    let whole = async {
        let body = send(connection, resource, version, &Ask::List(params)).await?;
        page(resource, &collect(body, MAX_PAGE).await?)
    };
    timeout(limit, whole).await.unwrap_or_else(|_| Err(Failure::Silent(limit)))
}

/// Opens a watch. `limit` is how long it may take until the API server answers, `seconds` how long it is to last.
pub async fn watch(
    connection: &Connection,
    resource: &Resource,
    version: usize,
    start: Start<'_>,
    seconds: u32,
    limit: Duration,
) -> Result<Lines, Failure> {
    let (initial, from) = match start {
        Start::Now => (true, ""),
        Start::After(version) => (false, version),
    };
    let params = WatchParams {
        label_selector: resource.labels.as_deref().map(str::to_owned),
        field_selector: resource.fields.as_deref().map(str::to_owned),
        timeout: Some(seconds),
        bookmarks: true,
        send_initial_events: initial,
    };
    let ask = Ask::Watch(params, from);
    let opened = timeout(limit, send(connection, resource, version, &ask)).await;
    Ok(Lines::new(opened.unwrap_or_else(|_| Err(Failure::Silent(limit)))?))
}

enum Ask<'a> {
    List(ListParams),
    Watch(WatchParams, &'a str),
}

/// Sends a request; the body of the answer, if that is no failure.
async fn send(connection: &Connection, resource: &Resource, version: usize, ask: &Ask<'_>) -> Result<Body, Failure> {
    let request = Request::new(resource.path(version));
    let request = match (ask, resource.metadata_only) {
        (Ask::List(params), false) => request.list(params),
        (Ask::List(params), true) => request.list_metadata(params),
        (Ask::Watch(params, from), false) => request.watch(params, from),
        (Ask::Watch(params, from), true) => request.watch_metadata(params, from),
    };
    exchange(connection, request.map_err(|error| Failure::Garbled(error.to_string()))?).await
}

/// Sends one request; the whole body of the answer, if that is no failure.
pub async fn whole(connection: &Connection, request: http::Request<Vec<u8>>) -> Result<Vec<u8>, Failure> {
    collect(exchange(connection, request).await?, MAX_OBJECT).await
}

async fn exchange(connection: &Connection, request: http::Request<Vec<u8>>) -> Result<Body, Failure> {
    let answer = connection.client().send(request.map(Body::from)).await.map_err(|error| Failure::client(&error))?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer.into_body());
    }
    let header = answer.headers().get("retry-after").and_then(|value| value.to_str().ok());
    let retry_after = header.and_then(|value| value.parse().ok()).map(Duration::from_secs);
    // Whatever becomes of the body, the status is known.
    let body = collect(answer.into_body(), MAX_SAID).await.unwrap_or_default();
    let mut said = Said::read(Some(status.as_u16()), &body);
    said.retry_after = said.retry_after.or(retry_after);
    Err(Failure::Said(said))
}

async fn collect(mut body: Body, limit: usize) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|error| Failure::client(&error))?.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(Failure::Garbled(format!("an answer of more than {limit} bytes")));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole)
}

#[derive(Deserialize)]
struct PageIn<'a, R> {
    #[serde(borrow)]
    metadata: PageMeta<'a>,
    // Go writes an empty list as null.
    items: Option<Vec<R>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta<'a> {
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
    #[serde(borrow, rename = "continue", default)]
    token: Option<Cow<'a, str>>,
}

/// Reads one page of a list.
pub fn page<T: Watched>(resource: &Resource, text: &[u8]) -> Result<Page<T>, Failure> {
    let page: PageIn<'_, T::Raw<'_>> =
        serde_json::from_slice(text).map_err(|error| Failure::Garbled(format!("a list: {}", position(&error))))?;
    let items = page.items.unwrap_or_default();
    Ok(Page {
        objects: items.iter().filter_map(|raw| T::read(resource, raw)).collect(),
        version: page.metadata.resource_version.into(),
        token: page.metadata.token.filter(|token| !token.is_empty()).map(Into::into),
    })
}

/// Where JSON went wrong, without what stands there.
fn position(error: &serde_json::Error) -> String {
    format!("line {}, column {}", error.line(), error.column())
}

#[derive(Deserialize)]
struct LineIn<'a, R> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    object: R,
}

/// Reads one line of a watch: the version it leads to, if it says one, and what it says.
pub fn event<T: Watched>(resource: &Resource, line: &[u8]) -> Result<(Option<Box<str>>, Event<T>), Failure> {
    let read_line: LineIn<'_, T::Raw<'_>> =
        serde_json::from_slice(line).map_err(|error| Failure::Garbled(format!("an event: {}", position(&error))))?;
    let meta = T::meta(&read_line.object);
    let version = meta.and_then(|meta| text(&meta.resource_version)).filter(|version| !version.is_empty());
    let event = match &*read_line.kind {
        "ADDED" | "MODIFIED" => Event::Applied(T::read(resource, &read_line.object)),
        "DELETED" => match meta.and_then(|meta| text(&meta.name)) {
            Some(name) => {
                let namespace = meta.and_then(|meta| text(&meta.namespace)).unwrap_or_default();
                Event::Deleted { namespace: namespace.into(), name: name.into() }
            }
            None => Event::Other,
        },
        "BOOKMARK" => {
            let annotations = read(meta.map(|meta| &meta.annotations)).map(|pairs| &*pairs.0).unwrap_or_default();
            let end = annotations.iter().any(|(key, value)| key == INITIAL_END && text(value) == Some("true"));
            Event::Bookmark { end }
        }
        "ERROR" => Event::Failed(failed(line)),
        _ => Event::Other,
    };
    Ok((version.map(Into::into), event))
}

fn failed(line: &[u8]) -> Said {
    let read: Result<LineIn<'_, kube::core::Status>, _> = serde_json::from_slice(line);
    match read.map(|line| serde_json::to_vec(&line.object)) {
        Ok(Ok(status)) => Said::read(None, &status),
        _ => Said::read(None, b"{}"),
    }
}

/// The lines of an answer, as they come.
pub struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// What stands before here has been given.
    taken: usize,
    /// From `taken` up to here there is no end of line.
    searched: usize,
}

impl Lines {
    fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), taken: 0, searched: 0 }
    }

    /// The next line that is not empty; `None` at the end. What is left without an end of line is passed over: it is cut.
    /// Nothing is lost if this is dropped before it is done.
    pub async fn next(&mut self) -> Option<Result<&[u8], Failure>> {
        loop {
            if let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.taken..self.searched + length;
                self.taken = line.end + 1;
                self.searched = self.taken;
                if self.buffer[line.clone()].iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Some(Ok(&self.buffer[line]));
            }
            // Once for all lines of a frame: moving what is left for each would cost the square of their number.
            self.buffer.drain(..std::mem::take(&mut self.taken));
            self.searched = self.buffer.len();
            if self.searched > MAX_LINE {
                return Some(Err(Failure::Garbled(format!("an event of more than {MAX_LINE} bytes"))));
            }
            if self.buffer.is_empty() {
                // A list in a stream is large once; what follows is not.
                self.buffer.shrink_to(KEPT);
            }
            match self.body.frame().await? {
                Err(error) => return Some(Err(Failure::client(&error))),
                Ok(frame) => self.buffer.extend_from_slice(&frame.into_data().unwrap_or_default()),
            }
        }
    }
}
