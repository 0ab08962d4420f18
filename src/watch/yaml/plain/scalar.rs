//! Scalars: what they are if nothing says so, and how JSON writes them.

/// Where the colon after a key is, if there is one in the line.
pub fn colon(line: &str) -> Option<usize> {
    let bytes = line.as_bytes();
    (0..bytes.len()).find(|at| bytes[*at] == b':' && matches!(bytes.get(at + 1), None | Some(b' ')))
}

/// Where the text in quotes ends, if nothing in it stands for something else.
pub fn closing(text: &str, quote: u8) -> Option<usize> {
    let end = text.bytes().position(|c| c == quote)?;
    let plain = !text[..end].contains('\\') && text.as_bytes().get(end + 1) != Some(&quote);
    plain.then_some(end)
}

/// A line of a scalar without quotes, without the blanks at its end.
pub fn one_line(line: &str) -> Option<&str> {
    let line = line.trim_end_matches(' ');
    let bytes = line.as_bytes();
    let ends = |at: usize| match bytes[at] {
        b':' => matches!(bytes.get(at + 1), None | Some(b' ')),
        b'#' => at > 0 && bytes[at - 1] == b' ',
        _ => false,
    };
    (!line.is_empty() && !(0..bytes.len()).any(ends)).then_some(line)
}

/// Writes a scalar without quotes, which is one line, as what it is. What YAML 1.1, 1.2 and their parsers do not agree on is
/// left to the full parser.
pub fn resolve(text: &str, json: &mut String) -> Option<()> {
    let bytes = text.as_bytes();
    let second = bytes.get(1).copied().unwrap_or_default();
    match bytes[0] {
        c if c.is_ascii_alphabetic() => {
            const WORDS: [&str; 12] =
                ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf", "infinity"];
            if matches!(text, "true" | "false" | "null") {
                json.push_str(text);
                return Some(());
            }
            if WORDS.iter().any(|word| text.eq_ignore_ascii_case(word)) {
                return None;
            }
        }
        b'0'..=b'9' if bytes.iter().all(u8::is_ascii_digit) => {
            // Octal, or too large for a `u64`.
            if bytes.len() > 1 && bytes[0] == b'0' || bytes.len() > 19 {
                return None;
            }
            json.push_str(text);
            return Some(());
        }
        b'0'..=b'9' if is_no_number(text) => {}
        b'/' | b'_' | b'$' | b'(' => {}
        b'-' if second == b'-' || second.is_ascii_alphabetic() && !second.eq_ignore_ascii_case(&b'i') => {}
        _ => return None,
    }
    string(text, json);
    Some(())
}

/// Whether a text that begins with a digit is no number in any notation, times and angles included: an address, a version, a
/// UID.
fn is_no_number(text: &str) -> bool {
    let count = |c: char| text.matches(c).count();
    let foreign = |c: u8| c.is_ascii_alphabetic() && !b"abcdefABCDEFxXoOinINT_".contains(&c);
    count('.') > 1 || count('-') > 1 || text.contains("::") || text.contains('/') || text.bytes().any(foreign)
}

/// Writes a string.
pub fn string(text: &str, json: &mut String) {
    json.push('"');
    escaped(text, json);
    json.push('"');
}

/// Writes a part of a string, without quotes around it. Of control characters it may hold line feeds only.
pub fn escaped(text: &str, json: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|c| matches!(c, b'"' | b'\\' | b'\n')) {
        json.push_str(&rest[..at]);
        json.push('\\');
        json.push(if rest.as_bytes()[at] == b'\n' { 'n' } else { char::from(rest.as_bytes()[at]) });
        rest = &rest[at + 1..];
    }
    json.push_str(rest);
}
