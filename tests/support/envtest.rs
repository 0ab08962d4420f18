//! A real `kube-apiserver` with its `etcd`, of the folder that `KUBEBUILDER_ASSETS` names: loopback only, certificates and
//! data made for the run, nothing left behind.
//!
//! ```text
//! envtest -> process    etcd and kube-apiserver: started, killed, started again
//!         -> rest       requests of an administrator
//!         -> object     what a real API server insists on that objects of tests leave out
//!         -> turn       which tests run, and how many at a time
//! ```
//!
//! What objects of tests have to heed, as nobody may decide it but the API server: uids and creation times are its own, every
//! Service that is not headless has a ClusterIP, and ClusterIPs are in [`RANGE`]. There are no controllers, so objects of
//! a Namespace outlive it.

mod object;
mod process;
mod rest;
mod turn;

#[allow(unused_imports, reason = "every test crate uses its own part of this")]
pub use turn::in_turn;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::apiserver::tls::{Identity, kubeconfig};
use super::objects::{load, text};
use super::{HERE, free_port};
use process::Process;
use rest::{Rest, Said};

/// What ClusterIPs are taken from: as wide as servers allow.
pub const RANGE: &str = "10.0.0.0/12";
/// Where the Service `default/kubernetes` is, so that it does not take 10.0.0.1 of tests.
const OUT_OF_THE_WAY: &str = "10.15.255.254";
/// How long a start may take on a machine that is busy.
const START: Duration = Duration::from_secs(120);
/// How long a write is tried again.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often is looked.
const LOOK: Duration = Duration::from_millis(50);
/// Another process may take a port that was free.
const STARTS: usize = 3;

const ADMIN: &str = "admin-of-the-test";
const SEGDNS: &str = "segdns-of-the-test";
/// Who has which token.
const TOKENS: &str = "admin-of-the-test,admin,1,system:masters
segdns-of-the-test,system:serviceaccount:kube-system:segdns,2,\"system:serviceaccounts,system:serviceaccounts:kube-system\"
";

/// An API server with its etcd; both are killed when it is dropped.
#[derive(Debug)]
pub struct Envtest {
    api: Mutex<Process>,
    etcd: Mutex<Process>,
    rest: Rest,
    address: SocketAddr,
    identity: Identity,
    assets: PathBuf,
    /// Namespaces that are known to be there.
    namespaces: Mutex<HashSet<String>>,
    minor: u32,
    /// After the processes: dropped after them.
    dir: TempDir,
}

/// Processes.
impl Envtest {
    /// A server with the custom resources and with what `deploy/rbac.yaml` holds; ClusterIPs are in [`RANGE`].
    ///
    /// # Panics
    /// It does not start; with the end of its log.
    #[must_use]
    pub fn start() -> Self {
        let server = Self::bare(RANGE);
        server.install_crds();
        server.apply_all(load(&rbac()));
        server
    }

    /// A server as it is after its very first start, but for the address of `default/kubernetes` if the range is [`RANGE`];
    /// ClusterIPs are in `range`.
    ///
    /// # Panics
    /// It does not start; with the end of its log.
    #[must_use]
    pub fn bare(range: &str) -> Self {
        let mut failures = Vec::new();
        for _ in 0..STARTS {
            match Self::try_start(range) {
                Ok(server) => {
                    if range == RANGE {
                        server.move_kubernetes();
                    }
                    return server;
                }
                Err(failure) if failure.contains("address already in use") => failures.push(failure),
                Err(failure) => panic!("no API server: {failure}"),
            }
        }
        panic!("no API server: {}", failures.join("\n"));
    }

