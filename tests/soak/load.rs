//! Callers that ask all the time, and hold every answer against the oracle.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::oracle::{ADDRESSES, DOMAINS, NAMESPACES, Oracle, Question, SERVICES};
use crate::support::client::{Client, Proto, next_id};
use crate::support::wire;

/// Threads that ask.
const CALLERS: u64 = 4;
/// Between two questions of one of them.
const PAUSE: Duration = Duration::from_millis(3);
/// So many names outside the mesh.
pub const OUTSIDE: usize = 400;
/// An answer that takes longer than this counts as slow; it is not wrong.
const SLOW: Duration = Duration::from_secs(1);

/// What became of the questions.
#[derive(Debug, Default)]
pub struct Tally {
    pub mesh: u64,
    pub outside: u64,
    pub tcp: u64,
    pub slow: u64,
    pub lost: Vec<String>,
    pub wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.mesh += other.mesh;
        self.outside += other.outside;
        self.tcp += other.tcp;
        self.slow += other.slow;
        self.lost.extend(other.lost);
        self.wrong.extend(other.wrong);
    }
}

pub fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 42, 0, 1 + u8::try_from(number).expect("few addresses")).into()
}

pub fn outside(number: usize) -> (String, String) {
    (format!("host-{number}.soak.example"), format!("198.51.100.{}", number % 250))
}

/// Callers at work.
pub struct Load {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Tally>>,
}

impl Load {
    pub fn start(at: SocketAddr, oracle: &Arc<RwLock<Oracle>>, seed: u64) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let caller = |n| {
            let (over, oracle) = (Arc::clone(&over), Arc::clone(oracle));
            let mut caller = Caller {
                at,
                oracle,
                random: StdRng::seed_from_u64(seed ^ n),
                begun: Instant::now(),
                tally: Tally::default(),
            };
            std::thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    caller.ask();
                    std::thread::sleep(PAUSE);
                }
                caller.tally
            })
        };
        let threads = (1..=CALLERS).map(caller).collect();
        Self { over, threads }
    }

    pub fn end(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        let mut all = Tally::default();
        for thread in self.threads {
            all.add(thread.join().expect("a caller that asked to the end"));
        }
        all
    }
}

struct Caller {
    at: SocketAddr,
    oracle: Arc<RwLock<Oracle>>,
    random: StdRng,
    begun: Instant,
    tally: Tally,
}

impl Caller {
    fn ask(&mut self) {
        let question = Question {
            address: self.random.random_range(0..ADDRESSES),
            namespace: self.random.random_range(0..NAMESPACES.len()),
            service: self.random.random_range(0..SERVICES),
            domain: self.random.random_range(0..DOMAINS.len()),
        };
        let mesh = self.random.random_range(0..4) > 0;
        let (outside, ip) = outside(self.random.random_range(0..OUTSIDE));
        let name = if mesh { question.name() } else { outside };
        let proto = if self.random.random_range(0..16) == 0 { Proto::Tcp } else { Proto::Udp };
        let query = wire::query(next_id(), &name, 1, true);
        let sent = Instant::now();
        let answer = Client::default().ask(address(question.address), self.at, proto, &query);
        let heard = Instant::now();
        self.tally.tcp += u64::from(proto == Proto::Tcp);
        self.tally.slow += u64::from(heard - sent > SLOW);
        let said = match answer.map_err(|e| e.to_string()).and_then(|a| said(&a)) {
            Ok(said) => said,
            Err(error) => {
                self.tally.lost.push(self.line(&question, &name, proto, &error));
                return;
            }
        };
        let right = if mesh {
            self.tally.mesh += 1;
            let allowed = self.oracle.read().expect("an oracle").allowed(&question, sent, heard);
            if allowed.contains(&said) { None } else { Some(format!("{allowed:?}")) }
        } else {
            self.tally.outside += 1;
            if said == (0, Some(ip.clone())) { None } else { Some(ip) }
        };
        if let Some(right) = right {
            self.tally.wrong.push(self.line(&question, &name, proto, &format!("{said:?}, not {right}")));
        }
    }

    fn line(&self, question: &Question, name: &str, proto: Proto, what: &str) -> String {
        format!("after {:?} {name} from {} over {proto:?}: {what}", self.begun.elapsed(), address(question.address))
    }
}

/// Response code and first address.
fn said(answer: &[u8]) -> Result<(u8, Option<String>), String> {
    let message = Message::from_vec(answer).map_err(|e| e.to_string())?;
    Ok((answer[3] & 15, message.answers.first().map(|record| record.data.to_string())))
}
