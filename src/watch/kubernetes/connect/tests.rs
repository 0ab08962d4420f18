use axum::http::HeaderMap;
use kube::core::Request;
use kube::core::params::ListParams;

use super::*;

/// A kubeconfig as Istio writes it, with more lines in the cluster and in the user.
fn kubeconfig(cluster: &str, user: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: east
  cluster:
    server: https://203.0.113.7:6443
{cluster}
- name: other
  cluster: {{server: 'https://203.0.113.9:6443', insecure-skip-tls-verify: true}}
users:
- name: east
  user:
    as: nobody
{user}
- name: other
  user: {{exec: {{command: /bin/false}}}}
contexts:
- name: other
  context: {{cluster: other, user: other}}
- name: east
  context: {{cluster: east, user: east}}
current-context: east
"
    )
}

#[test]
fn only_the_current_context_counts() {
    let config = PeerConfig::parse(&kubeconfig("", "    token: t0k3n")).unwrap();
    assert_eq!(config.identity().server(), "https://203.0.113.7:6443");
    assert!(!format!("{config:?}").contains("t0k3n"));
}

#[test]
fn what_would_reach_into_the_node_is_refused() {
    let cases = [
        ("", "    exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}", "users[east].user.exec"),
        ("", "    auth-provider: {name: gcp}", "users[east].user.auth-provider"),
        ("", "    tokenFile: /etc/shadow", "users[east].user.tokenFile"),
        ("", "    client-certificate: /a.pem", "users[east].user.client-certificate"),
        ("", "    client-key: /a.key", "users[east].user.client-key"),
        ("    certificate-authority: /ca.pem", "    token: t", "clusters[east].cluster.certificate-authority"),
        ("    insecure-skip-tls-verify: true", "    token: t", "clusters[east].cluster.insecure-skip-tls-verify"),
        ("    proxy-url: http://proxy:3128", "    token: t", "clusters[east].cluster.proxy-url"),
        // The path counts even where data stands beside it.
        ("", "    token: t\n    tokenFile: /etc/shadow", "users[east].user.tokenFile"),
    ];
    for (cluster, user, field) in cases {
        let error = PeerConfig::parse(&kubeconfig(cluster, user)).unwrap_err();
        assert!(error.what.starts_with(field), "{field}: {error}");
        assert!(!error.remedy.is_empty());
    }
}

#[test]
fn what_is_no_kubeconfig_is_an_error_that_quotes_nothing() {
    let good = kubeconfig("", "    token: s3cret");
    let cases = [
        ("token: [s3cret", "it is no kubeconfig in YAML at line 1"),
        ("", "current-context is not set"),
        ("current-context: s", "current-context names \"s\""),
        (&good.replace("current-context: east", "current-context: ''"), "current-context is not set"),
        (&good.replace("cluster: east,", "cluster: west,"), "the context names cluster \"west\""),
        (&good.replace("user: east}", "user: west}"), "the context names user \"west\""),
        (&good.replace("server: https://203.0.113.7:6443", "server: ''"), "clusters[east].cluster.server is not set"),
        (&good.replace("https://203.0.113.7:6443", "not a url"), "failed to parse cluster url"),
        (&good.replace("https://203.0.113.7:6443", "203.0.113.7:6443"), "clusters[].cluster.server"),
        (&good.replace("token: s3cret", "token: {a: s3cret}"), "it is no kubeconfig in YAML at line"),
    ];
    for (text, start) in cases {
        let error = PeerConfig::parse(text).unwrap_err();
        assert!(error.what.starts_with(start), "{start}: {error}");
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_new_token_is_the_same_cluster_and_a_new_authority_another() {
    let identity = |cluster: &str, user: &str| PeerConfig::parse(&kubeconfig(cluster, user)).unwrap().identity;
    // Empty bundles of the right encoding: base64 of a PEM comment.
    let (one, two) = ("    certificate-authority-data: IyBvbmUK", "    certificate-authority-data: IyB0d28K");
    assert_eq!(identity(one, "    token: a"), identity(one, "    token: b"));
    assert_ne!(identity(one, "    token: a"), identity(two, "    token: a"));
    assert_ne!(identity(one, "    token: a"), identity("", "    token: a"));
}

#[tokio::test(start_paused = true)]
async fn credentials_are_read_again_at_most_once_a_second() {
    let parse = |token: &str| {
        let text = kubeconfig("", &format!("    token: {token}")).replace("https://203", "http://203");
        PeerConfig::parse(&text).unwrap()
    };
    let connection = Connection::peer(parse("a")).unwrap();
    let first = connection.lock().built;
    connection.renew().unwrap();
    assert_eq!(connection.lock().built, first);
    tokio::time::advance(RENEW_EVERY).await;
    connection.renew().unwrap();
    assert!(connection.lock().built > first);
    connection.replace(parse("b")).unwrap();
    assert_eq!(&*connection.server(), "http://203.0.113.7:6443");
}

#[tokio::test]
async fn requests_go_to_the_server_with_the_credentials_of_now() {
    let echo = |headers: HeaderMap| async move {
        let header =
            |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        format!("{} by {}", header("authorization"), header("user-agent"))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    let app = axum::Router::new().route("/api/v1/services", axum::routing::get(echo));
    let task = tokio::spawn(async move { axum::serve(listener, app).await });
    let parse = |token: &str| {
        let text = kubeconfig("", &format!("    token: {token}")).replace("https://203.0.113.7:6443", &server);
        PeerConfig::parse(&text.replace("    as: nobody\n", "")).unwrap()
    };
    let connection = Connection::peer(parse("one")).unwrap();
    let agent = concat!("segdns/", env!("CARGO_PKG_VERSION"));
    for token in ["one", "two"] {
        connection.replace(parse(token)).unwrap();
        let request = Request::new("/api/v1/services").list(&ListParams::default()).unwrap();
        let answer = connection.client().request_text(request).await.unwrap();
        assert_eq!(answer, format!("Bearer {token} by {agent}"));
    }
    task.abort();
}

#[tokio::test]
async fn a_client_speaks_tls_with_the_one_provider_that_is_linked() {
    let parse = |cluster: &str| PeerConfig::parse(&kubeconfig(cluster, "    token: t")).unwrap();
    let connection = Connection::peer(parse("    certificate-authority-data: IyBvbmUK")).unwrap();
    assert_eq!(format!("{connection:?}"), "Connection(\"https://203.0.113.7:6443\")");
    let user = "    token: t\n    client-certificate-data: IyBvbmUK\n    client-key-data: IyBvbmUK";
    let error = Connection::peer(PeerConfig::parse(&kubeconfig("", user)).unwrap()).unwrap_err();
    assert!(error.what.starts_with("no client for https://203.0.113.7:6443"), "{error}");
}