    fn try_start(range: &str) -> Result<Self, String> {
        let assets = turn::assets().expect("only tests that are in turn get here");
        let mut dir = tempfile::Builder::new().prefix("segdns-envtest-").tempdir().map_err(|e| e.to_string())?;
        dir.disable_cleanup(std::env::var_os("SEGDNS_KEEP").is_some());
        let (address, identity) = (SocketAddr::new(HERE, free_port()), Identity::new());
        write_files(dir.path(), &identity).map_err(|e| e.to_string())?;
        let (client, peer) = (format!("http://{HERE}:{}", free_port()), format!("http://{HERE}:{}", free_port()));
        let process = |name: &str, args: Vec<String>| {
            Mutex::new(Process::new(assets.join(name), args, dir.path().join(format!("{name}.log"))))
        };
        let etcd = process("etcd", etcd_args(dir.path(), &client, &peer));
        let api = process("kube-apiserver", api_args(dir.path(), &client, address, range));
        let url = format!("https://{address}");
        let admin = kubeconfig(&url, &identity.pem(), &format!("token: {ADMIN}"));
        std::fs::write(dir.path().join("admin"), &admin).map_err(|e| e.to_string())?;
        let rest = Rest::new(&admin);
        let namespaces = Mutex::default();
        let mut server = Self { api, etcd, rest, address, identity, assets, namespaces, minor: 0, dir };
        server.start_etcd();
        server.start_api()?;
        let minor = server.rest.get("/version").body["minor"].as_str().map(|m| m.trim_end_matches('+').parse());
        server.minor = minor.and_then(Result::ok).ok_or("it does not tell its version")?;
        Ok(server)
    }

    /// Ends the API server with SIGKILL.
    pub fn kill_api(&self) {
        lock(&self.api).kill();
    }

    /// Starts it again, where it was, and waits until it is ready.
    ///
    /// # Errors
    /// It is not; with the end of its log.
    pub fn start_api(&self) -> Result<(), String> {
        lock(&self.api).start().map_err(|e| e.to_string())?;
        let end = Instant::now() + START;
        loop {
            let said = self.rest.get("/readyz");
            if said.ok() {
                return Ok(());
            }
            let (mut api, mut etcd) = (lock(&self.api), lock(&self.etcd));
            let ended = api.ended().or_else(|| etcd.ended());
            if ended.is_some() || Instant::now() >= end {
                return Err(format!("{ended:?}, /readyz: {said:?}\n{}\n{}", etcd.tail(), api.tail()));
            }
            drop((api, etcd));
            std::thread::sleep(LOOK);
        }
    }

    /// Ends the API server with SIGKILL, and starts it again, where it was.
    ///
    /// # Panics
    /// It does not start; with the end of its log.
    pub fn restart(&self) {
        self.kill_api();
        self.start_api().unwrap_or_else(|failure| panic!("no API server again: {failure}"));
    }

    /// Ends etcd with SIGKILL.
    pub fn kill_etcd(&self) {
        lock(&self.etcd).kill();
    }

    /// Starts it, where it was.
    ///
    /// # Panics
    /// There is no such program.
    pub fn start_etcd(&self) {
        lock(&self.etcd).start().expect("a process");
    }

    /// Its minor version: 20 of 1.20.
    #[must_use]
    pub fn minor(&self) -> u32 {
        self.minor
    }

