//! An upstream that takes its time, or says nothing: 192.0.2.7 for every name.

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::SockRef;

use super::{UPSTREAM, wire};

/// Octets of the queue of questions.
const BUFFER: usize = 8 << 20;

/// It answers until it is dropped.
#[derive(Debug)]
pub struct Slow {
    address: SocketAddr,
    /// `None`: silent.
    after: Arc<Mutex<Option<Duration>>>,
    over: Arc<AtomicBool>,
}

impl Slow {
    /// Starts one that answers each question after so long; never, if that is `None`.
    ///
    /// # Panics
    /// The system grants no socket.
    #[must_use]
    pub fn start(after: Option<Duration>) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(UPSTREAM, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(5))).expect("a timeout");
        // What comes while this thread waits for its turn is not lost; root's tests get all of it.
        let _ = SockRef::from(&socket).set_recv_buffer_size(BUFFER);
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &BUFFER);
        let address = socket.local_addr().expect("an address");
        let (after, over) = (Arc::new(Mutex::new(after)), Arc::new(AtomicBool::new(false)));
        let slow = Self { address, after: Arc::clone(&after), over: Arc::clone(&over) };
        thread::spawn(move || {
            let (mut waiting, mut buffer) = (VecDeque::new(), [0; 1500]);
            while !over.load(Ordering::Relaxed) {
                if let Ok((length, peer)) = socket.recv_from(&mut buffer)
                    && let Some(after) = *after.lock().unwrap_or_else(PoisonError::into_inner)
                    && let Some(answer) = answer(&buffer[..length])
                {
                    waiting.push_back((Instant::now() + after, answer, peer));
                }
                while let Some((_, answer, peer)) = waiting.pop_front_if(|(due, ..)| *due <= Instant::now()) {
                    let _ = socket.send_to(&answer, peer);
                }
            }
        });
        slow
    }

    /// Where it is.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on it answers after so long.
    pub fn answers_after(&self, after: Option<Duration>) {
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = after;
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let question = wire::question_len(query)?;
    let mut answer = query.get(..12 + question)?.to_vec();
    answer[2] |= 0x80;
    answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    Some(answer)
}
