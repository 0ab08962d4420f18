//! Asks all the time while something changes: every answer has to be that of one of the worlds that there are in turn,
//! and no answer of an earlier world may come to a question that was sent after one of a later world had come.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::Scope;
use std::time::{Duration, Instant};

use crate::support::fed::{Fed, NXDOMAIN, SERVFAIL, SOON};

/// How many threads ask.
const ASKERS: usize = 2;
/// How often the state at the end is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Response code, and addresses in order.
pub type Answer = (u8, Vec<String>);
/// Who asks for what.
pub type Question = (IpAddr, String);

/// What there is at one moment, as far as it decides answers.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// Segments and their domains; `default` among them if it counts.
    pub segments: Vec<(&'static str, &'static str)>,
    /// Callers and their segments; `None` where the label names no Segment.
    pub callers: Vec<(IpAddr, Option<&'static str>)>,
    /// `service.namespace`, its namespace's segment (`None` if it is published nowhere), its scope, its addresses.
    pub services: Vec<(&'static str, Option<&'static str>, &'static str, Vec<&'static str>)>,
    /// Names outside the mesh, as all callers see them.
    pub others: Vec<(&'static str, Vec<&'static str>)>,
}

impl World {
    /// What has to be answered: R3, R11, R12. What is no name of the mesh goes upstream, where it does not exist.
    fn answer(&self, (from, name): &Question) -> Answer {
        let given = |all: &[&str]| {
            let mut all: Vec<String> = all.iter().map(|a| (*a).to_owned()).collect();
            all.sort_unstable();
            (0, all)
        };
        if let Some((_, addresses)) = self.others.iter().find(|(other, _)| other == name) {
            return if addresses.is_empty() { (NXDOMAIN, Vec::new()) } else { given(addresses) };
        }
        let mut zones = self.segments.iter();
        let zone = zones.find(|(_, domain)| name.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.')));
        let caller = self.callers.iter().find(|(ip, _)| ip == from).expect("a caller of this world").1;
        let Some((segment, domain)) = zone else { return (NXDOMAIN, Vec::new()) };
        let Some(caller) = caller else { return (SERVFAIL, Vec::new()) };
        let service = self.services.iter().find(|(service, of, ..)| {
            *of == Some(*segment) && name.strip_suffix(domain) == Some(&format!("{service}."))
        });
        match service {
            Some((.., scope, addresses))
                if *scope != "cluster"
                    && (caller == *segment || (scope.starts_with("global") && *segment != "default")) =>
            {
                given(addresses)
            }
            _ => (NXDOMAIN, Vec::new()),
        }
    }
}

/// All that can be asked in these worlds: every service under every domain, from every caller.
fn questions(worlds: &[World]) -> Vec<Question> {
    let callers: BTreeSet<IpAddr> = worlds.iter().flat_map(|w| w.callers.iter().map(|(ip, _)| *ip)).collect();
    let domains: BTreeSet<&str> = worlds.iter().flat_map(|w| w.segments.iter().map(|(_, domain)| *domain)).collect();
    let services: BTreeSet<&str> = worlds.iter().flat_map(|w| w.services.iter().map(|s| s.0)).collect();
    let meshed = services.iter().flat_map(|service| domains.iter().map(move |domain| format!("{service}.{domain}")));
    let others = worlds.iter().flat_map(|w| w.others.iter().map(|(name, _)| (*name).to_owned()));
    let names: BTreeSet<String> = meshed.chain(others).collect();
    callers.into_iter().flat_map(|from| names.iter().map(move |name| (from, name.clone()))).collect()
}

/// One answer.
#[derive(Debug)]
struct Told {
    sent: Instant,
    came: Instant,
    question: usize,
    answer: Answer,
}

/// Makes a change while everything is asked all the time. The first of the worlds is there before, the last one is waited
/// for, and those in between may be seen, in turn.
///
/// # Panics
/// An answer of none of them, or one of an earlier one after one of a later one.
pub fn during(fed: &Fed, worlds: &[World], change: impl FnOnce()) {
    let questions = questions(worlds);
    let wanted: Vec<Vec<Answer>> = worlds.iter().map(|w| questions.iter().map(|q| w.answer(q)).collect()).collect();
    let last = wanted.last().expect("a world");
    settle(fed, &questions, &wanted[0]);
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let told = std::thread::scope(|scope| {
        let askers: Vec<_> =
            (0..ASKERS).map(|n| ask_on(scope, fed, &questions, &stop, &rounds, n * questions.len() / ASKERS)).collect();
        // Each has begun before the change, and goes on after it.
        let asked = |more: usize| {
            let from = rounds.load(Ordering::Relaxed);
            let end = Instant::now() + SOON;
            while rounds.load(Ordering::Relaxed) < from + more && Instant::now() < end {
                std::thread::sleep(LOOK);
            }
        };
        asked(ASKERS);
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            change();
            settle(fed, &questions, last);
        }));
        asked(2 * ASKERS);
        stop.store(true, Ordering::Relaxed);
        let told: Vec<Told> = askers.into_iter().flat_map(|asker| asker.join().expect("an asker")).collect();
        if let Err(panic) = done {
            // What was seen on the way says more than that the end was not.
            judge(&questions, &wanted, told).unwrap_or_else(|complaint| panic!("{complaint}"));
            std::panic::resume_unwind(panic);
        }
        told
    });
    judge(&questions, &wanted, told).unwrap_or_else(|complaint| panic!("{complaint}"));
}

