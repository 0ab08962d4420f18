//! Answers of the general path over UDP, on their way out.
//!
//! Upstreams' answers come in bunches, and whoever receives one passes it on at once. A system call for each would cost more
//! than all else about it, so what is posted on a thread within [`together`] leaves together; anything else leaves as it comes.

use std::cell::RefCell;
use std::mem;
use std::sync::Arc;

use socket2::Socket;

use super::mmsg::{Route, send_all};
use super::{Owner, add};

/// So many wait for no more.
const MOST: usize = 32;

thread_local! {
    static ROUND: RefCell<Round> = const { RefCell::new(Round { open: false, letters: Vec::new() }) };
}

struct Round {
    open: bool,
    letters: Vec<Letter>,
}

/// Where an answer goes.
pub(super) struct Address {
    pub(super) socket: Arc<Socket>,
    pub(super) route: Route,
}

/// One answer.
pub(super) struct Letter {
    pub(super) address: Address,
    pub(super) answer: Vec<u8>,
    /// Whose it is, and who is there until it is sent.
    pub(super) owner: Arc<dyn Owner>,
}

/// Sends it now, or with others if that is how this thread sends.
pub(super) fn post(letter: Letter) {
    let due = ROUND.with_borrow_mut(|round| {
        if round.open && round.letters.is_empty() {
            round.letters.reserve_exact(MOST);
        }
        round.letters.push(letter);
        if round.open && round.letters.len() < MOST { Vec::new() } else { mem::take(&mut round.letters) }
    });
    send(due);
}

/// Does something; the answers that it sends from this thread leave together.
pub(in crate::dns) fn together<T>(what: impl FnOnce() -> T) -> T {
    let _closes = Closes(ROUND.with_borrow_mut(|round| mem::replace(&mut round.open, true)));
    what()
}

/// Ends a round; whether there is one around it.
struct Closes(bool);

impl Drop for Closes {
    fn drop(&mut self) {
        let letters = ROUND.with_borrow_mut(|round| {
            round.open = self.0;
            mem::take(&mut round.letters)
        });
        send(letters);
    }
}

fn is_for_one(one: &Letter, other: &Letter) -> bool {
    Arc::ptr_eq(&one.address.socket, &other.address.socket)
}

fn send(mut letters: Vec<Letter>) {
    let is_one = letters.windows(2).all(|two| is_for_one(&two[0], &two[1]));
    if !is_one {
        letters.sort_by_key(|letter| Arc::as_ptr(&letter.address.socket));
    }
    for run in letters.chunk_by(is_for_one) {
        let Some(first) = run.first() else { continue };
        let all = run.iter().map(|letter| (Some(&letter.address.route), letter.answer.as_slice()));
        send_all(&first.address.socket, all, |index, _| add(&run[index].owner.stats().send_errors));
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::Duration;

    use super::super::Stats;
    use super::super::mmsg::Batch;
    use super::*;

    #[derive(Default)]
    struct Counting(Stats);

    impl Owner for Counting {
        fn stats(&self) -> &Stats {
            &self.0
        }

        fn leave(&self) {}
    }

    /// A socket of the server, its way to a client of its own, and that client.
    fn pair() -> (Arc<Socket>, Route, UdpSocket) {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        client.send_to(b"?", server.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (server, mut batch) = (Arc::new(Socket::from(server)), Batch::new(false));
        assert_eq!(batch.receive(&server, true).unwrap(), 1);
        (server, batch.route(0), client)
    }

    fn got(client: &UdpSocket) -> Option<u8> {
        let mut buffer = [0; 8];
        client.recv(&mut buffer).ok().map(|_| buffer[0])
    }

    #[test]
    fn what_is_posted_together_leaves_at_the_end_and_each_to_its_own_asker() {
        let ways = [pair(), pair()];
        let owner = Arc::new(Counting::default());
        let letter = |at: usize, octet: u8| {
            let address = Address { socket: ways[at].0.clone(), route: ways[at].1 };
            Letter { address, answer: vec![octet], owner: owner.clone() }
        };
        post(letter(0, 1));
        assert_eq!(got(&ways[0].2), Some(1), "outside of a round it leaves at once");
        together(|| {
            together(|| (2..5).for_each(|octet| post(letter(usize::from(octet % 2), octet))));
            assert_eq!(got(&ways[0].2), Some(2), "the end of any round is the end for all that wait");
            post(letter(1, 9));
            assert_eq!(got(&ways[0].2), Some(4));
        });
        assert_eq!([got(&ways[1].2), got(&ways[1].2), got(&ways[1].2)], [Some(3), Some(9), None]);
    }

    #[test]
    fn a_long_round_keeps_nobody_waiting_and_a_refused_answer_is_counted() {
        let (socket, route, client) = pair();
        let owner = Arc::new(Counting::default());
        let letter = |answer: Vec<u8>| {
            let address = Address { socket: socket.clone(), route };
            Letter { address, answer, owner: owner.clone() }
        };
        together(|| {
            post(letter(vec![0; 70_000]));
            (1..MOST).for_each(|octet| post(letter(vec![octet as u8])));
            assert_eq!(got(&client), Some(1));
        });
        for octet in 2..MOST {
            assert_eq!(got(&client), Some(octet as u8));
        }
        assert_eq!((got(&client), owner.0.send_errors.load(Relaxed)), (None, 1), "too long for any datagram");
    }
}
