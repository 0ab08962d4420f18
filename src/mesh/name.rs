//! DNS names as the rules use them: lower-case text without a trailing dot.

use std::fmt;

use thiserror::Error;

/// The longest name in octets, as text without the final dot (RFC 1035 section 2.3.4).
pub const MAX_NAME: usize = 253;
/// The longest label in octets (RFC 1035 section 2.3.4).
pub const MAX_LABEL: usize = 63;

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Over [`MAX_NAME`].
    #[error("it has {0} octets, and a DNS name has at most 253")]
    TooLong(usize),
    /// Two dots in a row, or a dot at the start or the end.
    #[error("it has an empty label (two dots in a row, or a dot at the start or the end)")]
    EmptyLabel,
    /// A label over [`MAX_LABEL`].
    #[error("its label {0:?} has over 63 octets")]
    LongLabel(String),
    /// Something that is no letter, digit or hyphen, or a hyphen at a label's edge.
    #[error("its label {0:?} is not letters, digits and inner hyphens")]
    NotLdh(String),
}

/// A valid host name (LDH labels of 1 to 63 octets, at most 253), folded to lower case, without a trailing dot.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// Checks and folds a text.
    ///
    /// # Errors
    /// [`NameError`] says which rule of RFC 1035 it breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        Self::check(text, false)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// As [`Name::parse`], of a text that was made for it.
    ///
    /// # Errors
    /// [`NameError`] says which rule of RFC 1035 it breaks.
    pub fn of(mut text: String) -> Result<Self, NameError> {
        Self::check(&text, false)?;
        text.make_ascii_lowercase();
        Ok(Self(text.into()))
    }

    /// As [`Name::parse`], but a label may hold underscores, as in `_msdcs`; for zones that are forwarded.
    ///
    /// # Errors
    /// [`NameError`] says which rule of RFC 1035 it breaks.
    pub fn parse_service(text: &str) -> Result<Self, NameError> {
        Self::check(text, true)?;
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// As [`Name::parse`], but the first label may be `*`, as in a host of a ServiceEntry.
    ///
    /// # Errors
    /// [`NameError`] says which rule of RFC 1035 it breaks.
    pub fn parse_host(text: &str) -> Result<Self, NameError> {
        match text.strip_prefix("*.") {
            Some(rest) if text.len() <= MAX_NAME => Self::parse(rest).map(|n| Self(format!("*.{n}").into())),
            Some(_) => Err(NameError::TooLong(text.len())),
            None => Self::parse(text),
        }
    }

    /// For a wildcard, the name that it stands below.
    #[must_use]
    pub fn below_wildcard(&self) -> Option<Name> {
        self.0.strip_prefix("*.").map(|rest| Self(rest.into()))
    }

    /// A text that was taken out of a name, so that it is one.
    #[must_use]
    pub(super) fn known(text: String) -> Self {
        Self(text.into())
    }

    fn check(text: &str, underscore: bool) -> Result<(), NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_NAME {
            return Err(NameError::TooLong(text.len()));
        }
        if is_plain(text.as_bytes()) {
            return Ok(());
        }
        for label in text.split('.') {
            let bytes = label.as_bytes();
            let ldh = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || (underscore && c == b'_');
            if bytes.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if bytes.len() > MAX_LABEL {
                return Err(NameError::LongLabel(label.to_owned()));
            }
            if !bytes.iter().all(|c| ldh(*c)) || bytes[0] == b'-' || bytes[bytes.len() - 1] == b'-' {
                return Err(NameError::NotLdh(label.to_owned()));
            }
        }
        Ok(())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is `zone` or below it.
    #[must_use]
    pub fn is_in(&self, zone: &Name) -> bool {
        self == zone || self.is_below(zone)
    }

    /// Whether it is strictly below `zone`.
    #[must_use]
    pub fn is_below(&self, zone: &Name) -> bool {
        self.prefix_of(zone).is_some()
    }

    /// What stands before `zone`, without the dot between: `details.backends` of `details.backends.mesh.acme`.
    #[must_use]
    pub fn prefix_of(&self, zone: &Name) -> Option<&str> {
        self.0.strip_suffix(&*zone.0)?.strip_suffix('.')
    }

    /// The name without its first label; `None` for a single label.
    #[must_use]
    pub fn parent(&self) -> Option<Name> {
        let (_, rest) = self.0.split_once('.')?;
        Some(Self(rest.into()))
    }
}

/// Whether all of it is labels as names of objects have them, found in one pass: a first state has a hundred thousand
/// names. What is not plain may be a name all the same.
fn is_plain(text: &[u8]) -> bool {
    let mut start = 0;
    for (at, octet) in text.iter().enumerate() {
        match octet {
            b'a'..=b'z' | b'0'..=b'9' => {}
            b'-' if at > start && !matches!(text.get(at + 1), None | Some(b'.')) => {}
            b'.' if at > start && at - start <= MAX_LABEL => start = at + 1,
            _ => return false,
        }
    }
    start < text.len() && text.len() - start <= MAX_LABEL
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_folded_and_bad_ones_say_why() {
        let long = "a".repeat(64);
        let (most, ends) = ("a".repeat(63), format!("a.{}-.b", "a".repeat(9)));
        let cases: [(&str, Result<&str, &str>); 13] = [
            ("Mesh.ACME", Ok("mesh.acme")),
            ("a-1.b--2.3", Ok("a-1.b--2.3")),
            (&most, Ok(&most)),
            ("mesh.-acme", Err("its label \"-acme\" is not letters, digits and inner hyphens")),
            ("mesh.acme-", Err("its label \"acme-\" is not letters, digits and inner hyphens")),
            (&ends, Err("its label \"aaaaaaaaa-\" is not letters, digits and inner hyphens")),
            ("acme", Ok("acme")),
            ("", Err("it is empty")),
            ("mesh..acme", Err("it has an empty label (two dots in a row, or a dot at the start or the end)")),
            ("mesh.acme.", Err("it has an empty label (two dots in a row, or a dot at the start or the end)")),
            ("mesh_acme", Err("its label \"mesh_acme\" is not letters, digits and inner hyphens")),
            ("-mesh.acme", Err("its label \"-mesh\" is not letters, digits and inner hyphens")),
            (&long, Err(&format!("its label \"{long}\" has over 63 octets"))),
        ];
        for (text, want) in cases {
            let got = Name::parse(text);
            assert_eq!(
                got.as_ref().map(Name::as_str).map_err(ToString::to_string),
                want.map_err(str::to_owned),
                "{text}"
            );
            assert_eq!(Name::of(text.to_owned()), got, "{text}");
        }
    }

    #[test]
    fn a_prefix_ends_at_a_label() {
        let zone = Name::parse("mesh.acme").unwrap();
        assert_eq!(Name::parse("a.b.mesh.acme").unwrap().prefix_of(&zone), Some("a.b"));
        assert!(!Name::parse("amesh.acme").unwrap().is_in(&zone));
        assert!(zone.is_in(&zone) && !zone.is_below(&zone));
    }
}
