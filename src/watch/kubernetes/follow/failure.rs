//! What an API server says when it fails, or that it says nothing, in words for operators.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

use super::super::resource::Resource;
use crate::watch::board::{Cause, Source, Trouble};

/// Longest text of an API server, or of a proxy before it, that is passed on.
const MAX_TEXT: usize = 300;

/// Why a request, or a stream, failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The API server's word.
    Said(Said),
    /// No connection, or it broke.
    Unreachable {
        /// The whole chain of reasons.
        text: String,
        /// Of certificates or keys, so that other ones may help.
        credentials: bool,
    },
    /// No answer within this time.
    Silent(Duration),
    /// An answer that cannot be read.
    Garbled(String),
}

/// What an API server said instead of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// HTTP status.
    pub code: u16,
    /// In its own words, cut.
    pub message: String,
    /// When to come back.
    pub retry_after: Option<Duration>,
    /// It does not know of the version yet that was asked for.
    pub too_large: bool,
}

impl Said {
    /// From the body of an answer, or the object of an event; `code` is that of the answer, if there is one.
    pub fn read(code: Option<u16>, body: &[u8]) -> Self {
        // A proxy, or an API server that does not know the path, answers in plain text.
        let Ok(status) = serde_json::from_slice::<Status>(body) else {
            let message = cut(&String::from_utf8_lossy(body));
            return Self { code: code.unwrap_or(500), message, ..Self::default() };
        };
        let details = status.details.as_ref();
        let seconds = details.map(|details| details.retry_after_seconds).filter(|seconds| *seconds > 0);
        let causes = details.map(|details| &*details.causes).unwrap_or_default();
        Self {
            code: code.filter(|code| *code != 0).unwrap_or(if status.code == 0 { 500 } else { status.code }),
            message: cut(if status.message.is_empty() { &status.reason } else { &status.message }),
            retry_after: seconds.map(|seconds| Duration::from_secs(seconds.into())),
            too_large: causes.iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
                || status.message.contains("Too large resource version"),
        }
    }
}

impl Failure {
    /// From the client, which did not even get an answer.
    pub fn client(error: &kube::Error) -> Self {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            let more = source.to_string();
            // kube's own errors already hold the text of the next one.
            if !text.contains(&more) {
                text = format!("{text}: {more}");
            }
            next = source.source();
        }
        let lower = text.to_ascii_lowercase();
        let credentials = ["certificate", "unknownca", "bearer token"].iter().any(|word| lower.contains(word));
        Self::Unreachable { text: cut(text.trim_start_matches("ServiceError: ")), credentials }
    }

    /// The HTTP status; 0 if there is no answer.
    pub fn code(&self) -> u16 {
        match self {
            Self::Said(said) => said.code,
            Self::Unreachable { .. } | Self::Silent(_) | Self::Garbled(_) => 0,
        }
    }

    /// Whether reading the credentials again may help.
    pub fn wants_credentials(&self) -> bool {
        match self {
            Self::Said(said) => said.code == 401,
            Self::Unreachable { credentials, .. } => *credentials,
            Self::Silent(_) | Self::Garbled(_) => false,
        }
    }

    /// In short, for people; `server` is what they know it by.
    pub fn text(&self, server: &str) -> String {
        match self {
            Self::Said(said) => format!("{server} says {}: {}", said.code, said.message),
            Self::Unreachable { text, .. } => format!("{server}: {text}"),
            Self::Silent(limit) => format!("{server} gives no answer within {} s", limit.as_secs()),
            Self::Garbled(text) => format!("{server} answers what cannot be read: {text}"),
        }
    }

    fn cause(&self) -> Cause {
        match self {
            Self::Said(Said { code: 401, .. }) | Self::Unreachable { credentials: true, .. } => Cause::Unauthorized,
            Self::Said(Said { code: 403, .. }) => Cause::Forbidden,
            Self::Unreachable { .. } | Self::Silent(_) => Cause::Unreachable,
            Self::Said(_) | Self::Garbled(_) => Cause::Other,
        }
    }

    /// For the board. `verb` is `list` or `watch`. What all resources of a cluster share is the same text for all.
    pub fn trouble(&self, verb: &str, resource: &Resource, source: &Source, server: &str) -> Trouble {
        let cluster = &source.cluster;
        let remedy = match self {
            Self::Said(said) => said_remedy(said.code, verb, resource, cluster),
            Self::Unreachable { credentials: true, .. } => {
                format!("check the certificates and keys in the kubeconfig of cluster {cluster}, and their dates")
            }
            Self::Unreachable { credentials: false, .. } => {
                "check that this API server runs and can be reached from this node".to_owned()
            }
            Self::Silent(_) => {
                "check what load this API server has, and whether something on the way drops packets".to_owned()
            }
            Self::Garbled(_) => {
                "check that the URL is that of an API server, and what proxy stands before it".to_owned()
            }
        };
        Trouble { text: self.text(server), remedy, cause: self.cause() }
    }
}

