//! What the pods promise: to the node, to the scheduler, to an upgrade, and to whoever audits them.

use std::time::Duration;

use segdns::config::Config;
use serde_json::{Value, json};

use crate::built::{COMPONENTS, Kustomize, OVERLAYS};
use crate::support::objects::{list, load, text};
use crate::support::{binary, run};
use crate::{deploy, only};

/// The DaemonSet of the base as its file has it, and those of the placements.
pub fn daemonsets() -> Vec<(&'static str, Value)> {
    let mut all = vec![("base", only(&load(&deploy().join("base/daemonset.yaml")), "DaemonSet").clone())];
    if let Some(kustomize) = Kustomize::find(COMPONENTS) {
        all.extend(OVERLAYS.map(|dir| (dir, only(&kustomize.build(dir), "DaemonSet").clone())));
    }
    all
}

/// A pod's spec.
pub fn spec(daemonset: &Value) -> &Value {
    &daemonset["spec"]["template"]["spec"]
}

/// All containers of a pod, those of its start too.
pub fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    list(spec, "/initContainers").iter().chain(list(spec, "/containers"))
}

/// The one with this name.
pub fn container<'a>(spec: &'a Value, name: &str) -> &'a Value {
    containers(spec).find(|c| c["name"] == name).unwrap_or_else(|| panic!("no container {name}"))
}

/// What its command is, as text.
pub fn words(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The configuration of the base, as a node with these variables reads it.
pub fn config(text: &str, env: &[(&str, &str)]) -> Config {
    let env = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
    Config::parse(text, "segdns.yaml", env).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn an_upgrade_leaves_no_node_without_dns() {
    for (name, daemonset) in daemonsets() {
        let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}});
        assert_eq!(daemonset["spec"]["updateStrategy"], strategy, "{name}");
        let spec = spec(&daemonset);
        // As a hostPort a declared port would keep the new pod from the node for as long as the old one has it.
        assert!(spec["hostNetwork"] == true && containers(spec).all(|c| c["ports"].is_null()), "{name}");
        let text = std::fs::read_to_string(deploy().join("base/segdns.yaml")).expect("a configuration");
        let drain = config(&text, ENV).drain;
        let grace = Duration::from_secs(spec["terminationGracePeriodSeconds"].as_u64().unwrap_or(30));
        assert!(grace >= drain.deadline + Duration::from_secs(5), "{name}: {grace:?} for {drain:?}");
    }
}

/// What kubelet sets.
const ENV: &[(&str, &str)] =
    &[("NODE_NAME", "node1"), ("SEGDNS_ADMIN", "0.0.0.0:9153"), ("KUBE_DNS_UPSTREAM_SERVICE_HOST", "10.96.0.11")];

#[test]
fn the_configuration_is_good_on_every_node_of_either_family() {
    let text = std::fs::read_to_string(deploy().join("base/segdns.yaml")).expect("a configuration");
    for upstream in ["10.96.0.11", "fd00:10:96::b"] {
        let mut env = ENV.to_vec();
        env.retain(|(name, _)| *name != "KUBE_DNS_UPSTREAM_SERVICE_HOST");
        env.push(("KUBE_DNS_UPSTREAM_SERVICE_HOST", upstream));
        let config = config(&text, &env);
        config.validate().and_then(|()| config.validate_to_serve()).unwrap_or_else(|e| panic!("{upstream}: {e}"));
    }
}

#[test]
fn a_pod_goes_to_every_linux_node_first_and_stays() {
    for (name, daemonset) in daemonsets() {
        let spec = spec(&daemonset);
        assert_eq!(text(spec, "/priorityClassName"), "system-node-critical", "{name}");
        assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]), "{name}");
        assert_eq!(spec["nodeSelector"], json!({"kubernetes.io/os": "linux"}), "{name}");
        // It must not need itself, nor what it stands before.
        assert_eq!(text(spec, "/dnsPolicy"), "Default", "{name}");
    }
}

#[test]
fn every_container_has_its_share_and_no_processor_limit() {
    for (name, daemonset) in daemonsets() {
        for container in containers(spec(&daemonset)) {
            let resources = &container["resources"];
            for at in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
                assert!(!text(resources, at).is_empty(), "{name}: {} has no {at}", container["name"]);
            }
            assert!(resources["limits"]["cpu"].is_null(), "{name}: {}", container["name"]);
        }
    }
}

