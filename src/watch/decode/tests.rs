use super::*;
use crate::mesh::object::{Capture, EndpointSlice, Namespace, Pod, Protocol, Reach, Segment, Service, ServiceEntry};

fn read(text: &str) -> (Decoded, Vec<String>) {
    let parsed: Item<'_> = serde_saphyr::from_str(text).unwrap();
    let decoded = item(&parsed);
    let problems = match &decoded {
        Decoded::Object(_, problems) | Decoded::Broken(_, problems) => problems,
        Decoded::Other => return (decoded, Vec::new()),
    };
    let texts = problems.iter().map(|problem| problem.fault("f").text).collect();
    (decoded, texts)
}

macro_rules! object {
    ($text:expr, $kind:ident) => {{
        match read($text) {
            (Decoded::Object(Object::$kind(object), _), faults) => (object, faults),
            other => panic!("{other:?}"),
        }
    }};
}

fn service(body: &str) -> (Service, Vec<String>) {
    object!(&format!("apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: b}}\n{body}"), Service)
}

#[test]
fn one_bad_field_of_a_service_costs_that_field() {
    let cases: [(&str, Reach, &[&str]); 8] = [
        (
            "spec: {clusterIPs: [10.0.0.1, 10.0.0.300]}",
            Reach::ClusterIps(["10.0.0.1".parse().unwrap()].into()),
            &["f: spec.clusterIPs[1]: \"10.0.0.300\" is not an IP address"],
        ),
        ("spec: {clusterIP: 10.0.0.1}", Reach::ClusterIps(["10.0.0.1".parse().unwrap()].into()), &[]),
        ("spec: {clusterIP: None}", Reach::Headless, &[]),
        ("spec: {clusterIP: None, clusterIPs: [None]}", Reach::Headless, &[]),
        ("spec: {type: ExternalName, externalName: x.example}", Reach::ExternalName("x.example".into()), &[]),
        ("spec: {clusterIP: \"\"}", Reach::ClusterIps([].into()), &[]),
        (
            "spec: {clusterIP: 5}",
            Reach::ClusterIps([].into()),
            &["f: spec.clusterIP: the number 5 where a string has to be"],
        ),
        (
            "spec: {ports: [{port: 0}, {name: x, port: 1, protocol: UDP}]}",
            Reach::ClusterIps([].into()),
            &["f: spec.ports[0].port: 0 is not a port"],
        ),
    ];
    for (body, reach, faults) in cases {
        let (object, found) = service(body);
        assert_eq!(object.reach, reach, "{body}");
        assert_eq!(found, faults, "{body}");
    }
    assert_eq!(
        service("spec: {ports: [{port: 0}, {name: x, port: 1, protocol: UDP}]}").0.ports[0].protocol,
        Protocol::Udp
    );
}

#[test]
fn labels_that_cannot_be_read_break_a_service_and_close_a_namespace() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: b, labels: {x: true}}";
    let (decoded, faults) = read(text);
    assert!(matches!(decoded, Decoded::Broken(Some(key), _) if &*key.name == "a"));
    assert_eq!(faults, ["f: metadata.labels.x: the boolean true where a string has to be"]);
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {solo.io/x: true}}";
    let (namespace, faults): (Namespace, _) = object!(text, Namespace);
    assert!(namespace.broken);
    assert_eq!(faults, ["f: metadata.labels['solo.io/x']: the boolean true where a string has to be"]);
    let (Decoded::Object(_, problems), _) = read(text) else { panic!() };
    assert_eq!(problems[0].remedy, "put it in quotes: \"true\"");
    let (namespace, _): (Namespace, _) =
        object!("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: 5}", Namespace);
    assert!(namespace.broken);
    let fine = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {x: \"true\", y: }}";
    let (namespace, faults): (Namespace, _) = object!(fine, Namespace);
    assert!(!namespace.broken && faults.is_empty() && namespace.labels.get("y") == Some(""));
}

#[test]
fn objects_without_a_name_and_kinds_of_other_groups_are_told_apart() {
    let cases: [(&str, bool, &[&str]); 6] = [
        ("apiVersion: v1\nkind: Service\nmetadata: {namespace: a}", true, &["f: metadata.name: this Service has none"]),
        ("apiVersion: v1\nkind: Service", true, &["f: metadata: this Service has none"]),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: 5}",
            true,
            &["f: metadata.name: the number 5 where a string has to be"],
        ),
        ("apiVersion: v1", true, &["f: kind: it is missing"]),
        ("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}", false, &[]),
        ("apiVersion: apps/v1\nkind: Deployment\nspec: {ports: 5}", false, &[]),
    ];
    for (text, broken, faults) in cases {
        let (decoded, found) = read(text);
        assert_eq!(matches!(decoded, Decoded::Broken(None, _)), broken, "{text}");
        assert_eq!(found, faults, "{text}");
    }
}

