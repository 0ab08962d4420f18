//! A client of the API server that sees what it does to connections, and recordings of a real server to compare it with.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::apiserver::ApiServer;

/// How long an answer, or the next line of a watch, may take.
const WAIT: Duration = Duration::from_secs(10);

/// An answer, without or with its body.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code.
    pub code: u16,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
}

/// A request for these.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Path and query.
    pub path: String,
    /// Header `Accept`.
    pub accept: &'static str,
    /// Without one, the server's.
    pub token: Option<String>,
}

/// A connection on which an answer is being read.
pub struct Connection {
    stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
    /// What has been read of the next line of a watch.
    rest: Vec<u8>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// As HTTP ends.
    Proper,
    /// Without a last chunk and without close_notify, after this much of a line.
    Cut(String),
    /// Nothing came for so long.
    Silent,
}

impl Ask {
    /// A plain one.
    #[must_use]
    pub fn new(path: &str) -> Self {
        Self { path: path.to_owned(), accept: "application/json", token: None }
    }
}

impl Answer {
    /// Its body as JSON, if it is that.
    #[must_use]
    pub fn json(&self) -> Option<Value> {
        serde_json::from_str(&self.body).ok()
    }

    /// The lines of its body as JSON.
    #[must_use]
    pub fn lines(&self) -> Vec<Value> {
        let lines = self.body.lines().filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).expect("a line of a watch")).collect()
    }
}

impl Connection {
    /// Asks on a connection of its own, and reads the head of the answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ask(server: &ApiServer, ask: &Ask) -> io::Result<(Self, Answer)> {
        let mut connection = Self::send(server, ask)?;
        let head = connection.head()?;
        Ok((connection, head))
    }

    /// Asks, and reads nothing.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn send(server: &ApiServer, ask: &Ask) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(server.ca().to_vec())).map_err(io::Error::other)?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(server.address().ip());
        let tls = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let tcp = TcpStream::connect(server.address())?;
        tcp.set_read_timeout(Some(WAIT))?;
        let mut stream = StreamOwned::new(tls, tcp);
        let token = ask.token.clone().unwrap_or_else(|| server.token());
        let (path, accept) = (&ask.path, ask.accept);
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nUser-Agent: test\r\nAccept: {accept}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        Ok(Self { stream: BufReader::new(stream), rest: Vec::new() })
    }

    /// The head of the answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn head(&mut self) -> io::Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let line = line.trim_end();
            if line.is_empty() {
                return Ok(answer);
            }
            if let Some((name, value)) = line.split_once(": ") {
                answer.headers.insert(name.to_lowercase(), value.to_owned());
            } else {
                answer.code = line.split(' ').nth(1).and_then(|c| c.parse().ok()).unwrap_or(0);
            }
        }
    }

    /// The next line of a watch.
    ///
    /// # Errors
    /// How the stream ended.
    pub fn line(&mut self) -> Result<Value, End> {
        loop {
            if let Some(end) = self.rest.iter().position(|octet| *octet == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Ok(serde_json::from_slice(&line).expect("a line of a watch"));
            }
            match self.chunk() {
                Ok(chunk) if chunk.is_empty() => return Err(End::Proper),
                Ok(chunk) => self.rest.extend(chunk),
                Err(e) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&e.kind()) => return Err(End::Silent),
                Err(e) if e.kind() == ErrorKind::UnexpectedEof => {
                    return Err(End::Cut(String::from_utf8_lossy(&self.rest).into_owned()));
                }
                Err(e) => panic!("neither an end nor a cut: {e}"),
            }
        }
    }

    /// Type and name of the next line, `ADDED web`.
    ///
    /// # Panics
    /// The stream ended.
    pub fn word(&mut self) -> String {
        word(&self.line().expect("a line"))
    }

    /// All lines until the stream ends.
    pub fn lines(&mut self) -> (Vec<Value>, End) {
        let mut lines = Vec::new();
        loop {
            match self.line() {
                Ok(line) => lines.push(line),
                Err(end) => return (lines, end),
            }
        }
    }

    /// Waits no longer than this for the next line.
    ///
    /// # Panics
    /// Never.
    pub fn patience(&self, wait: Duration) {
        self.stream.get_ref().sock.set_read_timeout(Some(wait)).expect("a timeout of more than nothing");
    }

    fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let mut size = String::new();
        if self.stream.read_line(&mut size)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let size = usize::from_str_radix(size.trim_end(), 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        self.stream.read_exact(&mut chunk)?;
        chunk.truncate(size);
        Ok(chunk)
    }

    fn body(&mut self, head: &Answer) -> io::Result<String> {
        let mut body = Vec::new();
        if let Some(length) = head.headers.get("content-length") {
            body.resize(length.parse().map_err(io::Error::other)?, 0);
            self.stream.read_exact(&mut body)?;
        } else {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        }
        String::from_utf8(body).map_err(io::Error::other)
    }
}

