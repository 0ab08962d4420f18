//! A server that is asked all the time while something goes wrong behind it, and what it says of itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hickory_proto::op::Message;

use super::client::{Client, Proto};
use super::server::{Server, http_get};
use super::wire;

/// The option code of extended errors (RFC 8914).
const EDE: u16 = 15;
/// How often a test looks, and between two questions.
const LOOK: Duration = Duration::from_millis(10);

/// What is asked, and what has to be answered: who asks, the name, response code and addresses.
pub type Want<'a> = (IpAddr, &'a str, u8, &'a [&'a str]);

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Response code.
    pub code: u8,
    /// Addresses, in order.
    pub addresses: Vec<String>,
    /// The extended error, if there is one.
    pub ede: Option<u16>,
}

impl Heard {
    /// Whether it is this.
    #[must_use]
    pub fn is(&self, code: u8, addresses: &[&str]) -> bool {
        self.code == code && self.addresses == addresses
    }
}

/// Asks for addresses.
///
/// # Errors
/// There is no answer.
pub fn ask(at: SocketAddr, from: IpAddr, name: &str) -> Result<Heard, String> {
    let query = wire::query(9, name, 1, true);
    let answer = Client::default().ask(from, at, Proto::Udp, &query).map_err(|error| error.to_string())?;
    let message = Message::from_vec(&answer).map_err(|error| error.to_string())?;
    let mut addresses: Vec<String> = message.answers.iter().map(|record| record.data.to_string()).collect();
    addresses.sort_unstable();
    let options = message.edns.iter().flat_map(|edns| &edns.options().options);
    let coded = options.filter(|(code, _)| u16::from(*code) == EDE);
    let ede = coded.filter_map(|(_, option)| Vec::<u8>::try_from(option).ok()).next();
    let ede = ede.filter(|octets| octets.len() >= 2).map(|octets| u16::from_be_bytes([octets[0], octets[1]]));
    Ok(Heard { code: answer[3] & 15, addresses, ede })
}

/// Somebody who asks without a pause.
#[derive(Debug)]
pub struct Steady {
    over: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Vec<String>)>,
}

impl Steady {
    /// Begins to ask; each answer has to be right.
    #[must_use]
    pub fn start(at: SocketAddr, wants: &[Want<'_>]) -> Self {
        let own = |(from, name, code, addresses): &Want<'_>| {
            let addresses: Vec<String> = addresses.iter().map(|&address| address.to_owned()).collect();
            (*from, (*name).to_owned(), *code, addresses)
        };
        let wants: Vec<_> = wants.iter().map(own).collect();
        let over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let (mut asked, mut wrong, begun) = (0, Vec::new(), Instant::now());
            while !end.load(Ordering::Relaxed) {
                for (from, name, code, addresses) in &wants {
                    asked += 1;
                    match ask(at, *from, name) {
                        Ok(heard) if heard.code == *code && heard.addresses == *addresses => {}
                        other => wrong.push(format!("{name} from {from} after {:?}: {other:?}", begun.elapsed())),
                    }
                }
                std::thread::sleep(LOOK);
            }
            (asked, wrong)
        });
        Self { over, thread }
    }

    /// Ends it. How often it has asked.
    ///
    /// # Panics
    /// Something was not answered, or not right.
    pub fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        let (asked, wrong) = self.thread.join().expect("it asked to the end");
        assert!(asked > 0, "nothing was asked");
        assert!(wrong.is_empty(), "{} of {asked} answers were wrong, first {}", wrong.len(), wrong[0]);
        asked
    }
}

/// Waits until this is so, and says how long that took.
///
/// # Panics
/// It is not so in time.
pub fn until(what: &str, limit: Duration, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK);
    }
    begun.elapsed()
}

/// Waits until this is answered, and says how long that took.
///
/// # Panics
/// It is not in time.
pub fn until_answered(at: SocketAddr, (from, name, code, addresses): Want<'_>, limit: Duration) -> Duration {
    let begun = Instant::now();
    loop {
        let heard = ask(at, from, name);
        if heard.as_ref().is_ok_and(|heard| heard.is(code, addresses)) {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < limit, "{name} from {from}: {heard:?} after {limit:?} and not {code} {addresses:?}");
        std::thread::sleep(LOOK);
    }
}

/// What `/readyz` says; status 0 if nobody answers there.
#[must_use]
pub fn readyz(server: &Server) -> (u16, String) {
    http_get(server.admin(), "/readyz").unwrap_or_default()
}

/// Waits until `/readyz` has this status and all these words.
///
/// # Panics
/// It does not in time.
pub fn until_ready(server: &Server, code: u16, words: &[&str], limit: Duration) -> Duration {
    let begun = Instant::now();
    loop {
        let (now, text) = readyz(server);
        if now == code && words.iter().all(|word| text.contains(word)) {
            return begun.elapsed();
        }
        assert!(
            begun.elapsed() < limit,
            "/readyz is {now} {text:?} after {limit:?}, and not {code} with {words:?}: {}",
            server.tail()
        );
        std::thread::sleep(LOOK);
    }
}

/// Waits until `/readyz` is `ok` and nothing else.
pub fn until_well(server: &Server, limit: Duration) {
    until("a /readyz that says ok and nothing else", limit, || readyz(server) == (200, "ok\n".to_owned()));
}

/// The sum of a metric over all series whose labels hold all these words.
#[must_use]
pub fn metric(server: &Server, name: &str, labels: &[&str]) -> f64 {
    let (_, text) = http_get(server.admin(), "/metrics").expect("metrics");
    let series = text.lines().filter(|line| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    });
    series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
}

/// What `/debug/reports` says.
#[must_use]
pub fn reports(server: &Server) -> String {
    http_get(server.admin(), "/debug/reports").expect("reports").1
}
