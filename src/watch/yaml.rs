//! The text of one manifest file, to decoded objects: several documents, Lists, and large files on several threads.

mod find;
mod split;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{Error, Options, Spanned, from_str_multiple_with_options, from_str_with_options};

use super::decode::{self, Decoded, Problem};
use super::item::Item;
use super::loose::Loose;
use crate::mesh::object::{Fault, Key, Object};
use split::{Form, Unit};

/// One object of a file.
#[derive(Debug)]
pub struct Found {
    /// The line it starts in, from 1.
    pub line: u64,
    /// What it is.
    pub content: Content,
    /// What in it cannot be used, each with file and line.
    pub faults: Vec<Fault>,
}

/// What an item of a file is.
#[derive(Debug)]
pub enum Content {
    /// An object.
    Object(Object),
    /// An object that is not usable; the version held before stays.
    Broken(Option<Key>),
}

/// Nesting over this is refused; the schemas in CustomResourceDefinitions, which stand in such files too, stay below.
const MAX_DEPTH: usize = 192;
/// Faults are looked up to their very line while that takes walking over no more text than this in a piece; further ones
/// name the line of their object.
const MAX_LOOKUP: usize = 64 * 1024 * 1024;

/// Parser options for manifests. Size is bounded by the file's, which its reader checks, so only what multiplies (aliases)
/// or recurses (depth) has a budget.
fn options() -> Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: usize::MAX,
            max_nodes: usize::MAX,
            max_documents: usize::MAX,
            max_total_scalar_bytes: usize::MAX,
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        with_snippet: false,
        // What is not read may hold `.nan` and the like.
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        ignore_binary_tag_for_string: true,
    }
}

/// Reads many files at once: `(place, text)` each, the results in the same order. A fault stands for a file that is no
/// YAML; what a single object lacks is in [`Found`].
#[must_use]
pub fn read(files: &[(&str, &str)]) -> Vec<Result<Vec<Found>, Fault>> {
    let work: Vec<(usize, Unit<'_>)> = files
        .iter()
        .enumerate()
        .flat_map(|(index, (_, text))| split::split(text).into_iter().map(move |unit| (index, unit)))
        .collect();
    let done = Mutex::new(Vec::with_capacity(work.len()));
    let next = AtomicUsize::new(0);
    let run = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, unit)) = work.get(at) else { break };
            let result = read_unit(files[*file].0, unit);
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((at, result));
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(work.len()).max(1);
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _): &(usize, _)| *at);
    let mut out: Vec<Option<Vec<Found>>> = files.iter().map(|_| Some(Vec::new())).collect();
    for ((_, result), (file, _)) in done.into_iter().zip(&work) {
        match (&mut out[*file], result) {
            (Some(found), Ok(more)) => found.extend(more),
            (slot, _) => *slot = None,
        }
    }
    out.into_iter().zip(files).map(|(found, (place, text))| found.map_or_else(|| whole(place, text), Ok)).collect()
}

/// A file in one piece: for one whose pieces did not parse, because it may be cut wrongly, and so that the error's line is
/// the file's.
fn whole(place: &str, text: &str) -> Result<Vec<Found>, Fault> {
    read_unit(place, &Unit { line: 1, form: Form::Documents, text: text.into() }).map_err(|error| fault(place, &error))
}

/// The fault of a file that is no YAML, or YAML that is refused.
fn fault(place: &str, error: &Error) -> Fault {
    let plain = error.without_snippet();
    let mut text = place.to_owned();
    if let Some(at) = plain.location().filter(|at| at.line() > 0) {
        let _ = write!(text, ":{}:{}", at.line(), at.column());
    }
    let _ = write!(text, ": {}", message(plain));
    let remedy = match plain {
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            "write the objects out plainly, as kubectl get -o yaml prints them"
        }
        Error::DuplicateMappingKey { .. } => "remove one of the two",
        _ => "correct the YAML there",
    };
    Fault { text, remedy: remedy.to_owned() }
}

/// The error's words without its place, on one line.
pub(crate) fn message(error: &Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    // The place is given before the message, as compilers do, and need not stand there twice.
    let cut = line.rfind(" at line ").filter(|at| line[*at..].contains(", column "));
    line[..cut.unwrap_or(line.len())].to_owned()
}

fn read_unit(place: &str, unit: &Unit<'_>) -> Result<Vec<Found>, Error> {
    let items: Vec<Spanned<Loose<Item<'_>>>> = match unit.form {
        Form::Documents => from_str_multiple_with_options(&unit.text, options())?,
        Form::Items => from_str_with_options(&unit.text, options())?,
    };
    let mut reader = UnitReader { place, unit, looked: 0, found: Vec::with_capacity(items.len()) };
    for item in &items {
        reader.document(item);
    }
    Ok(reader.found)
}

struct UnitReader<'u> {
    place: &'u str,
    unit: &'u Unit<'u>,
    looked: usize,
    found: Vec<Found>,
}

impl UnitReader<'_> {
    fn document(&mut self, item: &Spanned<Loose<Item<'_>>>) {
        if let Loose::Read(list) = &item.value
            && let Loose::Read(kind) = &list.kind
            && let Some(element) = kind.strip_suffix("List")
        {
            let version = match &list.api_version {
                Loose::Read(version) => version,
                _ => "",
            };
            let kind = decode::kind_of(version, element);
            match &list.items {
                Loose::Read(items) => items.iter().for_each(|item| self.item(item, kind)),
                Loose::Absent => {}
                Loose::Wrong(what) => self.broken(item, None, &format!("items: {what} where a list has to be")),
            }
            return;
        }
        self.item(item, None);
    }

    fn item(&mut self, item: &Spanned<Loose<Item<'_>>>, of_list: Option<crate::mesh::object::Kind>) {
        let input = match &item.value {
            Loose::Read(input) => input,
            Loose::Absent => return,
            Loose::Wrong(what) => return self.broken(item, None, &format!("{what} where an object has to be")),
        };
        let decoded = match of_list {
            Some(kind) => decode::item_as(kind, input),
            None => decode::item(input),
        };
        let (content, problems) = match decoded {
            Decoded::Other => return,
            Decoded::Object(object, problems) => (Content::Object(object), problems),
            Decoded::Broken(key, problems) => (Content::Broken(key), problems),
        };
        let faults = problems.iter().map(|problem| self.fault(item, problem)).collect();
        self.found.push(Found { line: self.line(item), content, faults });
    }

    fn broken(&mut self, item: &Spanned<Loose<Item<'_>>>, key: Option<Key>, what: &str) {
        let line = self.line(item);
        let remedy = "write it as kubectl get -o yaml does, or remove it";
        let fault = Fault { text: format!("{}:{line}: {what}", self.place), remedy: remedy.to_owned() };
        self.found.push(Found { line, content: Content::Broken(key), faults: vec![fault] });
    }

    fn line(&self, item: &Spanned<Loose<Item<'_>>>) -> u64 {
        item.defined.line() + self.unit.line - 1
    }

    fn fault(&mut self, item: &Spanned<Loose<Item<'_>>>, problem: &Problem) -> Fault {
        self.looked += self.unit.text.len();
        let exact = (self.looked <= MAX_LOOKUP)
            .then(|| find::line_of(&self.unit.text, item.defined.line(), item.defined.column(), &problem.path))
            .flatten();
        let line = exact.map_or_else(|| self.line(item), |line| line + self.unit.line - 1);
        problem.fault(format_args!("{}:{line}", self.place))
    }
}
