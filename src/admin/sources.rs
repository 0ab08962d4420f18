//! What sources are doing, in words: for `/readyz`, `/metrics`, and a look at API servers that sees nothing.

use std::collections::BTreeMap;

use crate::watch::board::{Source, State, Trouble};

/// The kind of a board's source that is a directory. What is wrong in it is reports, not troubles.
pub const MANIFESTS: &str = "manifests";

/// The kind of a board's source that is written instead of read: the saved snapshot. Nothing waits for it, and it says
/// nothing when nothing changes.
pub const SNAPSHOT: &str = "snapshot";

/// A resource that does not exist there; nothing waits for it.
#[must_use]
pub fn is_missing(state: &State) -> bool {
    state.trouble.as_ref().is_some_and(|trouble| trouble.missing)
}

/// Its first complete state is awaited.
#[must_use]
pub fn is_pending((source, state): &(Source, State)) -> bool {
    !state.synced && !is_missing(state) && *source.kind != *SNAPSHOT
}

/// A fixed word for what is wrong. Only the text tells, as API servers and libraries word it.
#[must_use]
pub fn reason(trouble: &Trouble) -> &'static str {
    const AWAY: [&str; 10] = [
        "connect",
        "refused",
        "reset",
        "unreachable",
        "timed out",
        "timeout",
        "resolve",
        "lookup",
        "silent",
        "no answer",
    ];
    let text = trouble.text.to_ascii_lowercase();
    match () {
        () if trouble.missing => "missing",
        () if text.contains("forbidden") => "forbidden",
        () if text.contains("unauthorized") => "unauthorized",
        () if AWAY.iter().any(|word| text.contains(word)) => "unreachable",
        () => "other",
    }
}

/// Each API server's source that is awaited, in one line.
#[must_use]
pub fn pending(states: &[(Source, State)]) -> Vec<String> {
    let awaited = states.iter().filter(|state| is_pending(state) && *state.0.kind != *MANIFESTS);
    let line = |(Source { cluster, kind }, state): &(Source, State)| match &state.trouble {
        Some(Trouble { text, remedy, .. }) => format!("{cluster} {kind}: {text}; {remedy}"),
        None => format!("{cluster} {kind}: its first complete list is not in yet"),
    };
    awaited.map(line).collect()
}

/// What keeps the others from their objects, each in one line.
#[must_use]
pub fn notes(states: &[(Source, State)]) -> Vec<String> {
    let line = |known: &(Source, State)| {
        let (Source { cluster, kind }, state) = known;
        let Trouble { text, remedy, missing } = state.trouble.as_ref().filter(|_| !is_pending(known))?;
        let word = if *missing { "missing" } else { "trouble" };
        Some(format!("{word}: {kind} in {cluster}: {text}; {remedy}"))
    };
    states.iter().filter_map(line).collect()
}

/// Everything that is awaited, in one line for all: what has one cause is named together.
#[must_use]
pub fn summary(states: &[(Source, State)]) -> String {
    let mut causes: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for (source, state) in states.iter().filter(|state| is_pending(state)) {
        let trouble = state.trouble.as_ref().map(|Trouble { text, remedy, .. }| format!("{text}; {remedy}"));
        let cause = trouble.unwrap_or_else(|| "no complete list yet".to_owned());
        causes.entry((&source.cluster, cause)).or_default().push(&source.kind);
    }
    let lines = causes.iter().map(|((cluster, cause), kinds)| format!("{cluster} {}: {cause}", kinds.join(", ")));
    lines.collect::<Vec<_>>().join(" | ").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trouble_has_one_of_five_words() {
        let cases = [
            ("services is forbidden: User \"x\" cannot list resource \"services\"", false, "forbidden"),
            ("segments.admin.solo.io is forbidden", true, "missing"),
            ("Unauthorized", false, "unauthorized"),
            ("client error (Connect): tcp connect error: Connection refused", false, "unreachable"),
            ("no word for 90s; the watch counts as dead: timed out", false, "unreachable"),
            ("https://10.0.0.1 gives no answer within 30 s", false, "unreachable"),
            ("the answer is no JSON", false, "other"),
        ];
        for (text, missing, want) in cases {
            let trouble = Trouble { text: text.into(), remedy: String::new(), missing };
            assert_eq!(reason(&trouble), want, "{text}");
        }
    }

    #[test]
    fn what_has_one_cause_is_named_together_and_what_is_missing_is_not_awaited() {
        let state = |synced, text: Option<&str>, missing| State {
            synced,
            trouble: text.map(|text| Trouble { text: text.into(), remedy: "mend it".into(), missing }),
            ..State::default()
        };
        let source = |cluster: &str, kind: &str| Source { cluster: cluster.into(), kind: kind.into() };
        let states = [
            (source("c1", "namespaces"), state(false, Some("refused"), false)),
            (source("c1", "pods"), state(false, None, false)),
            (source("c1", "segments"), state(false, Some("there is none"), true)),
            (source("c1", "services"), state(false, Some("refused"), false)),
            (source("c2", "pods"), state(false, Some("refused\nagain"), false)),
            (source("c2", "services"), state(true, Some("refused"), false)),
        ];
        let want = "c1 pods: no complete list yet | c1 namespaces, services: refused; mend it | c2 pods: refused again; mend it";
        assert_eq!(summary(&states), want);
    }
}