#[test]
fn a_segment_without_a_readable_domain_is_a_segment_without_a_domain() {
    for (spec, domain, faults) in
        [("{domain: mesh.acme}", Some("mesh.acme"), 0), ("{domain: 5}", None, 1), ("{}", None, 1), ("5", None, 1)]
    {
        for group in ["admin.solo.io/v1alpha1", "admin.istio.io/v1"] {
            let text = format!("apiVersion: {group}\nkind: Segment\nmetadata: {{name: a, namespace: b}}\nspec: {spec}");
            let (segment, found): (Segment, _) = object!(&text, Segment);
            assert_eq!((segment.domain.as_deref(), found.len()), (domain, faults), "{spec}: {found:?}");
        }
    }
}

#[test]
fn a_selector_that_asks_for_more_than_match_labels_is_unsupported() {
    for (selector, want) in [
        ("{matchLabels: {a: b}}", None),
        ("{matchLabels: {a: b}, matchExpressions: []}", None),
        ("{matchExpressions: [{key: a, operator: Exists}]}", Some("matchExpressions")),
        ("{matchLabels: {a: true}}", Some("matchLabels that cannot be read")),
        ("5", Some("a selector that cannot be read")),
    ] {
        let head = "apiVersion: admin.solo.io/v1alpha1\nkind: Segment\nmetadata: {name: a, namespace: b}";
        let text = format!("{head}\nspec: {{domain: x, aliases: [{{pattern: p, selector: {selector}}}]}}");
        let (segment, _): (Segment, _) = object!(&text, Segment);
        assert_eq!(segment.aliases[0].unsupported.as_deref(), want, "{selector}");
    }
}

#[test]
fn endpoints_are_ready_unless_they_say_otherwise() {
    let head = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: a, namespace: b, labels: {kubernetes.io/service-name: s}}";
    let body = "ports: null\nendpoints:\n- {addresses: [10.0.0.1], hostname: h}\n- {addresses: [10.0.0.2], conditions: {ready: false}}\n\
                - {addresses: [10.0.0.3], conditions: {ready: null}}\n- {addresses: [x], hostname: a_b}";
    let (slice, faults): (EndpointSlice, _) = object!(&format!("{head}\naddressType: IPv4\n{body}"), EndpointSlice);
    assert_eq!(slice.endpoints.iter().map(|e| e.ready).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!((&*slice.service, slice.endpoints[0].hostname.as_deref()), ("s", Some("h")));
    assert_eq!(faults[0], "f: endpoints[3].addresses[0]: \"x\" is not an IP address");
    assert!(faults[1].starts_with("f: endpoints[3].hostname: \"a_b\" is no host name"));
    let (slice, faults): (EndpointSlice, _) =
        object!(&format!("{head}\naddressType: FQDN\nendpoints: [{{addresses: [a.b]}}]"), EndpointSlice);
    assert!(slice.endpoints[0].addresses.is_empty() && faults.is_empty());
    let (slice, faults): (EndpointSlice, _) = object!(&format!("{head}\nendpoints: null"), EndpointSlice);
    assert!(slice.endpoints.is_empty() && faults.is_empty());
}

#[test]
fn service_entries_keep_addresses_and_skip_ranges_and_host_names() {
    let text = "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {name: a, namespace: b}\nspec:\n  hosts: [h]\n  \
                addresses: [10.0.0.1, 10.0.0.0/8, x]\n  endpoints: [{address: 1.2.3.4}, {address: h.example}]\n  ports: [{name: q, \
                number: 80, protocol: HTTP}]\nstatus: {addresses: [{host: h, value: 240.0.0.1}]}";
    let (entry, faults): (ServiceEntry, _) = object!(text, ServiceEntry);
    assert_eq!((entry.addresses.len(), entry.endpoints.len(), entry.ports[0].number), (1, 1, 80));
    assert_eq!(entry.status_addresses[0], ("h".into(), "240.0.0.1".parse().unwrap()));
    assert_eq!(faults, ["f: spec.addresses[2]: \"x\" is not an IP address"]);
}

