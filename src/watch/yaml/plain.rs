//! The YAML that kubectl prints, to JSON: one mapping, in a fraction of the time that a parser of all of YAML takes.
//!
//! What is read here is a part of the language in which each line means one thing: block mappings and lists, scalars
//! without tags, anchors or comments beside them. Of everything else, and in any doubt (what is a number in one version of
//! YAML and a string in another, a key that stands twice), the answer is "not this", and the full parser reads that object.
//! So this decides how fast a file is read, and never what is in it or what is wrong with it.

mod scalar;

use scalar::{closing, colon, escaped, one_line, resolve, string};

/// Nesting over this is left to the full parser.
const MAX_DEPTH: usize = 64;
/// More keys of one mapping, too: each is compared with those before it.
const MAX_KEYS: usize = 128;

/// Where the mapping begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Ends of lines before it.
    pub lines: u64,
    /// Octets before it in its line.
    pub column: usize,
}

/// Appends a document, or one item of a list with its dash (`item`), as JSON. `None` if it is more than can be read here;
/// what was appended is then of no use. Empty documents are not read here either.
pub fn to_json(text: &str, item: bool, json: &mut String) -> Option<Start> {
    // Other line ends, tabs and letters beyond ASCII have rules of their own.
    // To the end in any case, because that is many octets at once.
    let plain = text.bytes().fold(true, |plain, c| plain & ((c == b'\n') | (c.wrapping_sub(b' ') < 0x5f)));
    if !plain {
        return None;
    }
    let mut reader = Reader { text, at: 0, line_end: None, json, keys: Vec::with_capacity(32) };
    let column = if item {
        let column = 2 + spaces(text.strip_prefix("- ")?);
        reader.at = column;
        column
    } else {
        if let Some(after) = text.strip_prefix("---") {
            reader.at = 3 + after.find('\n').filter(|end| after[..*end].trim_start().is_empty())?;
        }
        reader.next_line().filter(|indent| *indent == 0)?
    };
    let lines = text[..reader.at].bytes().filter(|c| *c == b'\n').count() as u64;
    reader.mapping(column, 0)?;
    (reader.at == text.len()).then_some(Start { lines, column })
}

fn spaces(text: &str) -> usize {
    text.bytes().take_while(|c| *c == b' ').count()
}

struct Reader<'t, 'j> {
    text: &'t str,
    /// What comes before has been read.
    at: usize,
    /// The first end of a line at or after `at`, if it has been looked for.
    line_end: Option<usize>,
    json: &'j mut String,
    /// Keys of the mappings that are open, the innermost last.
    keys: Vec<&'t str>,
}

