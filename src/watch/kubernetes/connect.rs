//! From a kubeconfig, or the pod's own account, to a client.
//!
//! The local cluster's kubeconfig is the operator's own file, and counts as `kubectl` counts it. A peer's comes from a
//! Secret, so from whoever may write Secrets: of it only plain data is used, see [`PeerConfig`].

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::config::{AuthInfo, Cluster, Config, Context, Kubeconfig, KubeconfigError};
use kube::config::{NamedAuthInfo, NamedCluster, NamedContext};
use thiserror::Error;
use tokio::time::Instant;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Followers of one cluster fail together; one new client is enough for all of them.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{what}; {remedy}")]
pub struct ConnectError {
    /// What is wrong, e.g. `users[east].user.exec is set`.
    pub what: String,
    /// What to change.
    pub remedy: String,
}

impl ConnectError {
    fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }
}

/// Which cluster a kubeconfig means. Another token or client certificate is the same cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    server: Box<str>,
    authority: Box<str>,
}

impl Identity {
    /// The API server's URL.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }
}

/// A peer's kubeconfig, checked.
///
/// Whoever may write the Secret must not thereby run programs on this node (`exec`, `auth-provider`), read its files and
/// send them elsewhere (`tokenFile` and other paths), or make it believe anyone (`insecure-skip-tls-verify`).
#[derive(Clone)]
pub struct PeerConfig {
    cluster: Cluster,
    user: AuthInfo,
    identity: Identity,
}

impl PeerConfig {
    /// Reads and checks the text of a kubeconfig; its `current-context` counts.
    ///
    /// # Errors
    /// What is wrong with it. No error quotes from the text: it holds credentials.
    pub fn parse(text: &str) -> Result<Self, ConnectError> {
        let config = Kubeconfig::from_yaml(text).map_err(|error| unreadable(&error))?;
        let context = context(&config)?;
        let cluster = cluster(&config, context)?;
        let user = user(&config, context)?;
        let identity = Identity {
            server: cluster.server.as_deref().unwrap_or_default().trim_end_matches('/').into(),
            authority: cluster.certificate_authority_data.as_deref().unwrap_or_default().trim().into(),
        };
        let checked = Self { cluster, user, identity };
        checked.config()?;
        Ok(checked)
    }

    /// Which cluster it means.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    fn config(&self) -> Result<Config, ConnectError> {
        const NAME: &str = "peer";
        let context = Context { cluster: NAME.to_owned(), user: Some(NAME.to_owned()), ..Context::default() };
        let whole = Kubeconfig {
            clusters: vec![NamedCluster {
                name: NAME.to_owned(),
                cluster: Some(self.cluster.clone()),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: NAME.to_owned(),
                auth_info: Some(self.user.clone()),
                ..NamedAuthInfo::default()
            }],
            contexts: vec![NamedContext { name: NAME.to_owned(), context: Some(context), ..NamedContext::default() }],
            current_context: Some(NAME.to_owned()),
            ..Kubeconfig::default()
        };
        let mut config = Config::try_from(whole).map_err(|error| unreadable(&error))?;
        if !matches!(config.cluster_url.scheme_str(), Some("https" | "http")) || config.cluster_url.host().is_none() {
            return Err(ConnectError::new(
                format!("clusters[].cluster.server {:?} is no URL of an API server", self.identity.server),
                "write it as https://203.0.113.7:6443",
            ));
        }
        // It may come from this process's environment, which is not the peer's business.
        config.proxy_url = None;
        Ok(config)
    }
}

impl fmt::Debug for PeerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerConfig").field("identity", &self.identity).finish_non_exhaustive()
    }
}

fn context(config: &Kubeconfig) -> Result<&Context, ConnectError> {
    let name = config.current_context.as_deref().filter(|name| !name.is_empty()).ok_or_else(|| {
        ConnectError::new("current-context is not set", "name in current-context which of the contexts counts")
    })?;
    let found = config.contexts.iter().find(|entry| entry.name == name).and_then(|entry| entry.context.as_ref());
    found.ok_or_else(|| {
        let what = format!("current-context names {name:?}, which contexts does not have");
        ConnectError::new(what, "add this context, or name another one")
    })
}

