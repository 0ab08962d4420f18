//! Peers in Istio's way: each key of a Secret with the right label is a cluster, and its value a kubeconfig.
//!
//! A Secret that breaks takes no peer away: the credentials that worked go on working, and the fault is reported. Only a
//! Secret that is gone does, or one that now means another cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::connect::{ConnectError, Connection, PeerConfig};
use super::follow::{Secret, Sink};
use super::gather::{Gather, Out};
use super::run::{follow_all, kinds};
use super::{Options, Update, resource};
use crate::mesh::object::{Change, ClusterIx, Fault, LOCAL};
use crate::watch::board::Board;

/// What every peer needs.
#[derive(Clone, Debug)]
pub struct Context {
    /// What to watch.
    pub options: Arc<Options>,
    /// Where updates go.
    pub out: Out,
    /// Where each source says what it is doing.
    pub board: Arc<Board>,
}

/// The peers that run.
#[derive(Debug)]
pub struct Peers {
    context: Context,
    secrets: BTreeMap<SecretKey, Secret>,
    running: BTreeMap<Box<str>, Running>,
    /// What was last reported of each Secret.
    reported: BTreeMap<String, Vec<Fault>>,
    /// The peers that there were when the Secrets were first known.
    first: watch::Sender<Option<Vec<Gather>>>,
}

type SecretKey = (Box<str>, Box<str>);

#[derive(Debug)]
struct Running {
    cluster: ClusterIx,
    gather: Gather,
    /// It started from a saved state.
    saved: bool,
    /// `None` as long as no Secret has named it.
    link: Option<Link>,
}

#[derive(Debug)]
struct Link {
    connection: Connection,
    kubeconfig: Kubeconfig,
    /// They end when this is dropped.
    #[expect(dead_code, reason = "held for its drop")]
    followers: JoinSet<()>,
}

/// A kubeconfig that can be used, and the text that it was read from.
#[derive(Debug)]
struct Kubeconfig {
    text: String,
    config: PeerConfig,
}

impl Kubeconfig {
    fn read(text: Option<&[u8]>) -> Result<Self, ConnectError> {
        let text = text.and_then(|text| str::from_utf8(text).ok()).ok_or_else(|| ConnectError {
            what: "it is not text in base64".into(),
            remedy: "make the Secret anew, e.g. with `istioctl create-remote-secret`".into(),
        })?;
        Ok(Self { text: text.into(), config: PeerConfig::parse(text)? })
    }
}

/// Hands what the follower of Secrets tells to whoever runs the peers.
#[derive(Clone, Debug)]
pub struct SecretSink {
    told: mpsc::UnboundedSender<Told>,
    /// What the list has told that is being told.
    listed: Option<BTreeMap<SecretKey, Secret>>,
}

/// What a follower of Secrets tells.
#[derive(Debug)]
pub enum Told {
    /// All that there are.
    All(BTreeMap<SecretKey, Secret>),
    /// One as it is now.
    One(Box<Secret>),
    /// One that is gone, by namespace and name.
    Gone(SecretKey),
    /// Peers have been waited for long enough: those of a saved state count as they were saved. What is sent tells that they
    /// do.
    Waited(oneshot::Sender<()>),
}

impl SecretSink {
    /// A sink, and where what it is told comes out.
    #[must_use]
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (told, out) = mpsc::unbounded_channel();
        (Self { told, listed: None }, out)
    }

    /// Peers have been waited for long enough. Returns once those of a saved state count.
    pub async fn waited(&self) {
        let (done, counted) = oneshot::channel();
        self.tell(Told::Waited(done));
        // Unless nobody runs the peers any more.
        drop(counted.await);
    }

    fn tell(&self, what: Told) {
        // Nobody listens only when the process ends.
        drop(self.told.send(what));
    }
}

impl Sink<Secret> for SecretSink {
    fn begin(&mut self) {
        self.listed = Some(BTreeMap::new());
    }

    fn seen(&mut self, object: Secret) {
        self.listed.get_or_insert_default().insert(key_of(&object), object);
    }

    fn complete(&mut self) {
        let all = self.listed.take().unwrap_or_default();
        self.tell(Told::All(all));
    }

