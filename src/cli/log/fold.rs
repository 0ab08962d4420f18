//! What is said again and again becomes one line a minute.
//!
//! The same message with the same fields may be said [`FREE`] times within a minute; what comes then is counted, and the end of
//! the minute says how often it came. As long as it goes on, a minute has that one line. A place in the program that says ever
//! different things (an address in a field, say) has [`FREE_OF_PLACE`] lines within a minute. Debug and trace lines, and those of
//! the query log, are never folded: whoever asks for them wants all of them.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::dns::log::TARGET as QUERIES;

/// Of the lines that say what was kept back.
const TARGET: &str = "segdns::folded";
/// What counts together.
const MINUTE: Duration = Duration::from_secs(60);
/// How often the same may be said within a minute.
const FREE: u32 = 5;
/// How many lines one place in the program may say within a minute.
const FREE_OF_PLACE: u32 = 60;
/// Most texts that are counted at once; what is beyond counts by its place only.
const TEXTS: usize = 512;
/// Octets of a text that are kept and compared.
const LENGTH: usize = 1024;

/// What is counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// The same words, by their hash.
    Text(u64),
    /// The same place in the program.
    Place(Identifier),
}

#[derive(Debug)]
struct Count {
    since: Instant,
    said: u32,
    kept_back: u64,
    /// The minute before had too many already.
    goes_on: bool,
    level: Level,
    /// The last one that was kept back.
    text: String,
}

/// What was said lately.
#[derive(Debug, Default)]
pub struct Fold {
    counts: Mutex<HashMap<Key, Count>>,
    hasher: RandomState,
}

impl Fold {
    /// Whether a line is to be written now.
    fn admits(&self, meta: &'static Metadata<'static>, text: String, now: Instant) -> bool {
        let (place, level) = (Key::Place(meta.callsite()), *meta.level());
        let same = Key::Text(self.hasher.hash_one((meta.callsite(), &text)));
        let mut counts = self.lock();
        let full = counts.len() >= TEXTS;
        let fresh = || Count { since: now, said: 0, kept_back: 0, goes_on: false, level, text: String::new() };
        if counts.entry(place.clone()).or_insert_with(fresh).said >= FREE_OF_PLACE {
            return keep_back(&mut counts, &place, text);
        }
        if counts.contains_key(&same) || !full {
            let count = counts.entry(same.clone()).or_insert_with(fresh);
            if count.goes_on || count.said >= FREE {
                return keep_back(&mut counts, &same, text);
            }
            count.said += 1;
        }
        if let Some(count) = counts.get_mut(&place) {
            count.said += 1;
        }
        true
    }

    /// When something may have to be said.
    pub fn due(&self) -> Option<Instant> {
        self.lock().values().map(|count| count.since + MINUTE).min()
    }

    /// Says how often came what was kept back in minutes that are over.
    pub fn say(&self, now: Instant) {
        self.take(|count| count.since + MINUTE <= now, now).iter().for_each(Folded::say);
    }

    /// The same for what has not lasted a minute yet.
    pub fn say_all(&self, now: Instant) {
        self.take(|_| true, now).iter().for_each(Folded::say);
    }

    fn take(&self, over: impl Fn(&Count) -> bool, now: Instant) -> Vec<Folded> {
        let mut folded = Vec::new();
        self.lock().retain(|key, count| {
            if !over(count) {
                return true;
            }
            if count.kept_back == 0 {
                return false;
            }
            let (times, lasted) = (std::mem::take(&mut count.kept_back), now.saturating_duration_since(count.since));
            let different = matches!(key, Key::Place(_));
            let text = std::mem::take(&mut count.text);
            folded.push(Folded { level: count.level, times, lasted, different, text });
            (count.since, count.said, count.goes_on) = (now, 0, true);
            true
        });
        folded
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Count>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_back(counts: &mut HashMap<Key, Count>, key: &Key, text: String) -> bool {
    if let Some(count) = counts.get_mut(key) {
        count.kept_back += 1;
        count.text = text;
    }
    false
}

/// What was kept back.
#[derive(Debug, PartialEq)]
struct Folded {
    level: Level,
    times: u64,
    lasted: Duration,
    /// The texts were not all the same.
    different: bool,
    text: String,
}

impl fmt::Display for Folded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { times, lasted, different, text, .. } = self;
        let times = grouped(*times);
        let like = if *different { "lines like this one came" } else { "repeated" };
        match lasted.as_secs() {
            0..55 => write!(f, "{like} {times} times in the last {} s: {text}", lasted.as_secs().max(1)),
            55..90 => write!(f, "{like} {times} times in the last minute: {text}"),
            more => write!(f, "{like} {times} times in the last {more} s: {text}"),
        }
    }
}

