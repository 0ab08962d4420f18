//! An API server that answers what it has been told to, one request after the other, and then no more.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::stream;
use kube::client::Body as Asked;
use tokio::task::JoinHandle;

use super::super::super::connect::Connection;
use super::super::super::resource::{Content, Resource};
use super::super::{Sink, Timing, follow};
use crate::mesh::object::Kind;
use crate::watch::board::{Board, Source, State};
use crate::watch::decode::Decoded;

type Words = Arc<Mutex<Vec<String>>>;

/// A piece of a stream.
pub enum Bit {
    Line(String),
    Piece(String),
    /// Milliseconds.
    Wait(u64),
    Break,
    Hang,
}

pub enum Answer {
    Json(u16, String),
    Stream(Vec<Bit>),
    /// No connection.
    Refuse,
    /// A connection, and no word.
    Hang,
}

pub fn service(name: &str, version: u32) -> String {
    format!(
        r#"{{"kind":"Service","metadata":{{"name":"{name}","namespace":"shop","resourceVersion":"{version}"}},"spec":{{}}}}"#
    )
}

pub fn line(kind: &str, object: &str) -> String {
    format!(r#"{{"type":"{kind}","object":{object}}}"#)
}

/// A follower of Services against a script.
pub struct Run {
    pub connection: Connection,
    asked: Words,
    told: Words,
    board: Arc<Board>,
    source: Source,
    task: JoinHandle<()>,
}

pub struct Setup {
    pub resource: Resource,
    pub timing: Timing,
}

impl Run {
    pub fn start(answers: Vec<Answer>) -> Self {
        Self::with(answers, |_| ())
    }

    pub fn with(answers: Vec<Answer>, change: impl FnOnce(&mut Setup)) -> Self {
        let mut setup = Setup { resource: services(), timing: Timing::new(Duration::from_secs(90)) };
        change(&mut setup);
        let (asked, told) = (Words::default(), Words::default());
        let connection = Connection::fixed(client(answers, asked.clone()));
        let (board, source) = (Arc::<Board>::default(), Source { cluster: "east".into(), kind: "services".into() });
        let task = tokio::spawn(follow(
            connection.clone(),
            setup.resource,
            source.clone(),
            board.clone(),
            setup.timing,
            Teller(told.clone()),
        ));
        Self { connection, asked, told, board, source, task }
    }

    /// Paths and queries, without how long a watch is to last.
    pub fn asked(&self) -> Vec<String> {
        let cut = |text: &String| {
            let (head, tail) = text.split_once("timeoutSeconds=").unwrap_or((text, ""));
            head.to_owned() + tail.trim_start_matches(|c: char| c.is_ascii_digit())
        };
        self.asked.lock().unwrap().iter().map(cut).collect()
    }

    pub fn told(&self) -> String {
        self.told.lock().unwrap().join(", ")
    }

    pub fn state(&self) -> State {
        let states = self.board.states();
        states.into_iter().find(|(source, _)| *source == self.source).unwrap().1
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub fn services() -> Resource {
    Resource::new(Content::Object(Kind::Service), "", "v1", "services")
}

struct Teller(Words);

impl Teller {
    fn tell(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

fn name(object: &Decoded) -> String {
    match object {
        Decoded::Object(object, _) => object.key().name.to_string(),
        other => format!("{other:?}"),
    }
}

impl Sink<Decoded> for Teller {
    fn begin(&mut self) {
        self.tell("begin".to_owned());
    }
    fn seen(&mut self, object: Decoded) {
        self.tell(format!("seen {}", name(&object)));
    }
    fn complete(&mut self) {
        self.tell("complete".to_owned());
    }
    fn applied(&mut self, object: Decoded) {
        self.tell(format!("applied {}", name(&object)));
    }
    fn deleted(&mut self, namespace: &str, name: &str) {
        self.tell(format!("deleted {namespace}/{name}"));
    }
    fn absent(&mut self) {
        self.tell("absent".to_owned());
    }
}

fn client(answers: Vec<Answer>, asked: Words) -> kube::Client {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    let service = tower::service_fn(move |request: Request<Asked>| {
        asked.lock().unwrap().push(request.uri().to_string());
        let answer = answers.lock().unwrap().pop_front();
        async move {
            match answer {
                Some(Answer::Json(code, text)) => Ok(Response::builder().status(code).body(Body::from(text)).unwrap()),
                Some(Answer::Stream(bits)) => Ok(Response::new(body(bits))),
                Some(Answer::Refuse) => Err(io::Error::from(io::ErrorKind::ConnectionRefused)),
                Some(Answer::Hang) | None => std::future::pending().await,
            }
        }
    });
    kube::Client::new(service, "default")
}

fn body(bits: Vec<Bit>) -> Body {
    let bits = VecDeque::from(bits);
    Body::from_stream(stream::unfold(bits, |mut bits| async move {
        loop {
            match bits.pop_front()? {
                // In two pieces, as the network may have it.
                Bit::Line(mut line) => {
                    line.push('\n');
                    bits.push_front(Bit::Piece(line.split_off(line.len() / 2)));
                    return Some((Ok(line), bits));
                }
                Bit::Piece(piece) => return Some((Ok(piece), bits)),
                Bit::Wait(milliseconds) => tokio::time::sleep(Duration::from_millis(milliseconds)).await,
                Bit::Break => return Some((Err(io::Error::from(io::ErrorKind::ConnectionReset)), bits)),
                Bit::Hang => std::future::pending().await,
            }
        }
    }))
}
