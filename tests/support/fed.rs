//! A server under test that is fed by an API server: one inside the test, or a real one.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::apiserver::ApiServer;
use super::client::Client;
use super::envtest::Envtest;
use super::objects::{self, namespace, pod, segment, service};
use super::server::Server;
use super::upstream::Upstream;
use super::world::World;
use super::{HERE, UPSTREAM, free_port};

/// How long something that happens at once may take on a machine that is busy.
pub const SOON: Duration = Duration::from_secs(10);

/// A pod of namespace shop, which is of the cluster's segment.
pub const SHOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 1));
/// A pod of namespace far, which is of another segment.
pub const FAR: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 41, 0, 2));

/// NXDOMAIN
pub const NXDOMAIN: u8 = 3;
/// SERVFAIL
pub const SERVFAIL: u8 = 2;

/// Where API servers come from.
#[derive(Clone, Copy, Debug)]
pub enum Lab {
    /// Inside the test: with every fault at hand.
    Double,
    /// The programs of `KUBEBUILDER_ASSETS`: see [`super::envtest`] for what objects have to heed there.
    Real,
}

/// An API server of one kind or the other.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a test has a handful of them, and none is moved often")]
pub enum Api {
    /// Inside the test.
    Double(ApiServer),
    /// A real one.
    Real(Envtest),
}

/// The local cluster's API server, and what a server that watches it needs.
#[derive(Debug)]
pub struct Fed {
    /// The local cluster's API server.
    pub api: Api,
    /// Where the server under test answers.
    pub at: SocketAddr,
    /// What it forwards to.
    pub upstream: Upstream,
    /// Its configuration.
    pub config: Value,
    /// Where its kubeconfig and its saved snapshot are.
    pub dir: TempDir,
}

/// Defines tests that are to hold with every kind of API server: each is a function of a [`Lab`]. Without a real one, those
/// of module `real` say on standard error that they are skipped.
#[macro_export]
macro_rules! in_every_lab {
    ($($name:ident),* $(,)?) => {
        mod double {
            $(#[test] fn $name() { super::$name($crate::support::fed::Lab::Double); })*
        }
        mod real {
            use $crate::support::{envtest, fed::Lab};
            $(#[test] fn $name() { envtest::in_turn(stringify!($name), || super::$name(Lab::Real)); })*
        }
    };
}

impl Lab {
    /// An API server without objects that has the custom resources.
    #[must_use]
    pub fn api_server(self) -> Api {
        match self {
            Self::Double => {
                let api = ApiServer::start();
                api.install_crd("admin.solo.io", &["v1alpha1"], "segments", "Segment");
                api.install_crd("networking.istio.io", &["v1", "v1beta1"], "serviceentries", "ServiceEntry");
                api.install_crd("networking.istio.io", &["v1", "v1beta1"], "workloadentries", "WorkloadEntry");
                Api::Double(api)
            }
            Self::Real => Api::Real(Envtest::start()),
        }
    }
}

impl Api {
    /// Creates an object, or replaces it, its status included.
    pub fn apply(&self, object: Value) {
        match self {
            Self::Double(api) => drop(api.apply(object)),
            Self::Real(api) => api.apply(object),
        }
    }

    /// Applies them in order.
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) {
        for object in objects {
            self.apply(object);
        }
    }

    /// Takes an object away.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        match self {
            Self::Double(api) => drop(api.delete(api_version, kind, namespace, name)),
            Self::Real(api) => api.delete(api_version, kind, namespace, name),
        }
    }

    /// A kubeconfig that may do what `deploy/rbac.yaml` grants.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        match self {
            Self::Double(api) => api.kubeconfig(),
            Self::Real(api) => api.kubeconfig(),
        }
    }

    /// The double, with its faults.
    ///
    /// # Panics
    /// It is another one.
    #[must_use]
    pub fn double(&self) -> &ApiServer {
        match self {
            Self::Double(api) => api,
            Self::Real(_) => panic!("a real API server has no faults to be switched"),
        }
    }

    /// The real one, with its processes.
    ///
    /// # Panics
    /// It is another one.
    #[must_use]
    pub fn real(&self) -> &Envtest {
        match self {
            Self::Real(api) => api,
            Self::Double(_) => panic!("no real API server"),
        }
    }
}

