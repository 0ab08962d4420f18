//! A Kubernetes API server inside the test process, over TLS on loopback: what segdns lists and watches, with everything
//! that can go wrong there. `tests/apiserver.rs` holds it against exchanges recorded from a real one.
//!
//! ```text
//! serve -> request, status        connections, and which answer a request gets
//!       -> list, watch -> select  the answers that carry objects
//!       -> write                  the writes of clients
//!       -> store -> object        objects in their serialized form, and the history of changes
//!          store -> resource      what there is, and discovery
//! fault, observe                  what a test switches, and what it sees
//! ```
//!
//! A test is a plain function: the server runs on threads of its own, and every method returns when it is done.

mod fault;
mod list;
mod object;
mod observe;
mod request;
mod resource;
mod select;
mod serve;
mod status;
mod store;
pub mod tls;
mod watch;
mod write;

#[allow(unused_imports, reason = "every test crate uses its own part of this")]
mod api {
    pub use super::fault::{Streaming, Times};
    pub use super::observe::{Observed, Request};
    pub use super::request::Verb;
    pub use super::status::Failure;
    pub use super::store::Rule;
}
pub use api::*;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use resource::Resource;
use serve::Shared;
use tls::Identity;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 256;

/// The server; it stops when dropped.
#[derive(Debug)]
pub struct ApiServer {
    shared: Arc<Shared>,
    identity: Identity,
    address: SocketAddr,
    listening: Mutex<Option<JoinHandle<()>>>,
    /// Bound and never listening: it keeps the port while the server is stopped, and connections to it are refused.
    _reserved: TcpSocket,
    /// Taken when dropped.
    runtime: Option<Runtime>,
}

impl ApiServer {
    /// Starts a server without objects, on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// There is no port or no thread to be had.
    #[must_use]
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("apiserver")
            .enable_all()
            .build()
            .expect("a runtime");
        let reserved = bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = reserved.local_addr().expect("it is bound");
        let server = Self {
            shared: Arc::new(Shared::new(address.to_string())),
            identity: Identity::new(),
            address,
            listening: Mutex::default(),
            _reserved: reserved,
            runtime: Some(runtime),
        };
        server.open_port();
        server
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificate of its authority, DER.
    #[must_use]
    pub fn ca(&self) -> &[u8] {
        &self.identity.ca
    }

    /// A kubeconfig with the token of this moment.
    #[must_use]
    pub fn kubeconfig(&self) -> String {
        self.kubeconfig_of(&format!("token: {}", self.token()))
    }

    /// A kubeconfig that names a file with the token.
    #[must_use]
    pub fn kubeconfig_with_token_file(&self, path: &Path) -> String {
        self.kubeconfig_of(&format!("tokenFile: {}", path.display()))
    }

    fn kubeconfig_of(&self, user: &str) -> String {
        tls::kubeconfig(&format!("https://{}", self.address), &self.identity.pem(), user)
    }

    /// The bearer token that it accepts.
    #[must_use]
    pub fn token(&self) -> String {
        self.shared.lock().access.token.clone()
    }

    /// Accepts another token, and no longer the former one. Streams that are open stay open.
    pub fn set_token(&self, token: &str) {
        self.shared.change(|state| token.clone_into(&mut state.access.token));
    }

    /// What the messages call the client; `nobody` at first.
    pub fn set_user(&self, user: &str) {
        self.shared.change(|state| user.clone_into(&mut state.access.user));
    }

    /// Allows what these rules say and nothing else; `None` allows everything, as at first.
    pub fn set_rbac(&self, rules: Option<Vec<Rule>>) {
        self.shared.change(|state| state.access.rules = rules);
    }

    /// Puts `managedFields` of about 500 octets into objects that are written from now on.
    pub fn set_managed_fields(&self, on: bool) {
        self.shared.change(|state| state.managed_fields = on);
    }

