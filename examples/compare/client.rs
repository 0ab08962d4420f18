//! Questions over UDP and TCP, and how soon what came back.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::opt::EdnsOption;
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, timeout};

use super::{Took, wire};

/// A
const A: u16 = 1;
/// Extended DNS error (RFC 8914)
const EDE: u16 = 15;
/// How often a client under constant load asks.
pub const LOAD: Duration = Duration::from_millis(20);
/// How long it waits for each answer.
const LOAD_PATIENCE: Duration = Duration::from_millis(2500);

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// UDP, with an OPT that announces 1232 octets.
    Edns,
    /// UDP without EDNS: 512 octets.
    Plain,
    /// A TCP connection of its own, with EDNS.
    Tcp,
}

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Response code, by its name.
    pub rcode: String,
    /// TC
    pub truncated: bool,
    /// The addresses of its answer section, in order.
    pub addresses: Vec<Ipv4Addr>,
    /// The TTL of its first record.
    pub ttl: Option<u32>,
    /// Its extended errors.
    pub ede: Vec<u16>,
}

/// What a client saw.
#[derive(Clone, Debug, Serialize)]
pub struct Saw {
    /// Until the answer, or until patience ended.
    pub after: Took,
    /// `None`: nothing came.
    pub answer: Option<Answer>,
}

/// What a client saw that did not stop asking.
#[derive(Clone, Debug, Serialize)]
pub struct Steady {
    /// From the moment that the watched answer was possible to the first one; `None`: not within the limit.
    pub after: Option<Took>,
    /// How many questions had ended before, with or without an answer.
    pub asked: usize,
    /// How many of them had no answer, or SERVFAIL.
    pub failed: usize,
    /// The median of how long they took.
    pub p50: Took,
}

/// Asks one server.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    /// The server.
    pub server: SocketAddr,
}

impl Answer {
    fn read(wire: &[u8]) -> Option<Self> {
        let message = Message::from_vec(wire).ok()?;
        let address = |data: &RData| if let RData::A(a) = data { Some(a.0) } else { None };
        let options = message.edns.iter().flat_map(|e| &e.options().options);
        let ede = options.filter_map(|(_, option)| match option {
            EdnsOption::Unknown(EDE, data) => data.first_chunk().map(|code| u16::from_be_bytes(*code)),
            _ => None,
        });
        Some(Self {
            rcode: wire::rcode_text(u16::from(wire[3] & 15)),
            truncated: wire[2] & 2 != 0,
            addresses: message.answers.iter().filter_map(|r| address(&r.data)).collect(),
            ttl: message.answers.first().map(|r| r.ttl),
            ede: ede.collect(),
        })
    }

    /// Whether it is NOERROR with addresses.
    #[must_use]
    pub fn good(&self) -> bool {
        self.rcode == "NOERROR" && !self.addresses.is_empty()
    }

    /// In short.
    #[must_use]
    pub fn words(&self) -> String {
        let mut what = match &self.addresses[..] {
            [] => self.rcode.clone(),
            [one] => one.to_string(),
            many => format!("{} addresses", many.len()),
        };
        if self.truncated {
            what = format!("TC, {what}");
        }
        let ede = self.ede.iter().map(|code| format!("EDE {code}"));
        let ttl = self.ttl.filter(|_| self.addresses.len() == 1).map(|ttl| format!("TTL {ttl}"));
        let more: Vec<String> = ttl.into_iter().chain(ede).collect();
        if more.is_empty() { what } else { format!("{what} ({})", more.join(", ")) }
    }
}

impl Steady {
    fn from(after: Option<Took>, ended: &[Saw]) -> Self {
        let mut times: Vec<_> = ended.iter().map(|saw| saw.after.0).collect();
        times.sort_unstable();
        let failed = |saw: &&Saw| saw.answer.as_ref().is_none_or(|a| a.rcode == "SERVFAIL");
        Self {
            after,
            asked: ended.len(),
            failed: ended.iter().filter(failed).count(),
            p50: Took(times.get(times.len() / 2).copied().unwrap_or_default()),
        }
    }

    /// In short, of one that watched for nothing.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { asked, failed, p50, .. } = self;
        format!("{} of {asked} answered, median {p50}", asked - failed)
    }
}

impl Saw {
    /// Whether it is NOERROR with addresses.
    #[must_use]
    pub fn good(&self) -> bool {
        self.answer.as_ref().is_some_and(Answer::good)
    }