impl<'t> Reader<'t, '_> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// What is left of the line.
    fn line(&mut self) -> &'t str {
        let end = self.line_end.filter(|end| *end >= self.at);
        // Lines are short: octet by octet is faster here than a search that is made for long texts.
        let next = || self.rest().bytes().position(|c| c == b'\n');
        let end = end.unwrap_or_else(|| next().map_or(self.text.len(), |end| self.at + end));
        self.line_end = Some(end);
        &self.text[self.at..end]
    }

    /// Goes to the next line with anything but a comment, and gives its indentation; `None` at the end.
    fn next_line(&mut self) -> Option<usize> {
        loop {
            let indent = spaces(self.rest());
            let first = self.text.as_bytes().get(self.at + indent)?;
            if !matches!(first, b'\n' | b'#') {
                return Some(indent);
            }
            self.at += self.line().len();
            if self.at < self.text.len() {
                self.at += 1;
            }
        }
    }

    /// After a value: past the end of its line, at which nothing more may stand.
    fn end_line(&mut self) -> Option<()> {
        let line = self.line();
        self.at += line.len() + usize::from(self.at + line.len() < self.text.len());
        line.trim_end_matches(' ').is_empty().then_some(())
    }

    fn is_dash(text: &str) -> bool {
        text.starts_with("- ") || text.starts_with("-\n") || text == "-"
    }

    /// Reads a mapping whose first key is here; ends at the start of the first line that is not its.
    fn mapping(&mut self, column: usize, depth: usize) -> Option<()> {
        let outer = self.keys.len();
        self.json.push('{');
        loop {
            let key = self.key()?;
            if self.keys[outer..].contains(&key) || self.keys.len() - outer >= MAX_KEYS || depth > MAX_DEPTH {
                return None;
            }
            if self.keys.len() > outer {
                self.json.push(',');
            }
            self.keys.push(key);
            string(key, self.json);
            self.json.push(':');
            self.value(column, true, depth)?;
            match self.next_line() {
                Some(indent) if indent == column && !Self::is_dash(&self.rest()[indent..]) => self.at += indent,
                Some(indent) if indent > column => return None,
                _ => break,
            }
        }
        self.keys.truncate(outer);
        self.json.push('}');
        Some(())
    }

    /// Reads a key and its colon.
    fn key(&mut self) -> Option<&'t str> {
        let line = self.line();
        let (key, end) = match line.as_bytes().first()? {
            quote @ (b'"' | b'\'') => {
                let end = closing(&line[1..], *quote)?;
                (&line[1..=end], end + 2)
            }
            c if c.is_ascii_alphabetic() || matches!(c, b'_' | b'.' | b'/') => {
                let end = colon(line)?;
                (line[..end].trim_end_matches(' '), end)
            }
            _ => return None,
        };
        let unclear = |c: u8| matches!(c, b'"' | b'\'' | b'\\' | b'{' | b'}' | b'[' | b']' | b',' | b'#');
        if key.bytes().any(unclear) || key.eq_ignore_ascii_case("null") || colon(&line[end..]) != Some(0) {
            return None;
        }
        self.at += end + 1;
        Some(key)
    }

    /// Reads what stands after a key's colon or a dash at `column`, in this line or below.
    fn value(&mut self, column: usize, of_key: bool, depth: usize) -> Option<()> {
        self.at += spaces(self.rest());
        if !self.line().is_empty() {
            return self.scalar(column);
        }
        match self.next_line() {
            Some(indent) if indent > column => {
                self.at += indent;
                self.node(indent, depth)
            }
            // A list may begin below its key's first letter; below a dash it is the next item.
            Some(indent) if indent == column && of_key && Self::is_dash(&self.rest()[indent..]) => {
                self.at += indent;
                self.list(indent, depth)
            }
            _ => {
                self.json.push_str("null");
                Some(())
            }
        }
    }

    /// Reads a mapping or list that begins here.
    fn node(&mut self, column: usize, depth: usize) -> Option<()> {
        if Self::is_dash(self.rest()) { self.list(column, depth) } else { self.mapping(column, depth + 1) }
    }

    /// Reads a list whose first dash is here; ends at the start of the first line that is not its.
    fn list(&mut self, column: usize, depth: usize) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.json.push('[');
        loop {
            self.at += 1;
            let inner = column + 1 + spaces(self.rest());
            let line = self.line().trim_start_matches(' ');
            let nested = Self::is_dash(line) || colon(line).is_some();
            if nested && !line.starts_with(['"', '\'']) {
                self.at += inner - column - 1;
                self.node(inner, depth + 1)?;
            } else {
                self.value(column, false, depth + 1)?;
            }
            match self.next_line() {
                Some(indent) if indent == column && Self::is_dash(&self.rest()[indent..]) => self.at += indent,
                Some(indent) if indent > column => return None,
                _ => break,
            }
            self.json.push(',');
        }
        self.json.push(']');
        Some(())
    }

    /// Reads a scalar of which something stands here; `column` is that of what it belongs to. Ends after its last line.
    fn scalar(&mut self, column: usize) -> Option<()> {
        let line = self.line();
        match line.as_bytes()[0] {
            quote @ (b'"' | b'\'') => {
                self.at += 1;
                self.quoted(quote, column)?;
                self.end_line()
            }
            b'|' => self.literal(column),
            b'{' | b'[' if matches!(line.trim_end_matches(' '), "{}" | "[]") => {
                self.json.push_str(&line[..2]);
                self.at += 2;
                self.end_line()
            }
            _ => {
                let line = one_line(line)?;
                self.at += line.len();
                self.end_line()?;
                if self.goes_on(column) { self.folded(line, column) } else { resolve(line, self.json) }
            }
        }
    }

    /// Whether the next line that is not empty is inside of what begins at `column`.
    fn goes_on(&self, column: usize) -> bool {
        let rest = self.rest().trim_start_matches('\n');
        let indent = spaces(rest);
        indent > column && indent < rest.len()
    }

    /// Reads the lines after the first of a scalar without quotes.
    fn folded(&mut self, first: &str, column: usize) -> Option<()> {
        let mut text = first.to_owned();
        while self.goes_on(column) {
            let empty = self.rest().bytes().take_while(|c| *c == b'\n').count();
            self.at += empty;
            self.at += spaces(self.rest());
            let line = one_line(self.line())?;
            if line.starts_with(['-', '?', ':', '#', '&', '*', '!', '|', '>', '%', '@', '`']) {
                return None;
            }
            match empty {
                0 => text.push(' '),
                _ => text.extend(std::iter::repeat_n('\n', empty)),
            }
            text.push_str(line);
            self.at += line.len();
            self.end_line()?;
        }
        string(&text, self.json);
        // Two words are no number and no truth value, as long as one of them would not be in doubt.
        first.as_bytes()[0].is_ascii_alphabetic().then_some(())
    }

    /// Reads a scalar in quotes, after the first one.
    fn quoted(&mut self, quote: u8, column: usize) -> Option<()> {
        self.json.push('"');
        // What was written by an escape is no blank at the end of a line.
        let mut kept = self.json.len();
        loop {
            let rest = self.rest();
            let plain = rest.bytes().take_while(|c| *c != quote && !matches!(c, b'\\' | b'\n' | b'"')).count();
            self.json.push_str(&rest[..plain]);
            self.at += plain;
            match (rest.as_bytes().get(plain)?, quote) {
                (b'\n', _) => self.fold(column, kept)?,
                (b'\'', b'\'') if rest[plain..].starts_with("''") => {
                    self.json.push('\'');
                    self.at += 2;
                }
                (c, _) if *c == quote => break,
                (b'\\', b'"') => self.escape(column)?,
                (c, _) => {
                    self.json.push('\\');
                    self.json.push(char::from(*c));
                    self.at += 1;
                    continue;
                }
            }
            if rest.as_bytes()[plain] == b'\\' {
                kept = self.json.len();
            }
        }
        self.at += 1;
        self.json.push('"');
        Some(())
    }

    /// Reads an escape in double quotes.
    fn escape(&mut self, column: usize) -> Option<()> {
        let rest = self.rest();
        match rest.as_bytes().get(1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {
                self.json.push_str(&rest[..2]);
                self.at += 2;
            }
            b'u' => {
                let code = u32::from_str_radix(rest.get(2..6)?, 16).ok()?;
                char::from_u32(code).filter(|_| rest.as_bytes()[2..6].iter().all(u8::is_ascii_hexdigit))?;
                self.json.push_str(&rest[..6]);
                self.at += 6;
            }
            b' ' => {
                self.json.push(' ');
                self.at += 2;
            }
            // The line's end does not count.
            b'\n' => {
                self.at += 2;
                let indent = spaces(self.rest());
                self.at += indent;
                (indent > column && !self.line().is_empty()).then_some(())?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Reads the end of a line in quotes, which stands for a blank; empty lines after it stand for line ends.
    fn fold(&mut self, column: usize, kept: usize) -> Option<()> {
        let end = self.json[kept..].trim_end_matches(' ').len() + kept;
        self.json.truncate(end);
        self.at += 1;
        let empty = self.rest().bytes().take_while(|c| *c == b'\n').count();
        self.at += empty;
        match empty {
            0 => self.json.push(' '),
            _ => self.json.extend(std::iter::repeat_n("\\n", empty)),
        }
        let indent = spaces(self.rest());
        self.at += indent;
        (indent > column && !self.line().is_empty()).then_some(())
    }

    /// Reads a text that stands below as it is.
    fn literal(&mut self, column: usize) -> Option<()> {
        let head = self.line().trim_end_matches(' ');
        self.at += self.line().len() + 1;
        let indent = spaces(self.text.get(self.at..)?);
        if indent <= column || self.line().len() == indent || !matches!(head, "|" | "|-" | "|+") {
            return None;
        }
        self.json.push('"');
        let mut ends = 0;
        while self.at < self.text.len() {
            let line = self.line();
            let own = spaces(line);
            if own < indent && own < line.len() {
                break;
            }
            // Blanks in an empty line, and no end of the last one, are read in more than one way.
            if own == line.len() && own > indent || self.at + line.len() == self.text.len() {
                return None;
            }
            if own < line.len() {
                self.json.extend(std::iter::repeat_n("\\n", std::mem::take(&mut ends)));
                escaped(&line[indent..], self.json);
            }
            ends += 1;
            self.at += line.len() + 1;
        }
        let kept = match head {
            "|" => 1,
            "|-" => 0,
            _ => ends,
        };
        self.json.extend(std::iter::repeat_n("\\n", kept));
        self.json.push('"');
        Some(())
    }
}

#[cfg(test)]
mod tests;
