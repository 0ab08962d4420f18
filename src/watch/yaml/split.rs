//! Cutting a large file into pieces that can be parsed apart.
//!
//! A document marker at the start of a line ends a document wherever it stands, and a dash at the start of a line below
//! `items:` starts an item in whatever kubectl prints. Where the second is not so (a quoted text that runs on at the
//! margin, say) a piece is no YAML, and the file is then parsed as a whole.

use std::borrow::Cow;

/// A file below this is one piece.
const PIECE: usize = if cfg!(test) { 16 * 1024 } else { 512 * 1024 };

/// What a piece is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Whole documents.
    Documents,
    /// Some items of one List, as a YAML list.
    Items,
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
    if text.len() < PIECE || text.starts_with('%') || text.contains("\n%") {
        return vec![Unit { line: 1, form: Form::Documents, text: text.into() }];
    }
    let mut units = Vec::new();
    let (mut start, mut line) = (0, 1);
    for end in cuts(text, "\n---", |after| after.is_empty() || after.starts_with([' ', '\t', '\r', '\n'])) {
        let part = &text[start..end];
        if !items(part, line, &mut units) {
            units.push(Unit { line, form: Form::Documents, text: part.into() });
        }
        line += newlines(part);
        start = end;
    }
    units
}

/// Ends of pieces of at least [`PIECE`] octets, each before a `mark` (whose first octet, the line feed, stays with the
/// piece before it); the last is the end of the text.
fn cuts(text: &str, mark: &str, fits: impl Fn(&str) -> bool) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut from = PIECE.min(text.len());
    loop {
        while !text.is_char_boundary(from) {
            from += 1;
        }
        match text[from..].find(mark) {
            Some(at) if fits(&text[from + at + mark.len()..]) => {
                ends.push(from + at + 1);
                from = (from + at + PIECE).min(text.len());
            }
            Some(at) => from += at + 1,
            None => break,
        }
    }
    ends.push(text.len());
    ends
}

/// Cuts the one List in `part`, if that is what it is.
fn items<'a>(part: &'a str, line: u64, units: &mut Vec<Unit<'a>>) -> bool {
    const HEAD: &str = "\nitems:\n- ";
    let Some(head) = part.find(HEAD).filter(|head| *head < 4096 && part.len() > 2 * PIECE) else { return false };
    let start = head + HEAD.len() - 2;
    let Some(last) = part.rfind("\n- ").filter(|last| *last + 1 > start) else { return false };
    // What follows the last item at the margin is the List's own again.
    let tail = part[last + 1..]
        .match_indices('\n')
        .map(|(at, _)| last + 1 + at + 1)
        .find(|at| part[*at..].starts_with(|c: char| !matches!(c, ' ' | '\n' | '\r' | '#')))
        .unwrap_or(part.len());
    if part[tail..].contains("\n---") {
        return false;
    }
    units.push(Unit {
        line,
        form: Form::Documents,
        text: format!("{}\nitems: []\n{}", &part[..head], &part[tail..]).into(),
    });
    let list = &part[start..tail];
    let (mut from, mut line) = (0, line + newlines(&part[..start]));
    for end in cuts(list, "\n- ", |_| true) {
        let piece = &list[from..end];
        units.push(Unit { line, form: Form::Items, text: piece.into() });
        line += newlines(piece);
        from = end;
    }
    true
}

fn newlines(text: &str) -> u64 {
    text.bytes().filter(|c| *c == b'\n').count() as u64
}
