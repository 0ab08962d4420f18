//! The rows of an `expect.tsv`, and what follows from a name: its mesh zone, its search suffix, its twins.

use std::path::Path;

use super::CLUSTER_DOMAIN;

/// One row.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its number, from 1, without the header line.
    pub no: usize,
    /// Which directory is the local cluster.
    pub local: String,
    /// Source address, or `-`.
    pub caller: String,
    /// `-`, `all`, `enrolled`, or `KEY=VALUE;...`.
    pub policy: String,
    /// The question's name, in this very spelling.
    pub name: String,
    /// The question's type.
    pub rtype: String,
    /// The response code.
    pub rcode: String,
    /// What is in the answer section.
    pub answers: String,
    /// The rules that decide it.
    pub rules: String,
    /// Further checks.
    pub also: Vec<String>,
}

/// Reads an `expect.tsv`.
#[must_use]
pub fn read(path: &Path) -> Vec<Row> {
    const COLUMNS: [&str; 9] =
        ["local_cluster", "caller", "policy", "name", "type", "rcode", "answers", "rules", "also"];
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    let head: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    assert_eq!(head, COLUMNS, "{}", path.display());
    let mut rows = Vec::new();
    for (i, line) in lines.enumerate() {
        let f: Vec<String> = line.split('\t').map(str::to_owned).collect();
        let Ok([local, caller, policy, name, rtype, rcode, answers, rules, also]) = <[String; 9]>::try_from(f) else {
            panic!("{}: row {} has not {} columns", path.display(), i + 1, COLUMNS.len());
        };
        let also = also.split(',').filter(|t| *t != "-").map(str::to_owned).collect();
        rows.push(Row { no: i + 1, local, caller, policy, name, rtype, rcode, answers, rules, also });
    }
    rows
}

/// A name as keys have it: lower case, no final dot.
#[must_use]
pub fn fold(name: &str) -> String {
    name.trim_end_matches('.').to_lowercase()
}

/// The longest mesh zone that the name is in (R2).
#[must_use]
pub fn zone_of<'a>(name: &str, zones: &'a [String]) -> Option<&'a str> {
    let name = fold(name);
    let inside = |z: &&String| name == **z || name.strip_suffix(z.as_str()).is_some_and(|rest| rest.ends_with('.'));
    zones.iter().filter(inside).max_by_key(|z| z.len()).map(String::as_str)
}

/// For `<mesh name>.<search suffix>` (R21): the zone, and the suffix with its leading dot.
#[must_use]
pub fn searched<'a>(name: &str, zones: &'a [String]) -> Option<(&'a str, String)> {
    let name = fold(name);
    let bare = name.strip_suffix(CLUSTER_DOMAIN)?.strip_suffix('.')?;
    let svc = bare.strip_suffix(".svc");
    let namespaced = svc.and_then(|s| s.rsplit_once('.')).filter(|(_, namespace)| !namespace.is_empty());
    for prefix in [namespaced.map(|(prefix, _)| prefix), svc, Some(bare)].into_iter().flatten() {
        if let Some(zone) = zone_of(prefix, zones)
            && zone != prefix
        {
            return Some((zone, name[prefix.len()..].to_owned()));
        }
    }
    None
}

/// Names of the same shape that never existed (R13): another first label; other labels all the way to the zone.
#[must_use]
pub fn twins(name: &str, zones: &[String]) -> Vec<String> {
    let labels: Vec<&str> = name.trim_end_matches('.').split('.').collect();
    let kept = match (zone_of(name, zones), searched(name, zones)) {
        (Some(zone), _) => zone.split('.').count(),
        (None, Some((zone, suffix))) => zone.split('.').count() + suffix.matches('.').count(),
        (None, None) => 3, // in the cluster domain: svc.cluster.local
    };
    let (own, rest) = labels.split_at(labels.len().saturating_sub(kept));
    let join =
        |own: Vec<String>| own.into_iter().chain(rest.iter().map(|l| (*l).to_owned())).collect::<Vec<_>>().join(".");
    let Some((first, others)) = own.split_first() else { return Vec::new() };
    let unchanged = others.iter().map(|l| (*l).to_owned());
    let mut out = vec![join(std::iter::once(filler(first, 1)).chain(unchanged).collect())];
    if !others.is_empty() {
        out.push(join(own.iter().enumerate().map(|(i, label)| filler(label, 2 + i)).collect()));
    }
    out
}

/// A label of the same length and kind that nobody has.
fn filler(label: &str, salt: usize) -> String {
    const LETTERS: [char; 8] = ['z', 'q', 'x', 'j', 'k', 'v', 'w', 'y'];
    let body: String = (0..label.len()).map(|i| LETTERS[(i * 5 + salt * 3 + label.len()) % 8]).collect();
    if label.starts_with('_') { format!("_{}", &body[1..]) } else { body }
}