    fn applied(&mut self, object: Secret) {
        self.tell(Told::One(Box::new(object)));
    }

    fn deleted(&mut self, namespace: &str, name: &str) {
        let key = (namespace.into(), name.into());
        match &mut self.listed {
            Some(listed) => drop(listed.remove(&key)),
            None => self.tell(Told::Gone(key)),
        }
    }

    fn absent(&mut self) {
        self.tell(Told::All(BTreeMap::new()));
    }
}

fn key_of(secret: &Secret) -> SecretKey {
    (secret.namespace.clone(), secret.name.clone())
}

impl Peers {
    /// No peers yet but those of a saved state, which wait for their Secrets.
    #[must_use]
    pub fn new(context: Context, saved: Vec<(Box<str>, ClusterIx, Gather)>) -> Self {
        let running = saved
            .into_iter()
            .map(|(name, cluster, gather)| (name, Running { cluster, gather, saved: true, link: None }));
        Self {
            context,
            secrets: BTreeMap::new(),
            running: running.collect(),
            reported: BTreeMap::new(),
            first: watch::Sender::new(None),
        }
    }

    /// Waits until the Secrets are known and the first complete state of every peer that they name is in.
    pub fn settled(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut first = self.first.subscribe();
        async move {
            let Ok(known) = first.wait_for(Option::is_some).await.map(|known| known.clone()) else { return };
            for gather in known.into_iter().flatten() {
                gather.completed().await;
            }
        }
    }

    /// Follows what the Secrets say; ends when nobody tells any more.
    pub async fn run(mut self, mut told: mpsc::UnboundedReceiver<Told>) {
        while let Some(what) = told.recv().await {
            match what {
                Told::All(secrets) => self.secrets = secrets,
                Told::One(secret) => {
                    self.secrets.insert(key_of(&secret), *secret);
                }
                Told::Gone(key) => {
                    self.secrets.remove(&key);
                }
                Told::Waited(done) => {
                    for running in self.running.values().filter(|running| running.saved) {
                        self.tell(Change::Synced { cluster: running.cluster });
                    }
                    // An error means that nobody waits for it any more.
                    let _ = done.send(());
                    continue;
                }
            }
            self.reconcile();
        }
    }

    fn reconcile(&mut self) {
        let mut wanted = Wanted::of(&self.context.options.cluster, self.secrets.values());
        let stay = |name: &str| wanted.peers.contains_key(name) || wanted.broken.contains(name);
        let leave: Vec<_> = self.running.keys().filter(|name| !stay(name)).cloned().collect();
        for name in leave {
            self.stop(&name);
        }
        for (name, (place, kubeconfig)) in std::mem::take(&mut wanted.peers) {
            if let Err(error) = self.start_or_renew(name.clone(), kubeconfig) {
                wanted.unusable(place, &name, error);
            }
        }
        self.report(wanted.faults);
        let gathers = || Some(self.running.values().map(|running| running.gather.clone()).collect());
        self.first.send_if_modified(|first| {
            let news = first.is_none();
            if news {
                *first = gathers();
            }
            news
        });
    }

    fn start_or_renew(&mut self, name: Box<str>, kubeconfig: Kubeconfig) -> Result<(), ConnectError> {
        if let Some(Running { link: Some(link), .. }) = self.running.get_mut(&name) {
            if link.kubeconfig.text == kubeconfig.text {
                return Ok(());
            }
            if link.kubeconfig.config.identity() == kubeconfig.config.identity() {
                link.connection.replace(kubeconfig.config.clone())?;
                link.kubeconfig = kubeconfig;
                tracing::info!(cluster = &*name, "the peer's credentials are renewed");
                return Ok(());
            }
        }
        let connection = Connection::peer(kubeconfig.config.clone())?;
        if self.running.get(&name).is_some_and(|running| running.link.is_some()) {
            tracing::info!(cluster = &*name, "the peer's Secret names another API server; it starts over");
            self.stop(&name);
        }
        let (cluster, gather, saved) = match self.running.remove(&name) {
            Some(known) => (known.cluster, known.gather, true),
            None => self.join(&name),
        };
        let Context { options, board, .. } = &self.context;
        let followers = follow_all(&connection, resource::peer(options), &name, options, board, &gather);
        let link = Some(Link { connection, kubeconfig, followers });
        self.running.insert(name, Running { cluster, gather, saved, link });
        Ok(())
    }