#[test]
fn a_container_may_do_what_it_needs_and_nothing_else() {
    for (name, daemonset) in daemonsets() {
        let spec = spec(&daemonset);
        let pod = &spec["securityContext"];
        assert_eq!(pod["seccompProfile"], json!({"type": "RuntimeDefault"}), "{name}");
        assert!(pod["runAsNonRoot"] == true && pod["runAsUser"] == 65532, "{name}");
        for container in containers(spec) {
            let (own, serves) = (&container["securityContext"], container["name"] == "segdns");
            // The image's file has NET_BIND_SERVICE, and the kernel starts none whose capabilities it may not have.
            let add = if serves { json!(["NET_BIND_SERVICE"]) } else { json!(["NET_ADMIN", "NET_BIND_SERVICE"]) };
            assert_eq!(own["capabilities"], json!({"drop": ["ALL"], "add": add}), "{name}: {}", container["name"]);
            assert!(own["allowPrivilegeEscalation"] == false && own["readOnlyRootFilesystem"] == true, "{name}");
            assert_eq!(own["runAsUser"].is_null(), serves, "{name}: {}", container["name"]);
            assert!(own["privileged"].is_null(), "{name}: {}", container["name"]);
        }
    }
}

#[test]
fn what_is_mounted_is_there_and_what_is_written_to_is_not_the_node() {
    for (name, daemonset) in daemonsets() {
        let spec = spec(&daemonset);
        for container in containers(spec) {
            for mount in list(container, "/volumeMounts") {
                let volume = list(spec, "/volumes").iter().find(|v| v["name"] == mount["name"]);
                let volume = volume.unwrap_or_else(|| panic!("{name}: no volume for {mount}"));
                let read_only = mount["readOnly"] == true;
                assert!(
                    if read_only { volume["configMap"].is_object() } else { volume["emptyDir"].is_object() },
                    "{volume}"
                );
            }
        }
    }
}

#[test]
fn probes_ask_the_socket_of_their_own_pod() {
    for (name, daemonset) in daemonsets() {
        let container = container(spec(&daemonset), "segdns");
        for (probe, what) in [("startupProbe", "live"), ("livenessProbe", "live"), ("readinessProbe", "ready")] {
            let probe = &container[probe];
            let want = ["/segdns", "probe", what, "--socket=/run/segdns/admin.sock"];
            assert_eq!(words(&probe["exec"]["command"]), want, "{name}");
            // A probe has 2 s for its answer, besides the start of its process.
            assert!(probe["timeoutSeconds"].as_u64() >= Some(3), "{name}: {probe}");
        }
        assert!(list(container, "/volumeMounts").iter().any(|m| m["mountPath"] == "/run/segdns"), "{name}");
    }
    let file = std::fs::read_to_string(deploy().join("base/segdns.yaml")).expect("a configuration");
    assert!(file.lines().any(|line| line == "adminSocket: /run/segdns/admin.sock"), "{file}");
}

#[test]
fn every_command_is_one_that_the_binary_takes() {
    let mut all: Vec<Vec<String>> = Vec::new();
    let teardown = only(&load(&deploy().join("teardown/daemonset.yaml")), "DaemonSet").clone();
    for (_, daemonset) in daemonsets().into_iter().chain([("teardown", teardown)]) {
        for container in containers(spec(&daemonset)).filter(|c| text(c, "/image").starts_with("segdns:")) {
            let probes =
                ["startupProbe", "livenessProbe", "readinessProbe"].map(|p| words(&container[p]["exec"]["command"]));
            all.extend(probes.into_iter().chain([words(&container["command"])]).filter(|words| !words.is_empty()));
        }
    }
    assert!(all.len() >= 6, "{all:?}");
    for words in all {
        assert_eq!(words[0], "/segdns");
        let mut args: Vec<String> =
            words[1..].iter().map(|word| word.replace("$(KUBE_DNS_SERVICE_HOST)", "10.96.0.10")).collect();
        // It is judged up to there, and nothing is done.
        args.push("--help".to_owned());
        let ran = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(ran.status, 0, "{words:?}: {}", ran.err);
    }
}

#[test]
fn the_images_tag_is_the_version() {
    let version = format!("segdns {}", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--version"]).out.trim(), version, "{}", binary().display());
    let image = version.replace(' ', ":");
    for (name, daemonset) in daemonsets() {
        assert!(containers(spec(&daemonset)).all(|c| c["image"] == *image), "{name}: not {image}");
    }
    let teardown = load(&deploy().join("teardown/daemonset.yaml"));
    assert_eq!(container(spec(only(&teardown, "DaemonSet")), "teardown")["image"], *image);
}