fn said_remedy(code: u16, verb: &str, resource: &Resource, cluster: &str) -> String {
    let name = resource.name();
    match code {
        401 => format!("give valid credentials for cluster {cluster}: a token or a certificate that has not expired"),
        403 => {
            let place = match &resource.namespace {
                Some(namespace) => format!("in namespace {namespace}"),
                None => "in the whole cluster".to_owned(),
            };
            format!("grant the verb {verb} on {name} {place}: apply deploy/rbac.yaml to cluster {cluster}")
        }
        404 => {
            format!("check that cluster {cluster} serves this resource, and that the URL is its API server's")
        }
        _ => "it is tried again; if it lasts, look into the API server's log".to_owned(),
    }
}

/// What it means that a custom resource does not exist.
pub fn missing(resource: &Resource, source: &Source) -> Trouble {
    let (name, cluster) = (resource.name(), &source.cluster);
    Trouble {
        text: format!("{name} does not exist in cluster {cluster}"),
        remedy: format!("install the CustomResourceDefinition of {name} if cluster {cluster} is to have any"),
        cause: Cause::Missing,
    }
}

fn cut(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::resource::Content;
    use super::*;
    use crate::mesh::object::Kind;

    fn segments() -> Resource {
        let namespace = Some("istio-system".into());
        Resource { namespace, ..Resource::new(Content::Object(Kind::Segment), "admin.solo.io", "v1alpha1", "segments") }
    }

    #[test]
    fn what_a_server_says_is_read_from_a_status_and_from_plain_text() {
        let plain = Said::read(Some(404), b"404 page not found\n");
        assert_eq!((plain.code, &*plain.message), (404, "404 page not found"));
        let busy = br#"{"kind":"Status","message":"storage is (re)initializing","reason":"TooManyRequests",
            "details":{"retryAfterSeconds":1},"code":429}"#;
        assert_eq!(Said::read(Some(429), busy).retry_after, Some(Duration::from_secs(1)));
        let future = br#"{"message":"Timeout: Too large resource version: 99999999, current: 281","reason":"Timeout",
            "details":{"causes":[{"reason":"ResourceVersionTooLarge"}],"retryAfterSeconds":1},"code":504}"#;
        assert!(Said::read(Some(504), future).too_large);
        let event = br#"{"message":"too old resource version: 1 (272)","reason":"Expired","code":410}"#;
        assert_eq!(Said::read(None, event).code, 410);
        assert_eq!(Said::read(None, b"{}").code, 500);
        assert!(Said::read(Some(502), &[b'x'; 9000]).message.len() < 400);
    }

    #[test]
    fn trouble_names_thing_place_and_remedy() {
        let source = Source { cluster: "east".into(), kind: "segments".into() };
        let said = |code, message: &str| Failure::Said(Said { code, message: message.into(), ..Said::default() });
        let trouble = said(403, "no").trouble("watch", &segments(), &source, "https://10.0.0.1");
        assert_eq!(trouble.text, "https://10.0.0.1 says 403: no");
        assert_eq!(
            trouble.remedy,
            "grant the verb watch on segments.admin.solo.io in namespace istio-system: apply deploy/rbac.yaml to \
             cluster east"
        );
        assert_eq!((trouble.cause, missing(&segments(), &source).cause), (Cause::Forbidden, Cause::Missing));
        for failure in [said(401, ""), said(503, ""), Failure::Silent(Duration::from_secs(30))] {
            let trouble = failure.trouble("list", &segments(), &source, "https://10.0.0.1");
            assert!(trouble.text.contains("10.0.0.1") && !trouble.remedy.is_empty(), "{trouble:?}");
        }
    }
}