    /// Gives a new peer the lowest index that is free.
    fn join(&self, name: &str) -> (ClusterIx, Gather, bool) {
        let taken: BTreeSet<ClusterIx> = self.running.values().map(|running| running.cluster).collect();
        let cluster = (LOCAL + 1..).find(|ix| !taken.contains(ix)).unwrap_or_default();
        tracing::info!(cluster = name, "peer joins");
        self.tell(Change::Joined { cluster, name: name.into() });
        let kinds = kinds(&resource::peer(&self.context.options));
        (cluster, Gather::new(cluster, &kinds, false, self.context.out.clone()), false)
    }

    fn stop(&mut self, name: &str) {
        let Some(running) = self.running.remove(name) else { return };
        tracing::info!(cluster = name, "peer leaves: its Secret is gone, or names another API server");
        running.gather.close();
        drop(running.link);
        self.context.board.forget(name);
        self.tell(Change::Left { cluster: running.cluster });
    }

    /// Tells the faults of Secrets, as far as they differ from what was last told.
    fn report(&mut self, now: BTreeMap<String, Vec<Fault>>) {
        for place in self.reported.keys().filter(|place| !now.contains_key(*place)) {
            self.tell(Change::Source { cluster: LOCAL, place: place.clone(), faults: Vec::new() });
        }
        for (place, faults) in now.iter().filter(|(place, faults)| self.reported.get(*place) != Some(faults)) {
            self.tell(Change::Source { cluster: LOCAL, place: place.clone(), faults: faults.clone() });
        }
        self.reported = now;
    }

    fn tell(&self, change: Change) {
        // Whoever took updates is gone: so is the process, soon.
        drop(self.context.out.send(Update { changes: vec![change], received: None }));
    }
}

/// What the Secrets ask for.
#[derive(Debug, Default)]
struct Wanted {
    /// Peers by name, with the Secret that names them.
    peers: BTreeMap<Box<str>, (String, Kubeconfig)>,
    /// Peers whose kubeconfig cannot be used.
    broken: BTreeSet<Box<str>>,
    /// What is wrong, by Secret.
    faults: BTreeMap<String, Vec<Fault>>,
}

impl Wanted {
    /// The older Secret has a cluster's name first. The local cluster's own is passed over, as Istio does.
    fn of<'a>(local: &str, secrets: impl Iterator<Item = &'a Secret>) -> Self {
        let mut secrets: Vec<_> = secrets.collect();
        secrets.sort_by_key(|secret| (secret.created, key_of(secret)));
        let mut wanted = Self::default();
        let mut first: BTreeMap<&str, String> = BTreeMap::new();
        for secret in secrets {
            let place = format!("Secret {}/{}", secret.namespace, secret.name);
            for (name, kubeconfig) in secret.data.iter().filter(|(name, _)| &***name != local) {
                if let Some(other) = first.get(&**name) {
                    let text = format!("{place}: its key {name:?} names a cluster that the older {other} has already");
                    let remedy = "remove the key from one of the two".to_owned();
                    wanted.faults.entry(place.clone()).or_default().push(Fault { text, remedy });
                    continue;
                }
                first.insert(name, place.clone());
                match Kubeconfig::read(kubeconfig.as_deref()) {
                    Ok(kubeconfig) => {
                        wanted.peers.insert(name.clone(), (place.clone(), kubeconfig));
                    }
                    Err(error) => {
                        wanted.broken.insert(name.clone());
                        wanted.unusable(place.clone(), name, error);
                    }
                }
            }
        }
        wanted
    }

    fn unusable(&mut self, place: String, name: &str, ConnectError { what, remedy }: ConnectError) {
        let text = format!("{place}: its key {name:?} holds no kubeconfig that can be used: {what}");
        self.faults.entry(place).or_default().push(Fault { text, remedy });
    }
}

#[cfg(test)]
mod tests;
