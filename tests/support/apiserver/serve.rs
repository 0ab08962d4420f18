//! Connections, and what each request is answered with.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::list::{PIECE, Page};
use super::object::Form;
use super::observe::{Entry, Log};
use super::request::{self, Query, Target, Verb};
use super::resource::{Resource, discovery};
use super::status::{Failure, Reply, failure, not_found};
use super::store::{State, Table};
use super::watch::Watch;
use super::write;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Counts changes of the state: whoever waits looks again.
    pub(super) wake: watch::Sender<u64>,
    pub(super) log: Arc<Log>,
    conns: Mutex<BTreeMap<u64, Arc<Conn>>>,
    address: String,
}

/// A hold on a connection.
#[derive(Debug, Default)]
pub(super) struct Conn {
    /// Ends it at once.
    pub(super) kill: Notify,
    /// Ends it after the answer that is under way.
    pub(super) close: Notify,
    streams: AtomicUsize,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    content: Content,
    entry: Entry,
    /// The connection, while this is a watch of it.
    stream: Option<Arc<Conn>>,
}

#[derive(Debug)]
enum Content {
    Whole(Option<Bytes>),
    Pieces(mpsc::Receiver<Bytes>),
}

/// What is to be done for a request.
enum Plan {
    Reply(Reply),
    /// As a reply; objects have changed.
    Written(Reply),
    Page(Page),
    Watch(Box<Watch>),
    Hang,
}

impl Shared {
    pub(super) fn new(address: String) -> Self {
        Self {
            state: Mutex::new(State::new()),
            wake: watch::Sender::new(0),
            log: Arc::default(),
            conns: Mutex::default(),
            address,
        }
    }

    /// To read the state, or to change what nobody waits for.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state, and wakes all who wait for it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.wake.send_modify(|count| *count += 1);
        result
    }

    /// The connections that are open now.
    pub(super) fn connections(&self) -> BTreeMap<u64, Arc<Conn>> {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Conn {
    pub(super) fn is_streaming(&self) -> bool {
        self.streams.load(Ordering::SeqCst) > 0
    }
}

/// Accepts connections for as long as it is polled.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener, acceptor: TlsAcceptor) {
    loop {
        // An error is a connection that is gone already.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let conn = Arc::new(Conn::default());
        let id = shared.log.change(|observed| {
            observed.accepted += 1;
            observed.live.insert(observed.accepted);
            observed.accepted
        });
        shared.conns.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&conn));
        let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
        tokio::spawn(async move {
            serve(&shared, &conn, stream, acceptor).await;
            shared.conns.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            shared.log.change(|observed| observed.live.remove(&id));
        });
    }
}

/// One connection. When this returns, the socket is closed, and nothing has been said about it in TLS.
async fn serve(shared: &Arc<Shared>, conn: &Arc<Conn>, stream: TcpStream, acceptor: TlsAcceptor) {
    let _ = stream.set_nodelay(true);
    let tls = tokio::select! {
        tls = acceptor.accept(stream) => tls,
        () = conn.kill.notified() => return,
    };
    let Ok(tls) = tls else { return };
    let service = service_fn(|request| answer(Arc::clone(shared), Arc::clone(conn), request));
    let mut http = pin!(http1::Builder::new().serve_connection(TokioIo::new(tls), service));
    loop {
        tokio::select! {
            biased;
            _ = http.as_mut() => return,
            () = conn.kill.notified() => {
                // What was handed over before the kill goes out: half a line, if it comes to that.
                std::future::poll_fn(|cx| { let _ = http.as_mut().poll(cx); Poll::Ready(()) }).await;
                return;
            }
            () = conn.close.notified() => http.as_mut().graceful_shutdown(),
        }
    }
}