/// What a cluster of segment acme has from the start: Segments acme and other, and namespaces shop and far (of other).
#[must_use]
pub fn base() -> Vec<Value> {
    vec![
        segment("acme", "mesh.acme"),
        segment("other", "mesh.other"),
        namespace("istio-system", Some("acme")),
        namespace("shop", None),
        namespace("far", Some("other")),
    ]
}

/// A Secret that names peers, as `istioctl create-remote-secret` makes it.
#[must_use]
pub fn secret(name: &str, peers: &[(&str, &str)]) -> Value {
    let data: BTreeMap<&str, String> = peers.iter().map(|(cluster, text)| (*cluster, STANDARD.encode(text))).collect();
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": data,
        "metadata": {"name": name, "namespace": "istio-system", "labels": {"istio/multiCluster": "true"}},
    })
}

impl Fed {
    /// A cluster with [`base`], Service shop/web of scope segment at 10.0.0.1, and a pod of each namespace. `extra` is laid
    /// over the configuration.
    #[must_use]
    pub fn new(lab: Lab, extra: &Value) -> Self {
        let fed = Self::empty(lab, extra);
        fed.api.apply_all(base());
        fed.api.apply(service("shop", "web", "segment", "10.0.0.1"));
        fed.api.apply_all([pod("shop", "a", SHOP), pod("far", "b", FAR)]);
        fed
    }

    /// A cluster without objects.
    #[must_use]
    pub fn empty(lab: Lab, extra: &Value) -> Self {
        Self::of(lab.api_server(), extra)
    }

    /// The cluster of this API server.
    #[must_use]
    pub fn of(api: Api, extra: &Value) -> Self {
        let upstream = Upstream::start(World::outside(), SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
        let at = SocketAddr::new(HERE, free_port());
        let dir = tempfile::tempdir().expect("a directory");
        let mut config = json!({
            "listen": [at],
            "admin": SocketAddr::new(HERE, free_port()),
            "cluster": {"name": "here"},
            "sources": {"kubernetes": {"node": "node1"}, "snapshot": dir.path().join("saved")},
            "answers": {"grace": "0s"},
            "forward": [{"zone": ".", "upstreams": [upstream.address()]}],
            "drain": {"lameduck": "0s", "deadline": "2s"},
        });
        objects::merge(&mut config, extra);
        let fed = Self { api, at, upstream, config, dir };
        std::fs::write(fed.kubeconfig(), fed.api.kubeconfig()).expect("a kubeconfig");
        fed
    }

    /// The server's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    /// Starts a server and waits until it is ready.
    #[must_use]
    pub fn start(&self) -> Server {
        let mut server = self.spawn();
        server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        server
    }

    /// Starts a server.
    #[must_use]
    pub fn spawn(&self) -> Server {
        Server::spawn_fed(&self.config, Some(&self.kubeconfig())).expect("a process")
    }

    /// Names `api` as a peer, in a Secret of its own.
    pub fn join(&self, cluster: &str, api: &Api) {
        self.api.apply(secret(&format!("peer-{cluster}"), &[(cluster, &api.kubeconfig())]));
    }

    /// Takes the Secret of a peer away.
    pub fn part(&self, cluster: &str) {
        self.api.delete("v1", "Secret", "istio-system", &format!("peer-{cluster}"));
    }

    /// Response code and addresses, in order.
    #[must_use]
    pub fn ask(&self, from: IpAddr, name: &str) -> (u8, Vec<String>) {
        Client::default().addresses(from, self.at, name)
    }

    /// Waits until this is answered.
    pub fn until(&self, from: IpAddr, name: &str, code: u8, addresses: &[&str]) {
        self.until_within(SOON, from, name, code, addresses);
    }

    /// Waits so long until this is answered.
    pub fn until_within(&self, limit: Duration, from: IpAddr, name: &str, code: u8, addresses: &[&str]) {
        Client::default().until(from, self.at, name, (code, addresses), limit);
    }

    /// This is answered now.
    pub fn is(&self, from: IpAddr, name: &str, code: u8, addresses: &[&str]) {
        let got = self.ask(from, name);
        let got = (got.0, got.1.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(got, (code, addresses.to_vec()), "{name} from {from}");
    }
}
