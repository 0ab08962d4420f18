//! Cutting a file into pieces that can be parsed apart.
//!
//! A document marker at the start of a line ends a document wherever it stands, and a dash at the start of a line below
//! `items:` starts an item in whatever kubectl prints. Where the second is not so (a quoted text that runs on at the
//! margin, say) a piece is no YAML, and the file is then parsed as a whole.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::mesh::object::Kind;
use crate::watch::decode;

/// Items of one List are cut into pieces of at least so many octets.
const PIECE: usize = if cfg!(test) { 4 * 1024 } else { 256 * 1024 };

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One document, or several in whatever form.
    Documents,
    /// Some items of one List, as a YAML list.
    Items,
    /// One object in JSON.
    Json {
        /// What it is, in a List that says so for all of its items.
        kind: Option<Kind>,
        /// Letters before it in its line.
        column: u64,
    },
}

/// A piece of a file.
#[derive(Debug)]
pub struct Unit<'a> {
    /// The line it starts in, from 1.
    pub line: u64,
    /// What it is.
    pub form: Form,
    /// Its text.
    pub text: Cow<'a, str>,
}

/// Cuts a file.
pub fn split(text: &str) -> Vec<Unit<'_>> {
    if let Some(units) = json(text) {
        return units;
    }
    if text.starts_with('%') || text.contains("\n%") {
        return vec![Unit { line: 1, form: Form::Documents, text: text.into() }];
    }
    let mut units = Vec::new();
    for (line, part) in documents(text) {
        if !items(part, line, &mut units) {
            units.push(Unit { line, form: Form::Documents, text: part.into() });
        }
    }
    units
}

/// The documents of a text with the lines that they start in, from 1.
fn documents(text: &str) -> Vec<(u64, &str)> {
    let ends = |after: &str| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n']);
    parts(text, 0, "\n---", ends)
}

/// The items of a piece of a List, as `documents`.
pub fn each_item(text: &str) -> Vec<(u64, &str)> {
    parts(text, 0, ITEM, |_| true)
}

/// The end of a line, and the start of one that begins an item.
const ITEM: &str = "\n- ";

/// Cuts after the first octet of each `mark` behind which the text is as it should be, if the part before that is at least
/// `least` octets long.
fn parts<'t>(text: &'t str, least: usize, mark: &str, is_start: impl Fn(&str) -> bool) -> Vec<(u64, &'t str)> {
    let mut parts = Vec::new();
    let (mut start, mut line) = (0, 1);
    while let Some(from) = text.len().checked_sub(start + least).map(|_| text.ceil_char_boundary(start + least))
        && let Some((end, _)) =
            text[from..].match_indices(mark).find(|(at, _)| is_start(&text[from + at + mark.len()..]))
    {
        let end = from + end + 1;
        let part = &text[start..end];
        parts.push((line, part));
        line += newlines(part);
        start = end;
    }
    parts.push((line, &text[start..]));
    parts
}

/// Cuts the one List in `part`, if that is what it is, and its items say themselves what they are.
fn items<'a>(part: &'a str, line: u64, units: &mut Vec<Unit<'a>>) -> bool {
    const HEAD: &str = "\nitems:\n- ";
    let first = &part[..part.floor_char_boundary(4096 + HEAD.len())];
    // Most documents have none, which this finds out by many octets at once.
    let Some(head) = first.contains(HEAD).then(|| first.find(HEAD)).flatten().filter(|head| *head < 4096) else {
        return false;
    };
    let start = head + HEAD.len() - 2;
    let Some(last) = part[start - 1..].rfind("\n- ").map(|last| start - 1 + last) else { return false };
    // What follows the last item at the margin is the List's own again.
    let tail = part[last + 1..]
        .match_indices('\n')
        .map(|(at, _)| last + 1 + at + 1)
        .find(|at| part[*at..].starts_with(|c: char| !matches!(c, ' ' | '\n' | '\r' | '#')))
        .unwrap_or(part.len());
    let (before, after) = (&part[..head], &part[tail..]);
    if !before.lines().chain(after.lines()).any(|line| line.trim_end() == "kind: List") {
        return false;
    }
    units.push(Unit { line, form: Form::Documents, text: format!("{before}\nitems: []\n{after}").into() });
    let above = line + newlines(&part[..start]) - 1;
    let pieces = parts(&part[start..tail], PIECE, ITEM, |_| true);
    units.extend(pieces.into_iter().map(|(line, text)| Unit {
        line: above + line,
        form: Form::Items,
        text: text.into(),
    }));
    true
}

/// The head of an object, or of a List of them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow, default)]
    api_version: Option<Cow<'a, str>>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

/// Cuts a file that is JSON proper: one object, or a List of them. `None` if it is anything else, or no JSON.
fn json(text: &str) -> Option<Vec<Unit<'_>>> {
    if !text.starts_with('{') {
        return None;
    }
    let head: Head<'_> = serde_json::from_str(text).ok()?;
    let Some(element) = head.kind.strip_suffix("List") else {
        return Some(vec![Unit { line: 1, form: Form::Json { kind: None, column: 0 }, text: text.into() }]);
    };
    let kind = decode::kind_of(head.api_version.as_deref().unwrap_or_default(), element);
    let mut units = Vec::new();
    let (mut line, mut seen) = (1, 0);
    for item in head.items.unwrap_or_default() {
        // It is a part of the text.
        let at = item.get().as_ptr() as usize - text.as_ptr() as usize;
        line += newlines(&text[seen..at]);
        seen = at;
        let before = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        let column = before.chars().count() as u64;
        units.push(Unit { line, form: Form::Json { kind, column }, text: item.get().into() });
    }
    Some(units)
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|c| *c == b'\n').count() as u64
}
