use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Request, Response};
use http_body_util::BodyExt;
use kube::client::Body;
use serde_json::{Value, json};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;
use crate::mesh::report::{ObjectRef, ReportKind};

/// An API server with a Lease and Events, and how often it was asked.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    lease: Option<Value>,
    events: BTreeMap<String, Value>,
    asked: Vec<String>,
    refuses: Option<u16>,
    version: u64,
}

impl Api {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connection(&self) -> Connection {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let (code, answer) = api.answer(parts.method.as_str(), parts.uri.path(), &body);
                let answer = Response::builder().status(code).body(Body::from(answer.to_string().into_bytes()));
                Ok::<_, Infallible>(answer.unwrap())
            }
        });
        Connection::fixed(kube::Client::new(service, "kube-system"))
    }

    fn answer(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        let mut state = self.lock();
        state.asked.push(format!("{method} {path}"));
        if let Some(code) = state.refuses {
            return (code, json!({"code": code, "message": "no"}));
        }
        let mut given: Value = serde_json::from_slice(body).unwrap_or_default();
        state.version += 1;
        let version = state.version.to_string();
        if path.contains("/leases") {
            assert!(path.starts_with("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"), "{path}");
            return match (method, state.lease.clone()) {
                ("GET", Some(lease)) => (200, lease),
                ("GET", None) => (404, json!({"code": 404})),
                ("PUT", Some(lease))
                    if lease["metadata"]["resourceVersion"] != given["metadata"]["resourceVersion"] =>
                {
                    (409, json!({"code": 409}))
                }
                _ => {
                    given["metadata"]["resourceVersion"] = version.into();
                    state.lease = Some(given.clone());
                    (200, given)
                }
            };
        }
        if !path.contains("/events") {
            return (200, json!({"items": [{"metadata": {"uid": "u-1"}}]}));
        }
        let name = given["metadata"]["name"].as_str().or(path.rsplit('/').next()).unwrap().to_owned();
        match (method, state.events.get_mut(&name)) {
            ("POST", Some(_)) => (409, json!({"code": 409})),
            ("POST", None) => {
                state.events.insert(name, given.clone());
                (201, given)
            }
            (_, None) => (404, json!({"code": 404})),
            (_, Some(event)) => {
                for (key, value) in given.as_object().unwrap() {
                    event[key] = value.clone();
                }
                (200, event.clone())
            }
        }
    }

    /// Holder of the Lease.
    fn holder(&self) -> String {
        let state = self.lock();
        let lease = state.lease.as_ref().unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap().split('_').next().unwrap().to_owned()
    }

    fn count(&self) -> usize {
        self.lock().events.len()
    }
}

fn report(cluster: &str, name: &str) -> Report {
    let object = ObjectRef { cluster: cluster.into(), kind: Kind::Namespace, namespace: "".into(), name: name.into() };
    let (text, remedy) = (format!("{name} names no Segment"), "correct the label".into());
    Report { kind: ReportKind::SegmentLabelInvalid, rule: "R3", object, text, remedy }
}

fn reports(names: impl IntoIterator<Item = String>) -> Reports {
    Arc::new(names.into_iter().map(|name| report("here", &name)).collect())
}