/// Waits until this is answered.
fn settle(fed: &Fed, questions: &[Question], want: &[Answer]) {
    let end = Instant::now() + SOON;
    for ((from, name), want) in questions.iter().zip(want) {
        loop {
            let got = fed.ask(*from, name);
            if got == *want {
                break;
            }
            assert!(Instant::now() < end, "{name} from {from}: {got:?} after {SOON:?}, not {want:?}");
            std::thread::sleep(LOOK);
        }
    }
}

/// Asks one question after the other, and counts the rounds.
fn ask_on<'s>(
    scope: &'s Scope<'s, '_>,
    fed: &'s Fed,
    questions: &'s [Question],
    stop: &'s AtomicBool,
    rounds: &'s AtomicUsize,
    first: usize,
) -> std::thread::ScopedJoinHandle<'s, Vec<Told>> {
    scope.spawn(move || {
        let mut told = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            for step in 0..questions.len() {
                let question = (first + step) % questions.len();
                let (from, name) = &questions[question];
                let sent = Instant::now();
                let answer = fed.ask(*from, name);
                told.push(Told { sent, came: Instant::now(), question, answer });
            }
            rounds.fetch_add(1, Ordering::Relaxed);
        }
        told
    })
}

/// Gives each answer the earliest world that it can be of.
fn judge(questions: &[Question], wanted: &[Vec<Answer>], mut told: Vec<Told>) -> Result<(), String> {
    told.sort_by_key(|told| told.sent);
    let mut worlds: Vec<usize> = Vec::with_capacity(told.len());
    // Those that had come before this one was sent, by the moment they came.
    let mut came: Vec<usize> = (0..told.len()).collect();
    came.sort_by_key(|at| told[*at].came);
    let (mut next, mut least) = (0, (0, None));
    for Told { sent, question, answer, .. } in &told {
        while let Some(at) = came.get(next).filter(|at| told[**at].came <= *sent) {
            if worlds[*at] > least.0 {
                least = (worlds[*at], Some(*at));
            }
            next += 1;
        }
        let world = (least.0..wanted.len()).find(|world| wanted[*world][*question] == *answer);
        let Some(world) = world else {
            return Err(complaint(questions, wanted, (*question, answer), least.1.map(|at| &told[at])));
        };
        worlds.push(world);
    }
    Ok(())
}

fn complaint(
    questions: &[Question],
    wanted: &[Vec<Answer>],
    (question, answer): (usize, &Answer),
    later: Option<&Told>,
) -> String {
    let (from, name) = &questions[question];
    let mut text = format!("{name} from {from}: {answer:?}");
    for (ix, world) in wanted.iter().enumerate() {
        let _ = write!(text, "\n  in world {ix} it is {:?}", world[question]);
    }
    if let Some(Told { question, answer, .. }) = later {
        let (from, name) = &questions[*question];
        let _ = write!(text, "\n  after {name} from {from}: {answer:?}");
    }
    text
}

#[test]
fn what_is_of_no_world_or_of_an_earlier_one_is_found() {
    let questions: Vec<Question> = ["a", "b"].map(|name| (crate::support::HERE, name.to_owned())).into();
    let one = |ip: &str| (0, vec![ip.to_owned()]);
    // The second name is the same in the first two worlds.
    let wanted = [[one("1"), one("5")], [one("2"), one("5")], [one("3"), one("6")]].map(Vec::from);
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let judged = |all: &[(u64, u64, usize, &str)]| {
        let told = all.iter().map(|(sent, came, question, ip)| Told {
            sent: at(*sent),
            came: at(*came),
            question: *question,
            answer: one(ip),
        });
        judge(&questions, &wanted, told.collect())
    };
    assert_eq!(judged(&[(0, 1, 0, "1"), (2, 3, 1, "5"), (4, 5, 0, "2"), (6, 7, 1, "5"), (8, 9, 0, "3")]), Ok(()));
    assert_eq!(judged(&[(0, 1, 0, "1"), (2, 3, 1, "6"), (4, 5, 0, "3")]), Ok(()), "one in between may be missed");
    assert_eq!(judged(&[(0, 5, 0, "3"), (4, 6, 1, "5")]), Ok(()), "both were under way");
    assert!(judged(&[(0, 1, 0, "1"), (2, 3, 0, "4")]).is_err(), "of no world");
    assert!(judged(&[(0, 1, 0, "2"), (2, 3, 0, "1")]).is_err(), "back to an earlier one");
    assert!(judged(&[(0, 1, 1, "6"), (2, 3, 0, "2")]).is_err(), "another name of an earlier one");
    assert!(judged(&[(0, 9, 0, "1"), (1, 2, 0, "2"), (3, 4, 1, "5"), (5, 6, 0, "1")]).is_err(), "whoever asks");
}
