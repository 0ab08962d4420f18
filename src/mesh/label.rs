//! Labels that decide scope, takeover and segment (contract section 1).

use super::object::{Kind, LabelsView, Namespace};
use super::report::{ObjectRef, Report, ReportKind};

/// The segment of a cluster (on its mesh root namespace), a namespace, or a generated entry.
pub const SEGMENT: &str = "admin.solo.io/segment";
/// The scope of a Service.
pub const SCOPE: &str = "solo.io/service-scope";
/// Whether the cluster's own name of a Service means the segment-wide one.
pub const TAKEOVER: &str = "solo.io/service-takeover";
/// The Service that a generated entry was made for.
pub const PARENT_SERVICE: &str = "solo.io/parent-service";
/// The namespace of the Service that a generated entry was made for.
pub const PARENT_NAMESPACE: &str = "solo.io/parent-service-namespace";
/// Marks entries that peers exchange among themselves; they do not count.
pub const PEER_CLUSTER: &str = "node.peer.solo.io/cluster";

/// What an object's labels say of scope and takeover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks<'a> {
    scope: Option<&'a str>,
    takeover: Option<&'a str>,
}

impl<'a> Marks<'a> {
    /// Of these labels.
    #[must_use]
    pub fn of(labels: LabelsView<'a>) -> Self {
        let [scope, takeover] = labels.find([SCOPE, TAKEOVER]);
        Self { scope, takeover }
    }

    /// Of a Namespace, if it is there.
    #[must_use]
    pub fn of_namespace(namespace: Option<&'a Namespace>) -> Self {
        namespace.map(|n| Self::of(n.labels.view())).unwrap_or_default()
    }
}

/// How far a published name is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Callers of its own segment.
    Segment,
    /// Callers of every segment.
    Global,
}

impl Scope {
    /// The label's value for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::Global => "global",
        }
    }
}

/// What the scope labels of a Service and its Namespace say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export<'a> {
    /// Published, with this scope; `takeover` is the older value `global-only`.
    Published {
        /// How far it is seen.
        scope: Scope,
        /// `global-only`: takeover unless a takeover label says otherwise.
        takeover: bool,
    },
    /// No label, or `cluster`.
    ClusterOnly,
    /// A value that is none; not exported, and reported by [`faults`].
    Unknown(&'a str),
}

/// Reads the scope: the label on the Service wins whatever it says, else the Namespace's.
#[must_use]
pub fn export_of<'a>(service: Marks<'a>, namespace: Marks<'a>) -> Export<'a> {
    export(service.scope.or(namespace.scope))
}

/// Whether a Service has anything to say of its scope or takeover, or its Namespace publishes it. Of any other there is
/// nothing to publish and nothing to report.
#[must_use]
pub fn may_publish(service: Marks<'_>, namespace: Marks<'_>) -> bool {
    service != Marks::default() || export(namespace.scope) != Export::ClusterOnly
}

/// What a scope label says, or that there is none.
#[must_use]
pub fn export(scope: Option<&str>) -> Export<'_> {
    match scope {
        None | Some("cluster") => Export::ClusterOnly,
        Some("global") => Export::Published { scope: Scope::Global, takeover: false },
        Some("segment") => Export::Published { scope: Scope::Segment, takeover: false },
        Some("global-only") => Export::Published { scope: Scope::Global, takeover: true },
        Some(value) => Export::Unknown(value),
    }
}

/// Reads takeover (R19): the first takeover label found decides, whatever it says; without one, `global-only` does.
#[must_use]
pub fn takeover_of(service: Marks<'_>, namespace: Marks<'_>, global_only: bool) -> bool {
    let label = service.takeover.or(namespace.takeover);
    label.map_or(global_only, |value| value == "true")
}

/// What is wrong with the scope and takeover labels of a Service or a Namespace.
#[must_use]
pub fn faults(marks: Marks<'_>, object: impl Fn() -> ObjectRef) -> Vec<Report> {
    let whose = || match object().kind {
        Kind::Namespace => "Services in it without a label of their own are",
        _ => "it is",
    };
    let mut reports = Vec::new();
    let mut report = |kind, rule, text, remedy: &str| {
        reports.push(Report { kind, rule, object: object(), text, remedy: remedy.into() });
    };
    let scopes = ["global", "segment", "cluster", "global-only"];
    if let Some(value) = marks.scope.filter(|value| !scopes.contains(value)) {
        let text = format!("its label {SCOPE}={value:?} is none of {}, so {} not exported", scopes.join(", "), whose());
        report(ReportKind::ScopeInvalid, "R1", text, "correct the value, or remove the label");
    }
    if let Some(value) = marks.takeover.filter(|value| !matches!(*value, "true" | "false")) {
        let text = format!("its label {TAKEOVER}={value:?} is neither true nor false, so {} not taken over", whose());
        report(ReportKind::TakeoverInvalid, "R19", text, "write \"true\" or \"false\"");
    }
    reports
}

#[cfg(test)]
mod tests {
    use super::super::object::Labels;
    use super::*;

    fn service(labels: &[(&str, &str)]) -> Labels {
        Labels::new(labels.iter().copied())
    }

    fn namespace(labels: &[(&str, &str)]) -> Namespace {
        Namespace { name: "ns".into(), labels: Labels::new(labels.iter().copied()), broken: false }
    }

    #[test]
    fn a_scope_label_on_the_service_wins_whatever_it_says() {
        let global = Export::Published { scope: Scope::Global, takeover: false };
        let segment = Export::Published { scope: Scope::Segment, takeover: false };
        let only = Export::Published { scope: Scope::Global, takeover: true };
        let cases: [(Option<&str>, Option<&str>, Export<'_>); 8] = [
            (None, None, Export::ClusterOnly),
            (Some("global"), None, global),
            (None, Some("segment"), segment),
            (Some("cluster"), Some("global"), Export::ClusterOnly),
            (Some("global-only"), Some("segment"), only),
            (Some("Global"), Some("global"), Export::Unknown("Global")),
            (None, Some("all"), Export::Unknown("all")),
            (Some(""), Some("global"), Export::Unknown("")),
        ];
        for (own, ns, want) in cases {
            let own: Vec<_> = own.map(|v| (SCOPE, v)).into_iter().collect();
            let ns: Vec<_> = ns.map(|v| (SCOPE, v)).into_iter().collect();
            assert_eq!(
                export_of(Marks::of(service(&own).view()), Marks::of_namespace(Some(&namespace(&ns)))),
                want,
                "{own:?} {ns:?}"
            );
        }
    }

    #[test]
    fn the_first_takeover_label_found_decides() {
        let cases = [
            (None, None, false, false),
            (Some("true"), None, false, true),
            (None, Some("true"), false, true),
            (Some("false"), Some("true"), false, false),
            (Some("maybe"), Some("true"), false, false),
            (None, None, true, true),
            (Some("false"), None, true, false),
            (None, Some("false"), true, false),
        ];
        for (own, ns, global_only, want) in cases {
            let labels: Vec<_> = own.map(|v| (TAKEOVER, v)).into_iter().collect();
            let above: Vec<_> = ns.map(|v| (TAKEOVER, v)).into_iter().collect();
            let got = takeover_of(
                Marks::of(service(&labels).view()),
                Marks::of_namespace(Some(&namespace(&above))),
                global_only,
            );
            assert_eq!(got, want, "{own:?} {ns:?} {global_only}");
        }
    }
}
