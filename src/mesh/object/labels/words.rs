//! The words themselves: keys and values that the labels and annotations of most Services and generated entries have. They
//! may change from one version to the next.

/// By length.
pub const WORDS: [&str; 60] = [
    "v1",
    "v2",
    "app",
    "env",
    "Helm",
    "http",
    "name",
    "prod",
    "team",
    "tier",
    "true",
    "chart",
    "false",
    "https",
    "istio",
    "global",
    "latest",
    "cluster",
    "default",
    "k8s-app",
    "release",
    "segment",
    "service",
    "staging",
    "version",
    "heritage",
    "component",
    "production",
    "environment",
    "global-only",
    "istio.io/rev",
    "helm.sh/chart",
    "kubernetes.io/name",
    "prometheus.io/path",
    "prometheus.io/port",
    "prometheus.io/scrape",
    "admin.solo.io/segment",
    "istio.io/use-waypoint",
    "solo.io/service-scope",
    "app.kubernetes.io/name",
    "solo.io/parent-service",
    "istio.io/dataplane-mode",
    "solo.io/service-takeover",
    "app.kubernetes.io/part-of",
    "app.kubernetes.io/version",
    "meta.helm.sh/release-name",
    "node.peer.solo.io/cluster",
    "topology.istio.io/network",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/component",
    "argocd.argoproj.io/instance",
    "kubernetes.io/metadata.name",
    "app.kubernetes.io/managed-by",
    "argocd.argoproj.io/tracking-id",
    "meta.helm.sh/release-namespace",
    "service.istio.io/canonical-name",
    "kustomize.toolkit.fluxcd.io/name",
    "solo.io/parent-service-namespace",
    "service.istio.io/canonical-revision",
    "kustomize.toolkit.fluxcd.io/namespace",
];

/// A longer text is no word.
const LONGEST: usize = WORDS[WORDS.len() - 1].len();

/// Where the words of each length begin, and at the end how many words there are.
const STARTS: [u8; LONGEST + 2] = starts();

#[allow(
    clippy::cast_possible_truncation,
    reason = "there are fewer words than an octet can count, or this does not compile"
)]
const fn starts() -> [u8; LONGEST + 2] {
    assert!(WORDS.len() <= 64, "128 and what is added to it is no octet that a text can begin with");
    let mut starts = [0; LONGEST + 2];
    let (mut length, mut at) = (0, 0);
    while length < starts.len() {
        while at < WORDS.len() && WORDS[at].len() < length {
            at += 1;
        }
        starts[length] = at as u8;
        length += 1;
    }
    starts
}

/// The number of the word that this is.
pub fn place(text: &str) -> Option<u8> {
    let [start, end] = *STARTS.get(text.len()..)?.first_chunk()?;
    (start..end).find(|place| WORDS[usize::from(*place)] == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::label;

    #[test]
    fn every_word_is_found_and_the_rules_own_are_among_them() {
        let places: Vec<_> = WORDS.iter().map(|word| place(word).map(usize::from)).collect();
        assert_eq!(places, (0..WORDS.len()).map(Some).collect::<Vec<_>>());
        let rules = [label::SEGMENT, label::SCOPE, label::TAKEOVER, label::PARENT_SERVICE, label::PARENT_NAMESPACE];
        for word in rules.into_iter().chain(["global", "segment", "cluster", "global-only", "true", "false"]) {
            assert!(place(word).is_some(), "{word}");
        }
        for text in ["", "ap", "appp", "apq", &"x".repeat(LONGEST), &"x".repeat(LONGEST + 1)] {
            assert_eq!(place(text), None, "{text:?}");
        }
    }
}