#[test]
fn dns_capture_is_a_matter_of_redirected_pods() {
    for (annotations, capture) in [
        ("{}", Capture::Off),
        ("{ambient.istio.io/redirection: enabled}", Capture::Unsaid),
        ("{ambient.istio.io/redirection: enabled, ambient.istio.io/dns-capture: \"false\"}", Capture::Off),
        ("{ambient.istio.io/redirection: enabled, ambient.istio.io/dns-capture: \"true\"}", Capture::On),
        ("{ambient.istio.io/redirection: enabled, ambient.istio.io/dns-capture: perhaps}", Capture::Unsaid),
        ("{ambient.istio.io/dns-capture: \"true\", sidecar.istio.io/status: \"{}\"}", Capture::Off),
    ] {
        let text =
            format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: b, annotations: {annotations}}}");
        let (pod, _): (Pod, _) = object!(&text, Pod);
        assert_eq!(pod.capture, capture, "{annotations}");
    }
}

#[test]
fn pods_are_read_as_callers() {
    for (body, addresses, enrolled, finished, terminating) in [
        ("status: {podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: \"fd00::1\"}]}", 2, false, false, false),
        ("status: {podIP: 10.0.0.1, phase: Succeeded}", 1, false, true, false),
        ("metadata: {name: a, namespace: b, deletionTimestamp: \"2026-01-01T00:00:00Z\"}", 0, false, false, true),
        (
            "metadata: {name: a, namespace: b, annotations: {ambient.istio.io/redirection: enabled}}",
            0,
            true,
            false,
            false,
        ),
        ("metadata: {name: a, namespace: b, annotations: {sidecar.istio.io/status: \"{}\"}}", 0, true, false, false),
        (
            "metadata: {name: a, namespace: b, annotations: {ambient.istio.io/redirection: disabled}}",
            0,
            false,
            false,
            false,
        ),
    ] {
        let meta = if body.starts_with("metadata") { "" } else { "metadata: {name: a, namespace: b}\n" };
        let (pod, faults): (Pod, _) = object!(&format!("apiVersion: v1\nkind: Pod\n{meta}{body}"), Pod);
        assert_eq!(
            (pod.addresses.len(), pod.enrolled, pod.finished, pod.terminating),
            (addresses, enrolled, finished, terminating),
            "{body}"
        );
        assert!(faults.is_empty(), "{faults:?}");
    }
}

#[test]
fn a_pods_search_list_is_read_if_it_begins_with_the_clusters() {
    let of = |spec: &str| {
        let text = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: a, namespace: b}}\nspec: {{{spec}}}");
        let (pod, faults): (Pod, _) = object!(&text, Pod);
        (pod.searches.map(|all| all.join(" ")), faults)
    };
    let searches = "dnsConfig: {searches: [one.example, two.example.], options: [{name: ndots, value: \"2\"}]}";
    for (spec, want) in [
        (String::new(), Some("")),
        ("dnsPolicy: ClusterFirst".to_owned(), Some("")),
        (format!("dnsPolicy: ClusterFirst, {searches}"), Some("one.example two.example.")),
        (format!("dnsPolicy: ClusterFirstWithHostNet, {searches}"), Some("one.example two.example.")),
        (format!("dnsPolicy: None, {searches}"), None),
        ("dnsPolicy: Default".to_owned(), None),
        ("dnsPolicy: Unheard".to_owned(), None),
    ] {
        assert_eq!(of(&spec), (want.map(ToOwned::to_owned), Vec::new()), "{spec}");
    }
    let (pod, faults) = of("dnsPolicy: 7");
    assert!(pod.is_none() && faults.len() == 1, "{faults:?}");
}

#[test]
fn kubectls_copy_is_dropped_and_long_annotations_are_cut() {
    let long = "x".repeat(300);
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: a, namespace: b, annotations: {{l: {long}, \
         kubectl.kubernetes.io/last-applied-configuration: y}}}}"
    );
    let (service, _): (Service, _) = object!(&text, Service);
    assert_eq!(service.annotations.iter().map(|(k, v)| (k, v.len())).collect::<Vec<_>>(), [("l", 254)]);
}

#[test]
fn json_of_an_api_server_decodes_alike() {
    let text = r#"{"metadata":{"name":"a","namespace":"b","labels":{"x":true}}}"#;
    let parsed: Item<'_> = serde_json::from_str(text).unwrap();
    assert!(matches!(item_as(Kind::Service, &parsed), Decoded::Broken(Some(_), problems) if problems.len() == 1));
}
