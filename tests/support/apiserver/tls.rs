//! A certificate authority made for the run, and the kubeconfig that trusts it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// What the server shows, and what clients need to trust it.
#[derive(Debug)]
pub struct Identity {
    pub(super) config: Arc<ServerConfig>,
    pub(super) ca: Vec<u8>,
    leaf: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    /// Makes a CA, and a certificate for loopback.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a CA").der().to_vec();
        let issuer = Issuer::new(params, key);
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let leaf_key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(names).and_then(|p| p.signed_by(&leaf_key, &issuer)).expect("a certificate");
        let (leaf, key) = (leaf.der().clone(), leaf_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has them")
            .with_no_client_auth()
            .with_single_cert(vec![leaf.clone()], PrivatePkcs8KeyDer::from(key.clone()).into())
            .expect("a key that fits");
        Self { config: Arc::new(config), ca, leaf: leaf.to_vec(), key }
    }

    /// The CA as PEM.
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.ca)
    }

    /// The certificate for loopback as PEM.
    pub fn leaf_pem(&self) -> String {
        pem("CERTIFICATE", &self.leaf)
    }

    /// Its key as PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", &self.key)
    }
}

fn pem(what: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|l| std::str::from_utf8(l).expect("base64")).collect();
    format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
}

/// A kubeconfig for `server`, whose user has this line (`token: …`, `tokenFile: …`).
pub fn kubeconfig(server: &str, pem: &str, user: &str) -> String {
    let ca = STANDARD.encode(pem);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: test\nclusters:\n- name: test\n  cluster:\n    server: {server}\n    \
         certificate-authority-data: {ca}\ncontexts:\n- name: test\n  context:\n    cluster: test\n    user: test\nusers:\n\
         - name: test\n  user:\n    {user}\n"
    )
}