/// The whole answer.
///
/// # Panics
/// There is none.
#[must_use]
pub fn get(server: &ApiServer, path: &str) -> Answer {
    fetch(server, &Ask::new(path))
}

/// The whole answer.
///
/// # Panics
/// There is none.
#[must_use]
pub fn fetch(server: &ApiServer, ask: &Ask) -> Answer {
    let (mut connection, mut answer) = Connection::ask(server, ask).expect("an answer");
    answer.body = connection.body(&answer).expect("a body");
    answer
}

/// A stream that has been answered with 200.
///
/// # Panics
/// It was not.
#[must_use]
pub fn watch(server: &ApiServer, path: &str) -> Connection {
    let (connection, head) = Connection::ask(server, &Ask::new(path)).expect("an answer");
    assert_eq!(head.code, 200, "{path}");
    connection
}

/// Type and name of a line, `ADDED web`; of an error its code and reason; of a bookmark whether it ends the initial
/// events.
#[must_use]
pub fn word(line: &Value) -> String {
    let object = &line["object"];
    let kind = line["type"].as_str().unwrap_or_default();
    match kind {
        "ERROR" => format!("ERROR {} {}", object["code"], object["reason"].as_str().unwrap_or_default()),
        "BOOKMARK" if object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true" => "BOOKMARK end".into(),
        "BOOKMARK" => "BOOKMARK".into(),
        _ => format!("{kind} {}", object["metadata"]["name"].as_str().unwrap_or_default()),
    }
}

/// A recorded exchange: the path that was asked for, and the answer.
///
/// # Panics
/// There is no such recording.
#[must_use]
pub fn recorded(name: &str) -> (String, Answer) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures-apiserver").join(format!("{name}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    // The heads end their lines as HTTP does.
    let text = text.replace("\r\n", "\n");
    let (head, body) = text.split_once("\n\n").expect("a head");
    let mut lines = head.lines();
    let request = lines.next().and_then(|l| l.strip_prefix("> GET ")).expect("a request").to_owned();
    let code = lines.next().and_then(|l| l.split(' ').nth(1)).and_then(|c| c.parse().ok()).expect("a code");
    let headers = lines.filter_map(|l| l.split_once(": ")).map(|(k, v)| (k.to_lowercase(), v.to_owned())).collect();
    (request, Answer { code, headers, body: body.to_owned() })
}

/// The structure of a value: its keys, and the types of what they hold.
#[must_use]
pub fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::String(_) => "string".into(),
        Value::Number(_) => "number".into(),
        Value::Bool(_) => "bool".into(),
        Value::Null => Value::Null,
    }
}

/// A value whose texts have `N` where there were digits, and `TOKEN` for continue tokens.
#[must_use]
pub fn without_numbers(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let field = |(key, value): (&String, &Value)| {
                let token = key == "continue";
                (key.clone(), if token { "TOKEN".into() } else { without_numbers(value) })
            };
            fields.iter().map(field).collect()
        }
        Value::Array(items) => items.iter().map(without_numbers).collect(),
        Value::String(text) => {
            let mut out = String::new();
            for c in text.chars() {
                match c {
                    '0'..='9' if out.ends_with('N') => {}
                    '0'..='9' => out.push('N'),
                    other => out.push(other),
                }
            }
            out.into()
        }
        other => other.clone(),
    }
}
