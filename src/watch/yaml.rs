//! The text of one manifest file, to decoded objects: several documents, Lists, and large files on several threads.

mod find;
mod plain;
mod split;

use std::fmt::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_saphyr::options::NonFiniteFloatPolicy;
use serde_saphyr::{Error, Options, Spanned, from_str_multiple_with_options, from_str_with_options};

use super::decode::{self, Decoded, Problem};
use super::item::Item;
use super::loose::Loose;
use crate::mesh::object::{Fault, Key, Kind, Object};
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
        let mut room = String::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((file, unit)) = work.get(at) else { break };
            let result = read_unit(files[*file].0, unit, &mut room);
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
            (Some(found), Some(more)) => found.extend(more),
            (slot, _) => *slot = None,
        }
    }
    out.into_iter().zip(files).map(|(found, (place, text))| found.map_or_else(|| whole(place, text), Ok)).collect()
}

/// A file in one piece: for one whose pieces did not parse, because it may be cut wrongly, and so that the error's line is
/// the file's.
fn whole(place: &str, text: &str) -> Result<Vec<Found>, Fault> {
    let json = &mut String::new();
    let mut reader = UnitReader { place, line: 1, text, looked: 0, json, found: Vec::new() };
    reader.full(false).map_err(|error| fault(place, &error))?;
    Ok(reader.found)
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

/// Reads a piece of a file; `None` if it is refused, for a reason that only the file as a whole can tell. There is `room` for
/// one object as JSON.
fn read_unit(place: &str, unit: &Unit<'_>, room: &mut String) -> Option<Vec<Found>> {
    let mut reader = UnitReader { place, line: unit.line, text: &unit.text, looked: 0, json: room, found: Vec::new() };
    match unit.form {
        Form::Documents => reader.quick(false).ok()?,
        Form::Items => {
            for (line, text) in split::each_item(&unit.text) {
                (reader.line, reader.text) = (unit.line + line - 1, text);
                reader.quick(true).ok()?;
            }
        }
        Form::Json { kind, column } => reader.json(kind, column)?,
    }
    Some(reader.found)
}

/// One object of a piece, with the place where it starts.
struct Located<'i, 'a> {
    /// From 1, in the piece.
    line: u64,
    /// From 1.
    column: u64,
    item: &'i Loose<Item<'a>>,
}

impl<'i, 'a> From<&'i Spanned<Loose<Item<'a>>>> for Located<'i, 'a> {
    fn from(item: &'i Spanned<Loose<Item<'a>>>) -> Self {
        Self { line: item.defined.line(), column: item.defined.column(), item: &item.value }
    }
}

struct UnitReader<'u> {
    place: &'u str,
    /// The line that `text` starts in, from 1.
    line: u64,
    text: &'u str,
    looked: usize,
    /// Room for one object as JSON.
    json: &'u mut String,
    found: Vec<Found>,
}

impl UnitReader<'_> {
    /// Reads a document or an item: by [`plain`] if that can, else by the full parser.
    fn quick(&mut self, item: bool) -> Result<(), Error> {
        let mut json = std::mem::take(self.json);
        json.clear();
        // A List is for the full parser: it says where each item stands.
        let start = plain::to_json(self.text, item, &mut json);
        if let Some(start) = start
            && let Ok(read) = serde_json::from_str::<Item<'_>>(&json)
            && !is_list(&read)
        {
            let (line, column) = (start.lines + 1, start.column as u64 + 1);
            self.item(&Located { line, column, item: &Loose::Read(read) }, None);
            *self.json = json;
            return Ok(());
        }
        *self.json = json;
        self.full(item)
    }

    /// Reads by the full parser what is no more than an item, or any number of documents.
    fn full(&mut self, item: bool) -> Result<(), Error> {
        let options = options();
        let items: Vec<Spanned<Loose<Item<'_>>>> = if item {
            from_str_with_options(self.text, options)
        } else {
            from_str_multiple_with_options(self.text, options)
        }?;
        for item in &items {
            self.document(item);
        }
        Ok(())
    }

    fn json(&mut self, kind: Option<Kind>, column: u64) -> Option<()> {
        let item = serde_json::from_str::<Loose<Item<'_>>>(self.text).ok()?;
        self.item(&Located { line: 1, column: column + 1, item: &item }, kind);
        Some(())
    }

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
                Loose::Read(items) => items.iter().for_each(|item| self.item(&item.into(), kind)),
                Loose::Absent => {}
                Loose::Wrong(what) => self.broken(&item.into(), None, &format!("items: {what} where a list has to be")),
            }
            return;
        }
        self.item(&item.into(), None);
    }

    fn item(&mut self, item: &Located<'_, '_>, of_list: Option<Kind>) {
        let input = match item.item {
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

    fn broken(&mut self, item: &Located<'_, '_>, key: Option<Key>, what: &str) {
        let line = self.line(item);
        let remedy = "write it as kubectl get -o yaml does, or remove it";
        let fault = Fault { text: format!("{}:{line}: {what}", self.place), remedy: remedy.to_owned() };
        self.found.push(Found { line, content: Content::Broken(key), faults: vec![fault] });
    }

    fn line(&self, item: &Located<'_, '_>) -> u64 {
        item.line + self.line - 1
    }

    fn fault(&mut self, item: &Located<'_, '_>, problem: &Problem) -> Fault {
        self.looked += self.text.len();
        let exact = (self.looked <= MAX_LOOKUP)
            .then(|| find::line_of(self.text, item.line, item.column, &problem.path))
            .flatten();
        let line = exact.map_or_else(|| self.line(item), |line| line + self.line - 1);
        problem.fault(format_args!("{}:{line}", self.place))
    }
}

/// Whether an item has items, or says so.
fn is_list(item: &Item<'_>) -> bool {
    let says = matches!(&item.kind, Loose::Read(kind) if kind.ends_with("List"));
    says || !matches!(item.items, Loose::Absent)
}

#[cfg(test)]
mod tests;