async fn answer(
    shared: Arc<Shared>,
    conn: Arc<Conn>,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Infallible> {
    let (parts, body) = request.into_parts();
    // A body that breaks off is none; what it was for is refused.
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let request = Request::from_parts(parts, body);
    let query = request::query(request.uri().query().unwrap_or_default());
    let target = Target::parse(request.method(), request.uri().path(), &query);
    let entry = Entry::open(&shared.log, &request, &query, target.as_ref());
    let mut wake = shared.wake.subscribe();
    let (plan, slow) = loop {
        wake.borrow_and_update();
        let (plan, slow) = {
            let mut state = shared.lock();
            (plan(&mut state, &request, target.as_ref(), &query, &shared.address), state.faults.slow)
        };
        if matches!(plan, Plan::Written(_)) {
            shared.wake.send_modify(|count| *count += 1);
        }
        match plan {
            Plan::Hang => {
                let _ = wake.changed().await;
            }
            plan => break (plan, slow),
        }
    };
    if matches!(plan, Plan::Page(_)) && !slow.is_zero() {
        tokio::time::sleep(slow).await;
    }
    let (reply, content, stream) = match plan {
        Plan::Reply(reply) | Plan::Written(reply) => {
            let body = Content::Whole(Some(reply.body.clone()));
            (reply, body, None)
        }
        Plan::Page(page) => (Reply::bytes(Bytes::new()), write_page(page), None),
        Plan::Watch(watch) => {
            let (to, pieces) = mpsc::channel(2);
            conn.streams.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(watch.run(Arc::clone(&shared), Arc::clone(&conn), to));
            (Reply::bytes(Bytes::new()), Content::Pieces(pieces), Some(conn))
        }
        Plan::Hang => unreachable!("the loop ends with something else"),
    };
    entry.code(reply.code.as_u16());
    Ok(respond(&reply, Answer { content, entry, stream }))
}

fn respond(reply: &Reply, answer: Answer) -> Response<Answer> {
    let mut response = Response::new(answer);
    *response.status_mut() = reply.code;
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    if let Some(seconds) = reply.retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if reply.code == StatusCode::FORBIDDEN || reply.content_type.starts_with("text/plain") {
        headers.insert("X-Content-Type-Options", HeaderValue::from_static("nosniff"));
    }
    response
}

/// What is to be done, in the order in which the server checks.
fn plan(state: &mut State, request: &Request<Bytes>, target: Option<&Target>, query: &Query, address: &str) -> Plan {
    let user = state.access.user.clone();
    let refuse = |failure: &Failure| Plan::Reply(Reply::status(&failure.status(target, &user)));
    let header = |name| request.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
    if header(AUTHORIZATION).strip_prefix("Bearer ") != Some(state.access.token.as_str()) {
        return refuse(&Failure::Unauthorized);
    }
    let writes = target.is_some_and(|target| matches!(target.verb, Verb::Create | Verb::Update | Verb::Patch));
    if request.method() != Method::GET && !writes {
        let message = "the server does not allow this method on the requested resource";
        return Plan::Reply(Reply::status(&failure(405, "MethodNotAllowed", message, serde_json::Value::Null)));
    }
    let Some(target) = target else { return Plan::Reply(other(state, request.uri().path(), address)) };
    if state.faults.is_hanging(target) {
        return Plan::Hang;
    }
    let key = (target.group.clone(), target.plural.clone());
    let custom = state.tables.get(&key).is_none_or(|table| table.resource.custom);
    if let Some(failure) = state.faults.strike(target, custom) {
        return refuse(&failure);
    }
    if !state.access.allows(target.verb.name(), &target.group, &target.plural, target.namespace.as_deref()) {
        return refuse(&Failure::Forbidden);
    }
    let is_served = |t: &&Table| t.resource.versions.contains(&target.version);
    if writes && state.table(&key).filter(is_served).is_some() {
        let written = write::write(state, &key, target, request.body());
        return written.map_or_else(|status| Plan::Reply(Reply::status(&status)), Plan::Written);
    }
    let state = &*state;
    let Some(table) = state.table(&key).filter(is_served) else { return Plan::Reply(Reply::no_page()) };
    let partial = header(ACCEPT).contains("as=PartialObjectMetadata");
    let plan = match target.verb {
        Verb::List => Page::new(state, table, target, query, partial).map(Plan::Page),
        Verb::Watch => Watch::new(state, table, target, query, partial).map(|w| Plan::Watch(Box::new(w))),
        Verb::Get | Verb::Create | Verb::Update | Verb::Patch => Ok(Plan::Reply(get(table, target, partial))),
    };
    plan.unwrap_or_else(|status| Plan::Reply(Reply::status(&status)))
}

fn get(table: &Table, target: &Target, partial: bool) -> Reply {
    let name = target.name.clone().unwrap_or_default();
    let place = (target.namespace.clone().unwrap_or_default(), name);
    let Some(object) = table.objects.get(&place) else {
        return Reply::status(&not_found(&target.group, &target.plural, &place.1));
    };
    let form = if partial { Form::partial() } else { table.resource.typed(&target.version) };
    let mut body = Vec::new();
    object.write(&form, &mut body);
    Reply::bytes(body)
}

/// Paths that are no resource's.
fn other(state: &State, path: &str, address: &str) -> Reply {
    if ["/healthz", "/livez", "/readyz"].contains(&path) {
        return Reply { content_type: "text/plain; charset=utf-8", ..Reply::bytes("ok") };
    }
    let known: Vec<&Resource> = state.tables.values().filter(|t| !t.gone).map(|t| &*t.resource).collect();
    discovery(path, address, &known).map_or_else(Reply::no_page, |found| Reply::ok(&found))
}

/// A short list is written as one, a long one piece by piece, as fast as the client reads.
fn write_page(page: Page) -> Content {
    let (head, form) = (page.head, page.form);
    let mut objects = page.objects.into_iter().peekable();
    let mut next = move |mut piece: Vec<u8>| -> (Vec<u8>, bool) {
        while let Some(object) = objects.next() {
            object.write(&form, &mut piece);
            if objects.peek().is_some() {
                piece.push(b',');
                if piece.len() >= PIECE {
                    return (piece, true);
                }
            }
        }
        piece.extend_from_slice(b"]}\n");
        (piece, false)
    };
    let (first, more) = next(head);
    if !more {
        return Content::Whole(Some(first.into()));
    }
    let (to, pieces) = mpsc::channel(2);
    tokio::spawn(async move {
        let mut piece = (first, true);
        while to.send(piece.0.into()).await.is_ok() && piece.1 {
            piece = next(Vec::with_capacity(PIECE + PIECE / 8));
        }
    });
    Content::Pieces(pieces)
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let piece = match &mut self.content {
            Content::Whole(body) => Poll::Ready(body.take()),
            Content::Pieces(pieces) => pieces.poll_recv(cx),
        };
        piece.map(|piece| {
            let piece = piece?;
            self.entry.sent(piece.len());
            Some(Ok(Frame::data(piece)))
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.content, Content::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(body) => SizeHint::with_exact(body.as_ref().map_or(0, |b| b.len() as u64)),
            Content::Pieces(_) => SizeHint::default(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(conn) = &self.stream {
            conn.streams.fetch_sub(1, Ordering::SeqCst);
        }
    }
}
