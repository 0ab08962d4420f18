//! Aliases (R9): more names for published services, from patterns of their Segment.

use super::name::Name;
use super::object::{Alias, LabelsView};
use super::segment::{Layout, SegmentIx};
use super::settings::Settings;

/// What a pattern is filled from.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The Service's name.
    pub service: &'a str,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its labels.
    pub labels: LabelsView<'a>,
    /// Its annotations.
    pub annotations: LabelsView<'a>,
}

/// Why an alias gives no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAlias {
    /// Its selector does not match, or a label or annotation it needs is missing: nothing to report.
    NotMeant,
    /// It is wrong: what, and the remedy.
    Wrong(String, String),
}

/// Whether the selector picks an object with these labels.
#[must_use]
pub fn selects(alias: &Alias, labels: LabelsView<'_>) -> bool {
    alias.unsupported.is_none() && alias.selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The name that `alias` of `segment` gives to `subject`.
///
/// # Errors
/// [`NoAlias`], if there is none.
pub fn expand(
    settings: &Settings,
    layout: &Layout,
    segment: SegmentIx,
    alias: &Alias,
    subject: Subject<'_>,
) -> Result<Name, NoAlias> {
    if let Some(what) = &alias.unsupported {
        return Err(NoAlias::Wrong(
            format!("the alias {:?} selects by {what}, which is not supported, so it selects nothing", alias.pattern),
            "select by selector.matchLabels only".into(),
        ));
    }
    if !selects(alias, subject.labels) {
        return Err(NoAlias::NotMeant);
    }
    let text = fill(&alias.pattern, subject)?;
    let name = Name::parse(&text).map_err(|why| {
        NoAlias::Wrong(
            format!("the alias {:?} gives {:?}, which is no DNS name: {why}", alias.pattern, shortened(&text)),
            "correct the pattern, or the label or annotation it takes".into(),
        )
    })?;
    allowed(settings, layout, segment, &name).map_err(|zone| {
        NoAlias::Wrong(
            format!("the alias {:?} gives {name}, which lies in {zone}", alias.pattern),
            "choose a pattern in the Segment's own domain, or outside all mesh zones, the cluster domain and arpa"
                .into(),
        )
    })?;
    Ok(name)
}

fn shortened(text: &str) -> String {
    if text.chars().count() > 80 { text.chars().take(77).chain("...".chars()).collect() } else { text.to_owned() }
}

/// Fills the variables `{service}`, `{namespace}`, `{labels['k']}` and `{annotations['k']}`.
fn fill(pattern: &str, subject: Subject<'_>) -> Result<String, NoAlias> {
    let wrong = |what: &str| {
        NoAlias::Wrong(
            format!("the alias pattern {pattern:?} has {what}"),
            "use {service}, {namespace}, {labels['key']} and {annotations['key']}".into(),
        )
    };
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let (variable, after) = after.split_once('}').ok_or_else(|| wrong("an opening brace without a closing one"))?;
        let value = match variable.trim() {
            "service" => Some(subject.service),
            "namespace" => Some(subject.namespace),
            other => match (keyed(other, "labels"), keyed(other, "annotations")) {
                (Some(key), _) => subject.labels.get(key),
                (_, Some(key)) => subject.annotations.get(key),
                _ => return Err(wrong(&format!("the unknown variable {{{variable}}}"))),
            },
        };
        out.push_str(value.ok_or(NoAlias::NotMeant)?);
        rest = after;
    }
    if rest.contains('}') {
        return Err(wrong("a closing brace without an opening one"));
    }
    out.push_str(rest);
    Ok(out)
}

/// The key of `map['key']` or `map["key"]`.
fn keyed<'a>(variable: &'a str, map: &str) -> Option<&'a str> {
    let inner = variable.strip_prefix(map)?.trim().strip_prefix('[')?.strip_suffix(']')?.trim();
    let quoted = |q: char| inner.strip_prefix(q)?.strip_suffix(q);
    quoted('\'').or_else(|| quoted('"'))
}

/// Whether an alias of `segment` may have this name; else what forbids it.
fn allowed(settings: &Settings, layout: &Layout, segment: SegmentIx, name: &Name) -> Result<(), String> {
    if name.is_in(&settings.cluster_domain) {
        return Err(format!("the cluster domain {}", settings.cluster_domain));
    }
    if name.as_str() == "arpa" || name.as_str().ends_with(".arpa") {
        return Err("arpa".into());
    }
    let Some(zone) = layout.zone_of(name) else { return Ok(()) };
    let (domain, of) = &layout.zones[zone];
    if name == domain {
        return Err(format!("the place of the mesh zone {domain} itself"));
    }
    if *of == Some(segment) { Ok(()) } else { Err(format!("the mesh zone {domain} of another segment")) }
}

#[cfg(test)]
mod tests {
    use super::super::object::Labels;
    use super::*;

    #[test]
    fn patterns_are_filled_from_the_service_and_say_what_is_wrong() {
        let labels = Labels::new([("app", "Details"), ("team.io/x", "blue")]);
        let annotations = Labels::new([("note", "n1")]);
        let (labels, annotations) = (labels.view(), annotations.view());
        let subject = Subject { service: "details", namespace: "back", labels, annotations };
        let cases: [(&str, Result<&str, bool>); 10] = [
            ("{service}.{namespace}.corp", Ok("details.back.corp")),
            ("{labels['app']}.corp", Ok("Details.corp")),
            ("{labels[\"team.io/x\"]}-{service}.corp", Ok("blue-details.corp")),
            ("{annotations['note']}.corp", Ok("n1.corp")),
            ("plain.corp", Ok("plain.corp")),
            ("{labels['none']}.corp", Err(false)),
            ("{annotations['none']}.corp", Err(false)),
            ("{cluster}.corp", Err(true)),
            ("{service.corp", Err(true)),
            ("service}.corp", Err(true)),
        ];
        for (pattern, want) in cases {
            match (fill(pattern, subject), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want),
                (Err(NoAlias::NotMeant), Err(false)) | (Err(NoAlias::Wrong(..)), Err(true)) => {}
                (got, want) => panic!("{pattern}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn a_selector_needs_every_label() {
        let labels = Labels::new([("a", "1"), ("b", "2")]);
        let labels = labels.view();
        let alias = |pairs: &[(&str, &str)]| Alias { selector: Labels::new(pairs.iter().copied()), ..Alias::default() };
        assert!(selects(&alias(&[]), labels));
        assert!(selects(&alias(&[("a", "1"), ("b", "2")]), labels));
        assert!(!selects(&alias(&[("a", "1"), ("b", "3")]), labels));
        let more = Alias { unsupported: Some("matchExpressions".into()), ..Alias::default() };
        assert!(!selects(&more, labels));
    }
}
