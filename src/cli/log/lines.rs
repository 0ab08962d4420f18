//! Lines on their way to standard error.
//!
//! Who logs must not wait for whoever reads standard error: a pipe that is full would stop the workers that answer queries. So
//! lines wait in a queue, and a thread writes them. Lines for which there is no room are lost, counted, and the log says so; of
//! the queue a part is kept for other lines than those of the query log, which are the many.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use super::fold::Fold;
use crate::dns::log::TARGET;

/// Lines that may wait: about 2 MB.
const ROOM: usize = 8192;
/// Of these, lines of the query log.
const ROOM_OF_QUERIES: usize = 7168;
/// Octets that are written at once.
const PIECE: usize = 64 << 10;
/// How often lost lines are spoken of.
const SAY_LOST: Duration = Duration::from_secs(10);
/// How long the end waits for what is left.
const END: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    /// Write all that came before, and say so.
    End(SyncSender<()>),
}

#[derive(Debug)]
struct Queue {
    to: SyncSender<Message>,
    /// Taken by the thread when it starts.
    from: std::sync::Mutex<Option<Receiver<Message>>>,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

/// Where lines are left; clones are the same.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Queue>);

impl Default for Lines {
    fn default() -> Self {
        // One more than lines, so that the end finds room.
        let (to, from) = sync_channel(ROOM + 1);
        let from = std::sync::Mutex::new(Some(from));
        Self(Arc::new(Queue { to, from, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) }))
    }
}

impl Lines {
    /// Starts to write; `fold` says from time to time what it has kept back.
    ///
    /// # Errors
    /// The system grants no thread.
    pub fn start(&self, fold: Arc<Fold>) -> io::Result<Writing> {
        let (lines, kept_back) = (self.clone(), Arc::clone(&fold));
        thread::Builder::new().name("log".into()).spawn(move || lines.run(&fold, io::stderr()))?;
        Ok(Writing { lines: self.clone(), fold: kept_back })
    }

    /// How many lines were lost so far.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    fn leave(&self, line: &[u8], room: usize) {
        if self.0.waiting.fetch_add(1, Relaxed) < room {
            match self.0.to.try_send(Message::Line(line.to_vec())) {
                Ok(()) => return,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
            }
        }
        self.0.waiting.fetch_sub(1, Relaxed);
        self.0.dropped.fetch_add(1, Relaxed);
    }

    fn run(&self, fold: &Fold, mut out: impl Write) {
        let Some(from) = self.0.from.lock().ok().and_then(|mut from| from.take()) else { return };
        let (mut piece, mut lost) = (Vec::with_capacity(PIECE), Lost::default());
        loop {
            let now = Instant::now();
            let due = [fold.due(), lost.due(self.dropped(), now)].into_iter().flatten().min();
            let first = match due {
                None => from.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => from.recv_timeout(due.saturating_duration_since(now)),
            };
            let end = match first {
                Ok(first) => self.gather(first, &from, &mut piece),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // Nobody can be told that standard error is gone.
            drop(out.write_all(&piece).and_then(|()| out.flush()));
            piece.clear();
            if let Some(done) = end {
                let _ = done.send(());
            }
            let now = Instant::now();
            fold.say(now);
            lost.say(self.dropped(), now);
        }
    }

    /// Takes a line and those behind it, as many as are written at once.
    fn gather(&self, first: Message, more: &Receiver<Message>, piece: &mut Vec<u8>) -> Option<SyncSender<()>> {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Line(line) => {
                    self.0.waiting.fetch_sub(1, Relaxed);
                    piece.extend_from_slice(&line);
                }
                Message::End(done) => return Some(done),
            }
            next = if piece.len() < PIECE { more.try_recv().ok() } else { None };
        }
        None
    }
}

/// What was said of lost lines.
#[derive(Default)]
struct Lost {
    said: u64,
    at: Option<Instant>,
}

impl Lost {
    /// When there is something to be said.
    fn due(&self, dropped: u64, now: Instant) -> Option<Instant> {
        (dropped > self.said).then(|| self.at.map_or(now, |at| at + SAY_LOST))
    }

    fn say(&mut self, dropped: u64, now: Instant) {
        if self.due(dropped, now).is_none_or(|due| due > now) {
            return;
        }
        let lost = dropped - self.said;
        (self.said, self.at) = (dropped, Some(now));
        tracing::warn!(lost, "log lines are lost: whoever reads standard error takes them too slowly");
    }
}

/// The thread that writes; dropped, it writes what is left, for as long as somebody reads.
#[derive(Debug)]
pub struct Writing {
    lines: Lines,
    fold: Arc<Fold>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.fold.say_all(Instant::now());
        let (done, ended) = sync_channel(1);
        if self.lines.0.to.try_send(Message::End(done)).is_ok() {
            let _ = ended.recv_timeout(END);
        }
    }
}

/// Takes one line.
pub struct Left<'l> {
    lines: &'l Lines,
    room: usize,
}

impl Write for Left<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.lines.leave(line, self.room);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'l> MakeWriter<'l> for Lines {
    type Writer = Left<'l>;

    fn make_writer(&'l self) -> Left<'l> {
        Left { lines: self, room: ROOM }
    }

    fn make_writer_for(&'l self, meta: &Metadata<'_>) -> Left<'l> {
        Left { lines: self, room: if meta.target() == TARGET { ROOM_OF_QUERIES } else { ROOM } }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Says that it has something, and takes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>, mpsc::Sender<Vec<u8>>);

    impl Write for Stuck {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            let _ = self.1.send(Vec::new());
            let _ = self.0.recv();
            let _ = self.1.send(octets.to_vec());
            Ok(octets.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_logs_never_waits_and_what_finds_no_room_is_counted() {
        let (lines, (go, wait), (to, written)) = (Lines::default(), mpsc::channel(), mpsc::channel());
        let shared = lines.clone();
        let running = thread::spawn(move || shared.run(&Fold::default(), Stuck(wait, to)));
        lines.leave(b"first\n", ROOM);
        // The thread is stuck with the first line: the rest fills the queue.
        assert_eq!(written.recv_timeout(Duration::from_secs(10)), Ok(Vec::new()));
        for _ in 0..ROOM_OF_QUERIES + 100 {
            lines.leave(b"query\n", ROOM_OF_QUERIES);
        }
        assert_eq!(lines.dropped(), 100);
        for _ in 0..ROOM {
            lines.leave(b"other\n", ROOM);
        }
        let room = ROOM - ROOM_OF_QUERIES;
        assert_eq!(lines.dropped(), 100 + (ROOM - room) as u64, "a part of the room is for others");
        drop(go);
        let (done, ended) = sync_channel(1);
        lines.0.to.send(Message::End(done)).unwrap();
        ended.recv_timeout(Duration::from_secs(10)).unwrap();
        let text = written.try_iter().flatten().filter(|octet| *octet == b'\n').count();
        assert_eq!(text, 1 + ROOM);
        drop((lines, running));
    }
}