/// The cluster's entry, reduced to what may be used.
fn cluster(config: &Kubeconfig, context: &Context) -> Result<Cluster, ConnectError> {
    let name = &context.cluster;
    let found = config.clusters.iter().find(|entry| entry.name == *name).and_then(|entry| entry.cluster.as_ref());
    let Some(found) = found else {
        let what = format!("the context names cluster {name:?}, which clusters does not have");
        return Err(ConnectError::new(what, "add this cluster, or name another one in the context"));
    };
    let place = |field: &str| format!("clusters[{name}].cluster.{field}");
    if given(found.certificate_authority.as_ref()).is_some() {
        return Err(file(&place("certificate-authority"), "certificate-authority-data"));
    }
    if found.insecure_skip_tls_verify == Some(true) {
        let what = format!(
            "{} is true, so that anyone on the way could pass for this cluster and publish names",
            place("insecure-skip-tls-verify")
        );
        return Err(ConnectError::new(what, "remove it, and put the cluster's CA into certificate-authority-data"));
    }
    if given(found.proxy_url.as_ref()).is_some() {
        let what = format!("{} is set, and proxies are not supported", place("proxy-url"));
        return Err(ConnectError::new(what, "remove it, and write a server URL that is reachable from the nodes"));
    }
    if given(found.server.as_ref()).is_none() {
        let what = format!("{} is not set", place("server"));
        return Err(ConnectError::new(what, "write the URL of the peer's API server, e.g. https://203.0.113.7:6443"));
    }
    Ok(Cluster {
        server: found.server.clone(),
        certificate_authority_data: given(found.certificate_authority_data.as_ref()).cloned(),
        tls_server_name: given(found.tls_server_name.as_ref()).cloned(),
        ..Cluster::default()
    })
}

/// The user's entry, reduced to what may be used.
fn user(config: &Kubeconfig, context: &Context) -> Result<AuthInfo, ConnectError> {
    let Some(name) = given(context.user.as_ref()) else {
        let what = format!("the context of cluster {:?} names no user", context.cluster);
        return Err(ConnectError::new(what, "name the user whose token or certificate counts"));
    };
    let found = config.auth_infos.iter().find(|entry| entry.name == *name).and_then(|entry| entry.auth_info.as_ref());
    let Some(found) = found else {
        let what = format!("the context names user {name:?}, which users does not have");
        return Err(ConnectError::new(what, "add this user, or name another one in the context"));
    };
    let place = |field: &str| format!("users[{name}].user.{field}");
    let program = [("exec", found.exec.is_some()), ("auth-provider", found.auth_provider.is_some())];
    if let Some((field, _)) = program.into_iter().find(|(_, set)| *set) {
        let what = format!("{} is set, and no program is run for what a Secret says", place(field));
        return Err(ConnectError::new(what, "use the token of a ServiceAccount in `token`, or a client certificate"));
    }
    let paths = [
        ("tokenFile", &found.token_file, "token"),
        ("client-certificate", &found.client_certificate, "client-certificate-data"),
        ("client-key", &found.client_key, "client-key-data"),
    ];
    if let Some((field, _, data)) = paths.into_iter().find(|(_, path, _)| given(path.as_ref()).is_some()) {
        return Err(file(&place(field), data));
    }
    Ok(AuthInfo {
        username: found.username.clone(),
        password: found.password.clone(),
        token: found.token.clone(),
        client_certificate_data: given(found.client_certificate_data.as_ref()).cloned(),
        client_key_data: found.client_key_data.clone(),
        impersonate: found.impersonate.clone(),
        impersonate_uid: found.impersonate_uid.clone(),
        impersonate_groups: found.impersonate_groups.clone(),
        impersonate_user_extra: found.impersonate_user_extra.clone(),
        ..AuthInfo::default()
    })
}

fn given(value: Option<&String>) -> Option<&String> {
    value.filter(|value| !value.is_empty())
}

fn file(place: &str, data: &str) -> ConnectError {
    let what = format!("{place} names a file, and no file of this node is read for what a Secret says");
    ConnectError::new(what, format!("put the content into {data}"))
}

fn unreadable(error: &KubeconfigError) -> ConnectError {
    let KubeconfigError::Parse(error) = error else {
        return ConnectError::new(error.to_string(), "compare it with what `istioctl create-remote-secret` writes");
    };
    // The parser's own words quote the text.
    let place = error.location().filter(|at| at.line() > 0);
    let place = place.map_or_else(String::new, |at| format!(" at line {}, column {}", at.line(), at.column()));
    ConnectError::new(
        format!("it is no kubeconfig in YAML{place}"),
        "try it with kubectl --kubeconfig, and compare it with what `istioctl create-remote-secret` writes",
    )
}

/// Where a client comes from.
enum Origin {
    /// The operator's kubeconfig, or the pod's own account.
    Local,
    /// A Secret.
    Peer(Box<PeerConfig>),
    /// Nothing that could be read again.
    #[cfg(test)]
    Fixed,
}

struct State {
    origin: Origin,
    client: kube::Client,
    server: Box<str>,
    built: Instant,
    /// How often it has been asked to read its credentials again.
    #[cfg(test)]
    renewed: usize,
}

/// The way to one API server; clones share it.
#[derive(Clone)]
pub struct Connection(Arc<Mutex<State>>);

impl Connection {
    /// The local cluster: the kubeconfig as `kubectl` finds it, or the pod's own account. Has to be called inside a
    /// tokio runtime, as the others.
    ///
    /// # Errors
    /// Neither is there, or the one that is there cannot be used.
    pub fn local() -> Result<Self, ConnectError> {
        Self::new(Origin::Local)
    }

    /// A peer.
    ///
    /// # Errors
    /// Its certificates or keys cannot be used.
    pub fn peer(config: PeerConfig) -> Result<Self, ConnectError> {
        Self::new(Origin::Peer(Box::new(config)))
    }