    /// A kubeconfig of the account of `deploy/rbac.yaml`.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        kubeconfig(&format!("https://{}", self.address), &self.identity.pem(), &format!("token: {SEGDNS}"))
    }

    /// What kubectl prints, with the rights of an administrator.
    ///
    /// # Panics
    /// It fails; with what it says.
    pub fn kubectl(&self, args: &[&str]) -> String {
        let mut command = Command::new(self.assets.join("kubectl"));
        command.arg("--kubeconfig").arg(self.dir.path().join("admin"));
        command.arg("--cache-dir").arg(self.dir.path().join("kubectl")).args(args);
        let output = command.output().expect("kubectl runs");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {}: {err}", args.join(" "));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Objects.
impl Envtest {
    /// Creates an object, or replaces it, its status included. Its namespace is created if it is missing. What cannot be
    /// changed of an object, as a ClusterIP, is changed by a new one in its place.
    ///
    /// # Panics
    /// The server does not take it; with what it says.
    pub fn apply(&self, object: Value) {
        let (object, status) = object::prepare(object, self.minor);
        let (kind, name) = (text(&object, "/kind"), text(&object, "/metadata/name"));
        let namespace = text(&object, "/metadata/namespace");
        if object::in_namespace(kind) {
            self.need_namespace(namespace);
        } else if kind == "Namespace" {
            lock(&self.namespaces).insert(name.to_owned());
        }
        let all = object::collection(text(&object, "/apiVersion"), kind, namespace);
        let one = format!("{all}/{name}");
        let mut written = self.insist(&format!("{kind} {namespace}/{name}"), || self.write(&all, &one, &object));
        if let Some(status) = status {
            written["status"] = status;
            // Nobody else writes here, so the version is that of the moment before.
            self.insist(&format!("status of {kind} {namespace}/{name}"), || {
                self.rest.put(&format!("{one}/status"), &written)
            });
        }
    }

    /// Applies them in order.
    ///
    /// # Panics
    /// As [`Envtest::apply`].
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) {
        objects.into_iter().for_each(|object| self.apply(object));
    }

    /// Deletes an object; the namespace is empty for what has none. A Namespace goes without its objects.
    ///
    /// # Panics
    /// It is not there.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) {
        let api_version = object::served(api_version, self.minor);
        let path = format!("{}/{name}", object::collection(api_version, kind, namespace));
        assert!(self.rest.get(&path).code != 404, "no {kind} {namespace}/{name} to be deleted");
        self.insist(&format!("{kind} {namespace}/{name} deleted"), || gone(self.rest.delete(&path)));
        if kind == "Namespace" {
            lock(&self.namespaces).remove(name);
            // A controller would do so after it has deleted the objects; there is none.
            self.insist(&format!("Namespace {name} finalized"), || {
                let mut left = self.rest.get(&path);
                if left.ok() {
                    left.body["spec"]["finalizers"] = json!([]);
                    left = self.rest.put(&format!("{path}/finalize"), &left.body);
                }
                gone(left)
            });
        }
    }

    /// Makes a namespaced custom resource known, and waits until it is served.
    ///
    /// # Panics
    /// It is not.
    pub fn install_crd(&self, group: &str, versions: &[&str], plural: &str, kind: &str) {
        self.apply(object::crd(group, versions, plural, kind));
        for version in versions {
            self.insist(&format!("{plural}.{group} served"), || {
                self.rest.get(&format!("/apis/{group}/{version}/{plural}"))
            });
        }
    }

    /// The custom resources that segdns reads.
    ///
    /// # Panics
    /// As [`Envtest::install_crd`].
    pub fn install_crds(&self) {
        self.install_crd("admin.solo.io", &["v1alpha1"], "segments", "Segment");
        self.install_crd("networking.istio.io", &["v1", "v1beta1"], "serviceentries", "ServiceEntry");
        self.install_crd("networking.istio.io", &["v1", "v1beta1"], "workloadentries", "WorkloadEntry");
    }

    /// Deletes a custom resource with its objects, and waits until it is gone.
    ///
    /// # Panics
    /// It stays.
    pub fn remove_crd(&self, group: &str, plural: &str) {
        let name = format!("{plural}.{group}");
        self.delete("apiextensions.k8s.io/v1", "CustomResourceDefinition", "", &name);
        let all = object::collection("apiextensions.k8s.io/v1", "CustomResourceDefinition", "");
        self.insist(&format!("{name} gone"), || match gone(self.rest.get(&format!("{all}/{name}"))) {
            said if said.body.is_null() => said,
            there => Said { code: 409, ..there },
        });
    }

    fn write(&self, all: &str, one: &str, object: &Value) -> Said {
        let old = self.rest.get(one);
        match old.code {
            404 => return self.rest.post(all, object),
            200 => {}
            _ => return old,
        }
        let mut next = object.clone();
        object::succeed(&mut next, &old.body);
        let said = self.rest.put(one, &next);
        if said.code != 422 {
            return said;
        }
        let said = gone(self.rest.delete(one));
        if said.ok() { self.rest.post(all, object) } else { said }
    }

    /// What the server says once it does not say "later" any more.
    fn insist(&self, what: &str, request: impl Fn() -> Said) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let said = request();
            if said.ok() {
                return said.body;
            }
            assert!(said.passes() && Instant::now() < end, "{what}: {said:?}\n{}", lock(&self.api).tail());
            std::thread::sleep(LOOK);
        }
    }

    fn need_namespace(&self, name: &str) {
        if !lock(&self.namespaces).insert(name.to_owned()) {
            return;
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        self.insist(&format!("Namespace {name}"), || {
            let said = self.rest.get(&format!("/api/v1/namespaces/{name}"));
            if said.code == 404 { self.rest.post("/api/v1/namespaces", &object) } else { said }
        });
    }

    /// The server gives its own Service the first address of the range, and makes it again if it is deleted.
    fn move_kubernetes(&self) {
        let path = "/api/v1/namespaces/default/services/kubernetes";
        self.insist("Service default/kubernetes", || {
            let mut said = self.rest.get(path);
            if !said.ok() || text(&said.body, "/spec/clusterIP") == OUT_OF_THE_WAY {
                return said;
            }
            let mut moved = std::mem::take(&mut said.body);
            moved["metadata"] =
                json!({"name": "kubernetes", "namespace": "default", "labels": moved["metadata"]["labels"]});
            moved["spec"]["clusterIP"] = OUT_OF_THE_WAY.into();
            moved["spec"]["clusterIPs"] = json!([OUT_OF_THE_WAY]);
            self.rest.delete(path);
            self.rest.post("/api/v1/namespaces/default/services", &moved)
        });
    }
}

