//! What Secrets say, against the clusters that come and go.

use std::time::Duration;

use super::*;

fn kubeconfig(server: &str, token: &str) -> Option<Vec<u8>> {
    let text = format!(
        "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
         clusters: [{{name: c, cluster: {{server: \"http://{server}\"}}}}], users: [{{name: u, user: {{token: {token}}}}}]}}"
    );
    Some(text.into_bytes())
}

fn secret(name: &str, created: i64, data: &[(&str, Option<Vec<u8>>)]) -> Secret {
    let data = data.iter().map(|(key, value)| ((*key).into(), value.clone())).collect();
    Secret { namespace: "istio-system".into(), name: name.into(), uid: name.into(), created, data }
}

fn word(change: &Change) -> String {
    match change {
        Change::Joined { cluster, name } => format!("{name} joins as {cluster}"),
        Change::Left { cluster } => format!("{cluster} leaves"),
        Change::Source { place, faults, .. } => {
            let texts: Vec<&str> = faults.iter().map(|fault| &*fault.text).collect();
            format!("{place}: {}", texts.join(" & ")).trim_end_matches([':', ' ']).to_owned()
        }
        other => format!("{other:?}"),
    }
}

/// Peers whose API servers are nowhere, and what they tell.
struct Told {
    sink: SecretSink,
    out: mpsc::UnboundedReceiver<Update>,
}

impl Told {
    fn new() -> Self {
        let (out, updates) = mpsc::unbounded_channel();
        let options = Options {
            cluster: "here".into(),
            root_namespace: "istio-system".into(),
            segment_group: "admin.solo.io".into(),
            segment_version: "v1alpha1".into(),
            all_entries: false,
            node: None,
            secrets_namespace: "istio-system".into(),
            secrets_selector: "istio/multiCluster=true".into(),
            peers_wait: Duration::ZERO,
            silence: Duration::from_secs(90),
        };
        let context = Context { options: Arc::new(options), out, board: Arc::default() };
        let (sink, told) = SecretSink::new();
        tokio::spawn(Peers::new(context, Vec::new()).run(told));
        Self { sink, out: updates }
    }

    /// What came of what the sink was told, once it has been worked off.
    async fn news(&mut self) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut all = Vec::new();
        while let Ok(update) = self.out.try_recv() {
            all.extend(update.changes.iter().map(word));
        }
        all
    }

    async fn list(&mut self, secrets: &[Secret]) -> Vec<String> {
        self.sink.begin();
        secrets.iter().for_each(|secret| self.sink.seen(secret.clone()));
        self.sink.complete();
        self.news().await
    }
}

const NONE: [&str; 0] = [];

#[tokio::test(start_paused = true)]
async fn peers_come_and_go_with_their_secrets() {
    let mut told = Told::new();
    let (east, west) = (kubeconfig("192.0.2.1:1", "a"), kubeconfig("192.0.2.2:1", "b"));
    let one = secret("one", 1, &[("east", east.clone()), ("here", east.clone())]);
    assert_eq!(told.list(std::slice::from_ref(&one)).await, ["east joins as 1"], "its own cluster is none");
    told.sink.applied(secret("two", 2, &[("west", west.clone())]));
    assert_eq!(told.news().await, ["west joins as 2"]);
    // New credentials are the same cluster, another server is another one.
    told.sink.applied(secret("one", 1, &[("east", kubeconfig("192.0.2.1:1", "c"))]));
    assert_eq!(told.news().await, NONE);
    told.sink.applied(secret("one", 1, &[("east", kubeconfig("192.0.2.9:1", "c"))]));
    assert_eq!(told.news().await, ["1 leaves", "east joins as 1"]);
    told.sink.deleted("istio-system", "one");
    assert_eq!(told.news().await, ["1 leaves"]);
    told.sink.applied(secret("three", 3, &[("north", east)]));
    assert_eq!(told.news().await, ["north joins as 1"], "the index was free");
    assert_eq!(told.list(&[secret("two", 2, &[("west", west)])]).await, ["1 leaves"]);
    told.sink.absent();
    assert_eq!(told.news().await, ["2 leaves"]);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_breaks_takes_no_peer_away_and_is_reported() {
    let mut told = Told::new();
    let east = kubeconfig("192.0.2.1:1", "a");
    assert_eq!(told.list(&[secret("one", 1, &[("east", east.clone())])]).await, ["east joins as 1"]);
    let place = "Secret istio-system/one";
    let cases: [(Option<Vec<u8>>, &str); 4] = [
        (None, "it is not text in base64"),
        (Some(b"{}".to_vec()), "current-context is not set"),
        (Some(b"\xff".to_vec()), "it is not text in base64"),
        (kubeconfig("", "a"), "cluster url"),
    ];
    for (broken, why) in cases {
        told.sink.applied(secret("one", 1, &[("east", broken)]));
        let news = told.news().await.join(" | ");
        assert!(news.starts_with(place) && news.contains(why), "{news:?} should say {why:?}");
    }
    told.sink.applied(secret("one", 1, &[("east", east.clone())]));
    assert_eq!(told.news().await, [place], "the report is gone");
    // A name can be had once.
    told.sink.applied(secret("two", 0, &[("east", kubeconfig("192.0.2.1:1", "z"))]));
    let text = format!(
        "{place}: {place}: its key \"east\" names a cluster that the older Secret istio-system/two has already"
    );
    assert_eq!(told.news().await, [text]);
    told.sink.deleted("istio-system", "one");
    assert_eq!(told.news().await, [place]);
    told.sink.deleted("istio-system", "two");
    assert_eq!(told.news().await, ["1 leaves"]);
}