    /// In short.
    #[must_use]
    pub fn words(&self) -> String {
        match &self.answer {
            Some(answer) => format!("{} after {}", answer.words(), self.after),
            None => format!("nothing in {}", self.after),
        }
    }
}

impl Client {
    /// One question for A over UDP with EDNS.
    pub async fn ask(self, name: &str, patience: Duration) -> Saw {
        self.ask_as(Ipv4Addr::LOCALHOST, How::Edns, name, patience).await
    }

    /// One question for A, from this address.
    pub async fn ask_as(self, from: Ipv4Addr, how: How, name: &str, patience: Duration) -> Saw {
        let start = Instant::now();
        let exchange = async {
            match how {
                How::Tcp => self.over_tcp(from, name).await,
                How::Edns | How::Plain => self.over_udp(from, name, how == How::Edns).await,
            }
        };
        let answer = timeout(patience, exchange).await.ok().and_then(Result::ok);
        Saw { after: Took(start.elapsed()), answer }
    }

    /// Many clients at once, each with an address and a name of its own.
    pub async fn ask_all(self, asks: Vec<(Ipv4Addr, String)>, patience: Duration) -> Vec<Saw> {
        let ask = |(from, name): (Ipv4Addr, String)| {
            tokio::spawn(async move { self.ask_as(from, How::Edns, &name, patience).await })
        };
        let tasks: Vec<_> = asks.into_iter().map(ask).collect();
        let mut seen = Vec::with_capacity(tasks.len());
        for task in tasks {
            seen.push(task.await.expect("a client does not panic"));
        }
        seen
    }

    /// Asks for one name without a pause, [`LOAD`] apart, until an answer is as wanted.
    pub async fn watch(self, name: &str, limit: Duration, wanted: impl Fn(&Answer) -> bool) -> Steady {
        self.watch_each(|_| name.to_owned(), limit, wanted).await
    }

    /// As [`Client::watch`], with a name for each question.
    pub async fn watch_each(
        self,
        name: impl Fn(usize) -> String,
        limit: Duration,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Steady {
        let start = Instant::now();
        let (told, mut tell) = mpsc::unbounded_channel();
        let mut told = Some(told);
        let mut pace = interval(LOAD);
        let mut count = 0;
        let mut ended = Vec::new();
        // Once the limit is over nothing more is asked, and the channel closes with the last question in flight.
        let after = loop {
            tokio::select! {
                _ = pace.tick(), if told.is_some() => {
                    told.take_if(|_| start.elapsed() >= limit);
                    let Some(told) = told.clone() else { continue };
                    let name = name(count);
                    tokio::spawn(async move {
                        let saw = self.ask(&name, LOAD_PATIENCE).await;
                        let _ = told.send((saw, Instant::now()));
                    });
                    count += 1;
                }
                next = tell.recv() => match next {
                    None => break None,
                    Some((saw, at)) if saw.answer.as_ref().is_some_and(&wanted) => break Some(Took(at - start)),
                    Some((saw, _)) => ended.push(saw),
                },
            }
        };
        Steady::from(after, &ended)
    }

    async fn over_udp(self, from: Ipv4Addr, name: &str, edns: bool) -> io::Result<Answer> {
        let socket = UdpSocket::bind((IpAddr::V4(from), 0)).await?;
        socket.connect(self.server).await?;
        let query = wire::query(next_id(), name, A, edns);
        socket.send(&query).await?;
        let mut buffer = vec![0; 65_535];
        loop {
            let length = socket.recv(&mut buffer).await?;
            if let Some(answer) = Answer::read(&buffer[..length])
                && buffer[..2] == query[..2]
            {
                return Ok(answer);
            }
        }
    }

    async fn over_tcp(self, from: Ipv4Addr, name: &str) -> io::Result<Answer> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((from, 0).into())?;
        let mut stream = socket.connect(self.server).await?;
        let query = wire::query(next_id(), name, A, true);
        let length = u16::try_from(query.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes(), &query[..]].concat()).await?;
        let mut answer = vec![0; usize::from(stream.read_u16().await?)];
        stream.read_exact(&mut answer).await?;
        Answer::read(&answer).ok_or_else(|| io::Error::other("no DNS message"))
    }
}

fn next_id() -> u16 {
    static LAST: AtomicU16 = AtomicU16::new(1);
    LAST.fetch_add(0x2f1d, Ordering::Relaxed)
}