    fn new(origin: Origin) -> Result<Self, ConnectError> {
        let (client, server) = build(&origin)?;
        Ok(Self(Arc::new(Mutex::new(State {
            origin,
            client,
            server,
            built: Instant::now(),
            #[cfg(test)]
            renewed: 0,
        }))))
    }

    /// A client that a test made.
    #[cfg(test)]
    pub fn fixed(client: kube::Client) -> Self {
        let server = "http://fixed".into();
        Self(Arc::new(Mutex::new(State { origin: Origin::Fixed, client, server, built: Instant::now(), renewed: 0 })))
    }

    /// How often it has been asked to renew itself.
    #[cfg(test)]
    pub fn renewed(&self) -> usize {
        self.lock().renewed
    }

    /// The client of now.
    #[must_use]
    pub fn client(&self) -> kube::Client {
        self.lock().client.clone()
    }

    /// The API server's URL.
    #[must_use]
    pub fn server(&self) -> Box<str> {
        self.lock().server.clone()
    }

    /// Reads the credentials again, at most once a second: the client itself looks at a token's file only once a minute,
    /// and never again at a certificate's.
    ///
    /// # Errors
    /// They cannot be read; the client stays as it is.
    pub fn renew(&self) -> Result<(), ConnectError> {
        let mut state = self.lock();
        #[cfg(test)]
        {
            state.renewed += 1;
            if matches!(state.origin, Origin::Fixed) {
                return Ok(());
            }
        }
        if state.built.elapsed() < RENEW_EVERY {
            return Ok(());
        }
        // A failed attempt counts: each reads files, and parses certificates.
        state.built = Instant::now();
        (state.client, state.server) = build(&state.origin)?;
        Ok(())
    }

    /// Takes a peer's new credentials; requests under way end as they began.
    ///
    /// # Errors
    /// Its certificates or keys cannot be used; the client stays as it is.
    pub fn replace(&self, config: PeerConfig) -> Result<(), ConnectError> {
        let origin = Origin::Peer(Box::new(config));
        let (client, server) = build(&origin)?;
        let mut state = self.lock();
        (state.origin, state.client, state.server, state.built) = (origin, client, server, Instant::now());
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.server()).finish()
    }
}

fn build(origin: &Origin) -> Result<(kube::Client, Box<str>), ConnectError> {
    let mut config = match origin {
        Origin::Local => local_config()?,
        Origin::Peer(peer) => peer.config()?,
        #[cfg(test)]
        Origin::Fixed => return Err(ConnectError::new("a test's client", "")),
    };
    trim_token(&mut config.auth_info);
    // Followers retry, and have to see what fails.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    // Watches are silent for long; followers watch over them.
    config.read_timeout = None;
    if let (Ok(name), Ok(value)) = ("user-agent".parse(), concat!("segdns/", env!("CARGO_PKG_VERSION")).parse()) {
        config.headers.push((name, value));
    }
    let server = config.cluster_url.to_string().trim_end_matches('/').into();
    let client = kube::Client::try_from(config).map_err(|error| {
        ConnectError::new(
            format!("no client for {server}: {error}"),
            "check certificate-authority-data, client-certificate-data, client-key-data and token",
        )
    })?;
    Ok((client, server))
}

/// Takes the token itself where its file has more than that in it: people's files end with a newline, which client-go cuts
/// off and kube does not, and no header may hold one. Such a file is read again when the token is refused.
fn trim_token(user: &mut AuthInfo) {
    let file = user.token_file.as_ref().filter(|_| user.token.is_none());
    let text = file.and_then(|path| std::fs::read_to_string(path).ok());
    if let Some(text) = text.filter(|text| text.trim() != text) {
        user.token = Some(text.trim().to_owned().into());
    }
}

/// As `kubectl`: a kubeconfig that is there counts, even if it is wrong; without one it is the pod's own account.
fn local_config() -> Result<Config, ConnectError> {
    let wrong = |error: KubeconfigError| {
        ConnectError::new(
            format!("the kubeconfig cannot be used: {}", unreadable(&error).what),
            "correct the file that KUBECONFIG names, or ~/.kube/config",
        )
    };
    match Kubeconfig::read() {
        Ok(kubeconfig) => Config::try_from(kubeconfig).map_err(wrong),
        Err(KubeconfigError::FindPath) => in_cluster(),
        Err(KubeconfigError::ReadConfig(error, _)) if error.kind() == std::io::ErrorKind::NotFound => in_cluster(),
        Err(error) => Err(wrong(error)),
    }
}

fn in_cluster() -> Result<Config, ConnectError> {
    // By address and never by name: the name would be asked of this very server.
    Config::incluster_env().map_err(|error| {
        ConnectError::new(
            format!("there is no kubeconfig, and no ServiceAccount of a pod: {error}"),
            "set KUBECONFIG, or run in a pod with automountServiceAccountToken",
        )
    })
}

#[cfg(test)]
mod tests;