    fn open_port(&self) {
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(listening.is_none(), "it listens already");
        let runtime = self.runtime();
        let _context = runtime.enter();
        let listener = bind(self.address).listen(BACKLOG).expect("the port is ours");
        let acceptor = TlsAcceptor::from(Arc::clone(&self.identity.config));
        *listening = Some(runtime.spawn(serve::accept(Arc::clone(&self.shared), listener, acceptor)));
    }

    fn close_port(&self) {
        let task = self.listening.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
            // Only when the task has ended is the socket closed.
            let _ = self.runtime().block_on(task);
        }
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is there until the drop")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Objects. Every write returns the resourceVersion that it made; clients are told before anything else happens there.
impl ApiServer {
    /// Creates or replaces an object, given as in a manifest. It keeps the uid and creationTimestamp that it carries, or
    /// else those of the object that it replaces.
    ///
    /// # Panics
    /// It has no name, or its kind is unknown: a CRD is missing.
    pub fn apply(&self, object: Value) -> u64 {
        self.shared.change(|state| state.put(object))
    }

    /// As [`ApiServer::apply`] for many at once, which no client sees half done; the last version.
    ///
    /// # Panics
    /// As [`ApiServer::apply`].
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) -> u64 {
        self.shared.change(|state| {
            objects.into_iter().for_each(|object| {
                state.put(object);
            });
            state.version
        })
    }

    /// Changes an object in place.
    ///
    /// # Panics
    /// It is not there.
    pub fn update(
        &self,
        api_version: &str,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) -> u64 {
        let mut object = self.get(api_version, kind, namespace, name).expect("an object to be updated");
        change(&mut object);
        self.apply(object)
    }

    /// Deletes an object; the namespace is empty for what has none.
    ///
    /// # Panics
    /// It is not there.
    pub fn delete(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> u64 {
        let place = (namespace.to_owned(), name.to_owned());
        let version = self.shared.change(|state| {
            let key = state.key_of(api_version, kind)?;
            state.remove(&key, &place)
        });
        version.unwrap_or_else(|| panic!("no {kind} {namespace}/{name} to be deleted"))
    }

    /// An object as GET gives it.
    #[must_use]
    pub fn get(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.shared.lock();
        let table = state.table(&state.key_of(api_version, kind)?)?;
        let mut object = table.objects.get(&(namespace.to_owned(), name.to_owned()))?.value();
        object.insert("apiVersion".to_owned(), api_version.into());
        object.insert("kind".to_owned(), kind.into());
        Some(object.into())
    }

    /// All objects, with their types.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Value> {
        let state = self.shared.lock();
        let tables = state.tables.values().filter(|table| !table.gone);
        tables
            .flat_map(|table| {
                let resource = &table.resource;
                table.objects.values().map(|object| {
                    let mut object = object.value();
                    object.insert("apiVersion".to_owned(), resource.api_version(&resource.versions[0]).into());
                    object.insert("kind".to_owned(), resource.kind.as_str().into());
                    object.into()
                })
            })
            .collect()
    }

    /// The newest resourceVersion.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.shared.lock().version
    }

    /// Makes a namespaced custom resource known, in all these versions; their objects are the same. Calling it again
    /// changes the versions.
    pub fn install_crd(&self, group: &str, versions: &[&str], plural: &str, kind: &str) {
        let resource = Resource {
            group: group.to_owned(),
            versions: versions.iter().map(|&v| v.to_owned()).collect(),
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            namespaced: true,
            custom: true,
            zero: "",
        };
        self.shared.change(|state| state.install(resource));
    }

    /// Removes a custom resource: all its objects are deleted, its streams end, and its paths are 404.
    pub fn remove_crd(&self, group: &str, plural: &str) {
        self.shared.change(|state| state.uninstall(&(group.to_owned(), plural.to_owned())));
    }
}

/// A socket at an address that other sockets of ours may share, as long as only one listens.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of every socket");
    socket.bind(address).expect("a port");
    socket
}