fn node(api: &Api, name: &str, told: &Reports) -> (watch::Sender<Reports>, tokio::task::JoinHandle<()>) {
    let (to, from) = watch::channel(Arc::clone(told));
    let options = Options { cluster: "here".into(), node: name.into(), segments: "admin.solo.io/v1alpha1".into() };
    (to, tokio::spawn(run(api.connection(), options, from)))
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn without_reports_of_its_own_cluster_nothing_is_asked() {
    let api = Api::default();
    let told = Arc::new(BTreeSet::from([report("there", "shop")]));
    let (to, _node) = node(&api, "n1", &told);
    pass(600).await;
    assert!(api.lock().asked.is_empty());
    to.send_replace(reports(["shop".to_owned()]));
    pass(5).await;
    assert_eq!((api.count(), api.holder()), (1, "n1".to_owned()));
    to.send_replace(Reports::default());
    let before = api.lock().asked.len();
    pass(600).await;
    assert_eq!(api.lock().asked.len(), before, "and nothing any more when all is well");
}

#[tokio::test(start_paused = true)]
async fn an_event_says_what_is_wrong_where_and_what_to_do() {
    let api = Api::default();
    let (_to, _node) = node(&api, "n1", &reports(["shop".to_owned()]));
    pass(5).await;
    let state = api.lock();
    let (name, event) = state.events.first_key_value().unwrap();
    assert!(name.starts_with("shop.") && name.len() == 21, "{name}");
    assert_eq!(event["involvedObject"], json!({"apiVersion": "v1", "kind": "Namespace", "name": "shop", "uid": "u-1"}));
    assert_eq!(event["metadata"]["namespace"], "default", "where Events of what has no namespace are");
    assert_eq!((&event["reason"], &event["type"]), (&json!("SegmentLabelInvalid"), &json!("Warning")));
    assert_eq!(event["message"], "shop names no Segment (R3); correct the label");
}

#[tokio::test(start_paused = true)]
async fn one_node_writes_and_another_takes_over_when_it_is_gone() {
    let api = Api::default();
    let told = reports(["shop".to_owned()]);
    let (_first, running) = node(&api, "n1", &told);
    pass(5).await;
    let (_second, _running) = node(&api, "n2", &told);
    pass(600).await;
    assert_eq!((api.holder(), api.count()), ("n1".to_owned(), 1));
    let posts = |api: &Api| {
        api.lock().asked.iter().filter(|line| line.starts_with("POST") && line.ends_with("/events")).count()
    };
    assert_eq!(posts(&api), 1, "only one has written");
    running.abort();
    pass(20).await;
    assert_eq!(api.holder(), "n1", "it may be back");
    pass(100).await;
    assert_eq!(api.holder(), "n2");
    assert_eq!((posts(&api), api.count()), (2, 1), "what is there already is found by its name");
    assert_eq!(api.lock().lease.as_ref().unwrap()["spec"]["leaseTransitions"], 1);
}

#[tokio::test(start_paused = true)]
async fn many_reports_become_events_at_a_bounded_rate_and_the_same_again_once_an_hour() {
    let api = Api::default();
    let (_to, _node) = node(&api, "n1", &reports((0..40).map(|n| format!("ns{n}"))));
    pass(3).await;
    assert_eq!(api.count(), 10);
    pass(60).await;
    assert!((19..=21).contains(&api.count()), "{}", api.count());
    pass(600).await;
    let counts =
        |api: &Api| api.lock().events.values().map(|event| event["count"].as_i64().unwrap()).collect::<Vec<_>>();
    assert_eq!(counts(&api), [1; 40]);
    pass(3600).await;
    assert_eq!(counts(&api), [2; 40]);
    // API servers forget Events.
    api.lock().events.clear();
    pass(3600).await;
    assert_eq!(counts(&api), [1; 40]);
}

/// Counts our own warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        if *meta.level() == tracing::Level::WARN && meta.target().starts_with("segdns::") {
            self.0.fetch_add(1, Relaxed);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_granted_is_asked_for_seldom_and_what_fails_again_soon_and_either_is_said_once() {
    let api = Api::default();
    let warnings = Warnings::default();
    let _counted = tracing::subscriber::set_default(tracing_subscriber::registry().with(warnings.clone()));
    api.lock().refuses = Some(403);
    let (_to, _node) = node(&api, "n1", &reports(["shop".to_owned()]));
    pass(700).await;
    assert_eq!((api.lock().asked.len(), warnings.0.load(Relaxed)), (3, 1));
    api.lock().refuses = Some(500);
    pass(600).await;
    let asked = api.lock().asked.len();
    assert!((20..45).contains(&asked) && warnings.0.load(Relaxed) == 2, "{asked}");
    api.lock().refuses = None;
    pass(20).await;
    assert_eq!(api.count(), 1);
    // After a success it is news.
    api.lock().refuses = Some(500);
    pass(60).await;
    assert_eq!(warnings.0.load(Relaxed), 3);
}
