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
    state.trouble.as_ref().is_some_and(Trouble::is_missing)
}

/// Its first complete state is awaited.
#[must_use]
pub fn is_pending((source, state): &(Source, State)) -> bool {
    !state.synced && !is_missing(state) && *source.kind != *SNAPSHOT
}

/// API servers' sources that are awaited, a line for each cause: what has one cause is named together.
#[must_use]
pub fn pending(states: &[(Source, State)]) -> Vec<String> {
    let awaited = states.iter().filter(|state| is_pending(state) && *state.0.kind != *MANIFESTS);
    by_cause(awaited)
}

/// What keeps the others from their objects, likewise.
#[must_use]
pub fn notes(states: &[(Source, State)]) -> Vec<String> {
    let troubled = |missing: bool| {
        let trouble = move |state: &&(Source, State)| {
            let trouble = state.1.trouble.as_ref().filter(|_| !is_pending(state));
            trouble.is_some_and(|trouble| trouble.is_missing() == missing)
        };
        by_cause(states.iter().filter(trouble))
    };
    let missing = troubled(true).into_iter().map(|line| format!("missing: {line}"));
    missing.chain(troubled(false).into_iter().map(|line| format!("trouble: {line}"))).collect()
}

fn by_cause<'a>(states: impl Iterator<Item = &'a (Source, State)>) -> Vec<String> {
    let mut causes: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for (source, state) in states {
        let trouble = state.trouble.as_ref().map(|Trouble { text, remedy, .. }| format!("{text}; {remedy}"));
        let cause = trouble.unwrap_or_else(|| "no complete list yet".to_owned());
        causes.entry((&source.cluster, cause)).or_default().push(&source.kind);
    }
    let line = |((cluster, cause), kinds): ((&str, String), Vec<&str>)| {
        format!("{cluster} {}: {cause}", kinds.join(", ")).replace(['\n', '\r'], " ")
    };
    causes.into_iter().map(line).collect()
}

/// Everything that is awaited, in one line for all.
#[must_use]
pub fn summary(states: &[(Source, State)]) -> String {
    by_cause(states.iter().filter(|state| is_pending(state))).join(" | ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::board::Cause;

    #[test]
    fn what_has_one_cause_is_named_together_and_what_is_missing_is_not_awaited() {
        let state = |synced, text: Option<&str>, missing| State {
            synced,
            trouble: text.map(|text| Trouble {
                text: text.into(),
                remedy: "mend it".into(),
                cause: if missing { Cause::Missing } else { Cause::Unreachable },
            }),
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