/// `deploy/rbac.yaml`
#[must_use]
pub fn rbac() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/rbac.yaml")
}

/// What is not there has been deleted.
fn gone(said: Said) -> Said {
    if said.code == 404 { Said { code: 200, body: Value::Null } } else { said }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn write_files(dir: &Path, identity: &Identity) -> std::io::Result<()> {
    std::fs::write(dir.join("tls.crt"), identity.leaf_pem())?;
    std::fs::write(dir.join("tls.key"), identity.key_pem())?;
    std::fs::write(dir.join("tokens.csv"), TOKENS)
}

fn etcd_args(dir: &Path, client: &str, peer: &str) -> Vec<String> {
    let data = dir.join("etcd");
    vec![
        format!("--data-dir={}", data.display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        // It has to outlive its own end, not the machine's.
        "--unsafe-no-fsync=true".to_owned(),
    ]
}

/// Flags that every version from 1.20 on has.
fn api_args(dir: &Path, etcd: &str, address: SocketAddr, range: &str) -> Vec<String> {
    let file = |name: &str| dir.join(name).display().to_string();
    vec![
        format!("--etcd-servers={etcd}"),
        format!("--bind-address={}", address.ip()),
        format!("--secure-port={}", address.port()),
        // Without it the server looks for a network, which may not be there. Nobody is told of this address.
        "--advertise-address=192.0.2.1".to_owned(),
        "--endpoint-reconciler-type=none".to_owned(),
        format!("--tls-cert-file={}", file("tls.crt")),
        format!("--tls-private-key-file={}", file("tls.key")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        format!("--service-account-signing-key-file={}", file("tls.key")),
        // A certificate holds a public key, too; of this private one's form servers read none.
        format!("--service-account-key-file={}", file("tls.crt")),
        "--authorization-mode=RBAC".to_owned(),
        "--disable-admission-plugins=ServiceAccount".to_owned(),
        format!("--service-cluster-ip-range={range}"),
        "--shutdown-delay-duration=0s".to_owned(),
    ]
}