impl Folded {
    fn say(&self) {
        let repeated = self.times;
        match self.level {
            Level::ERROR => tracing::error!(target: TARGET, repeated, "{self}"),
            Level::WARN => tracing::warn!(target: TARGET, repeated, "{self}"),
            _ => tracing::info!(target: TARGET, repeated, "{self}"),
        }
    }
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Keeps lines back from a layer. It is no filter of the subscriber, because those keep state between asking and telling that
/// does not fit an answer which depends on the event.
pub struct Folding<L> {
    /// What was said lately.
    pub fold: Arc<Fold>,
    /// Who gets the rest.
    pub layer: L,
}

impl<S: Subscriber, L: Layer<S>> Layer<S> for Folding<L> {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        self.layer.on_new_span(attributes, id, context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        self.layer.on_record(id, values, context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let meta = event.metadata();
        let always = *meta.level() > Level::INFO || meta.target() == QUERIES || meta.target() == TARGET;
        if always || self.fold.admits(meta, Text::of(event), Instant::now()) {
            self.layer.on_event(event, context);
        }
    }
}

/// A line's message and its fields.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn of(event: &Event<'_>) -> String {
        let mut text = Self::default();
        event.record(&mut text);
        let mut whole = text.message;
        whole.push_str(&text.fields);
        if let Some((at, _)) = whole.char_indices().find(|(at, _)| *at >= LENGTH) {
            whole.truncate(at);
        }
        whole
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Text has room for everything.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    thread_local! {
        static WRITTEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Keeps the lines that reach it.
    struct Keeper;

    impl Layer<Registry> for Keeper {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
            WRITTEN.with_borrow_mut(|all| all.push(Text::of(event)));
        }
    }

    /// What is written of what `work` says.
    fn written(fold: &Arc<Fold>, work: impl FnOnce()) -> Vec<String> {
        let subscriber = tracing_subscriber::registry().with(Folding { fold: Arc::clone(fold), layer: Keeper });
        tracing::subscriber::with_default(subscriber, work);
        WRITTEN.take()
    }

    fn down(upstream: u32) {
        tracing::warn!(upstream, "upstream is down");
    }

    #[test]
    fn the_same_again_and_again_is_one_line_a_minute_for_as_long_as_it_goes_on() {
        let fold = Arc::new(Fold::default());
        let start = Instant::now();
        let first = written(&fold, || (0..1239).for_each(|_| down(1)));
        assert_eq!(first, ["upstream is down upstream=1"; 5]);
        assert!(written(&fold, || fold.say(start + 30 * SECOND)).is_empty());
        let minute = start + 61 * SECOND;
        assert!(fold.due().is_some_and(|due| due <= minute));
        let line = "repeated 1,234 times in the last minute: upstream is down upstream=1 repeated=1234";
        assert_eq!(written(&fold, || fold.say(minute)), [line]);
        assert!(written(&fold, || down(1)).is_empty(), "it goes on");
        let line = "repeated 1 times in the last minute: upstream is down upstream=1 repeated=1";
        assert_eq!(written(&fold, || fold.say(minute + 60 * SECOND)), [line]);
        assert!(written(&fold, || fold.say(minute + 120 * SECOND)).is_empty(), "a quiet minute ends it");
        assert_eq!(written(&fold, || down(1)).len(), 1);
        assert_eq!(fold.lock().len(), 2, "a text and its place");
    }

    #[test]
    fn other_fields_are_another_line_up_to_what_one_place_may_say() {
        let (fold, start) = (Arc::new(Fold::default()), Instant::now());
        assert_eq!(written(&fold, || (0..50).for_each(down)).len(), 50);
        assert_eq!(written(&fold, || (50..1000).for_each(down)).len(), 10);
        let other = written(&fold, || tracing::warn!("something else"));
        assert_eq!(other, ["something else"], "another place has its own lines");
        let told = written(&fold, || fold.say_all(start + SECOND));
        let line = "lines like this one came 940 times in the last 1 s: upstream is down upstream=999 repeated=940";
        assert_eq!(told, [line]);
    }

    #[test]
    fn what_was_asked_for_line_by_line_is_never_folded() {
        let fold = Arc::new(Fold::default());
        let lines = written(&fold, || {
            for _ in 0..100 {
                tracing::debug!("a detail");
                tracing::info!(target: QUERIES, "query");
            }
        });
        assert_eq!((lines.len(), fold.lock().len()), (200, 0));
    }

    #[test]
    fn memory_is_bounded_whatever_is_said() {
        let fold = Arc::new(Fold::default());
        let meta = place();
        let mut now = Instant::now();
        for n in 0..10 * TEXTS {
            fold.admits(meta, format!("{n}"), now);
            // Each minute the place may say something again.
            if n.is_multiple_of(50) {
                fold.lock().values_mut().for_each(|count| count.said = 0);
            }
            now += Duration::from_millis(1);
        }
        assert!(fold.lock().len() <= TEXTS + 1, "{}", fold.lock().len());
    }

    /// A place in the program that warns.
    fn place() -> &'static Metadata<'static> {
        thread_local! {
            static PLACE: RefCell<Option<&'static Metadata<'static>>> = const { RefCell::new(None) };
        }
        struct Look;
        impl Layer<Registry> for Look {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, Registry>) {
                PLACE.set(Some(event.metadata()));
            }
        }
        tracing::subscriber::with_default(tracing_subscriber::registry().with(Look), || tracing::warn!("here"));
        PLACE.take().unwrap()
    }

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(1, "1"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
