//! Requests to a real API server, with the rights of an administrator.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::{Method, Request};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;
use tokio::runtime::Runtime;

/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A client, and the threads that it needs.
pub struct Rest {
    runtime: Option<Runtime>,
    client: Client,
}

/// What the API server says. Without an answer the code is 0, and `body` the reason.
#[derive(Debug)]
pub struct Said {
    /// HTTP status.
    pub code: u16,
    /// As JSON, or its text.
    pub body: Value,
}

impl Said {
    /// It did what it was asked to.
    pub fn ok(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// It may do so later: it starts, is busy, or somebody else was faster. 404 is what it says to an object of a custom
    /// resource that it does not serve yet.
    pub fn passes(&self) -> bool {
        matches!(self.code, 0 | 404 | 409 | 429 | 500..)
    }

    fn nothing(why: &str) -> Self {
        Self { code: 0, body: why.into() }
    }
}

impl Rest {
    /// For the user of this kubeconfig.
    pub fn new(kubeconfig: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let kubeconfig = Kubeconfig::from_yaml(kubeconfig).expect("a kubeconfig");
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a configuration");
            Client::try_from(config).expect("a client")
        });
        Self { runtime: Some(runtime), client }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Said {
        self.send(Method::GET, path, None)
    }

    /// POST.
    pub fn post(&self, path: &str, object: &Value) -> Said {
        self.send(Method::POST, path, Some(object))
    }

    /// PUT.
    pub fn put(&self, path: &str, object: &Value) -> Said {
        self.send(Method::PUT, path, Some(object))
    }

    /// DELETE, at once: nobody is there who would wait for pods to end.
    pub fn delete(&self, path: &str) -> Said {
        self.send(Method::DELETE, &format!("{path}?gracePeriodSeconds=0&propagationPolicy=Background"), None)
    }

    fn send(&self, method: Method, path: &str, object: Option<&Value>) -> Said {
        let body = object.map(|object| object.to_string().into_bytes()).unwrap_or_default();
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let request = request.body(Body::from(body)).expect("a request");
        let exchange = async {
            let answer = self.client.send(request).await.map_err(|e| format!("{e:?}"))?;
            let code = answer.status().as_u16();
            let body = answer.into_body().collect().await.map_err(|e| format!("{e:?}"))?.to_bytes();
            let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
            Ok::<_, String>(Said { code, body: serde_json::from_slice(&body).unwrap_or_else(|_| text()) })
        };
        let runtime = self.runtime.as_ref().expect("it is there until the drop");
        let said = runtime.block_on(async { tokio::time::timeout(ANSWER, exchange).await });
        said.map_or_else(|_| Said::nothing("no answer"), |said| said.unwrap_or_else(|e| Said::nothing(&e)))
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}
