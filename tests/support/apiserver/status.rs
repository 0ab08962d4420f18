//! The `Status` objects of the server, worded as it words them.

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::request::{Target, Verb};
use super::resource::full_name;

/// A way in which a request fails.
#[derive(Debug, Clone, PartialEq)]
pub enum Failure {
    /// 401.
    Unauthorized,
    /// 403, worded for the request.
    Forbidden,
    /// 410 `Expired`, as after a restart of the server.
    Expired,
    /// 429 `storage is (re)initializing`, to be retried after a second.
    Reinitializing,
    /// 500.
    Internal,
    /// 503.
    Unavailable,
    /// 504.
    Timeout,
    /// Any other, as a `Status` object.
    Status(Value),
}

/// An answer that is no list and no watch.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) code: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) retry_after: Option<u64>,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn ok(value: &Value) -> Self {
        Self::bytes(value.to_string())
    }

    /// 200 with a JSON body.
    pub(super) fn bytes(body: impl Into<Bytes>) -> Self {
        Self { code: StatusCode::OK, content_type: "application/json", retry_after: None, body: body.into() }
    }

    /// A `Status` object, with the code that it names.
    pub(super) fn status(status: &Value) -> Self {
        let code = status["code"].as_u64().and_then(|c| u16::try_from(c).ok());
        let code = code.and_then(|c| StatusCode::from_u16(c).ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { code, retry_after: status["details"]["retryAfterSeconds"].as_u64(), ..Self::ok(status) }
    }

    /// What Go's router says where there is nothing.
    pub(super) fn no_page() -> Self {
        Self {
            code: StatusCode::NOT_FOUND,
            content_type: "text/plain; charset=utf-8",
            ..Self::bytes("404 page not found\n")
        }
    }
}

/// A failure, with what the server tells besides code and message.
pub(super) fn failure(code: u16, reason: &str, message: &str, details: Value) -> Value {
    let mut status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
    });
    if !reason.is_empty() {
        status["reason"] = reason.into();
    }
    if !details.is_null() {
        status["details"] = details;
    }
    status["code"] = code.into();
    status
}

impl Failure {
    /// The `Status` for this request, or for a line of its watch.
    pub(super) fn status(&self, target: Option<&Target>, user: &str) -> Value {
        match self {
            Self::Unauthorized => failure(401, "Unauthorized", "Unauthorized", Value::Null),
            Self::Forbidden => forbidden(target, user),
            Self::Expired => {
                failure(410, "Expired", "The resourceVersion for the provided watch is too old.", Value::Null)
            }
            Self::Reinitializing => {
                failure(429, "TooManyRequests", "storage is (re)initializing", json!({"retryAfterSeconds": 1}))
            }
            Self::Internal => {
                let details = json!({"causes": [{"message": "etcdserver: no leader"}]});
                failure(500, "InternalError", "Internal error occurred: etcdserver: no leader", details)
            }
            Self::Unavailable => {
                failure(503, "ServiceUnavailable", "the server is currently unable to handle the request", Value::Null)
            }
            Self::Timeout => {
                let message = "Timeout: request did not complete within the allotted timeout";
                failure(504, "Timeout", message, json!({}))
            }
            Self::Status(status) => status.clone(),
        }
    }
}

/// 403: what RBAC does not allow.
fn forbidden(target: Option<&Target>, user: &str) -> Value {
    let Some(Target { verb, group, plural, namespace, name, .. }) = target else {
        return failure(403, "Forbidden", &format!("forbidden: User \"{user}\" cannot get path"), json!({}));
    };
    let place = namespace.as_ref().map_or("at the cluster scope".to_owned(), |ns| format!("in the namespace \"{ns}\""));
    let which = name.as_ref().map_or(String::new(), |name| format!(" \"{name}\""));
    let message = format!(
        "{}{which} is forbidden: User \"{user}\" cannot {} resource \"{plural}\" in API group \"{group}\" {place}",
        full_name(group, plural),
        verb.name(),
    );
    let mut details = json!({});
    if let (Some(name), Verb::Get) = (name, verb) {
        details["name"] = name.as_str().into();
    }
    if !group.is_empty() {
        details["group"] = group.as_str().into();
    }
    details["kind"] = plural.as_str().into();
    failure(403, "Forbidden", &message, details)
}

/// 404 for an object.
pub(super) fn not_found(group: &str, plural: &str, name: &str) -> Value {
    let mut details = json!({"name": name});
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details["kind"] = plural.into();
    failure(404, "NotFound", &format!("{} \"{name}\" not found", full_name(group, plural)), details)
}

/// 409 for an object that is there already, or that has changed meanwhile.
pub(super) fn conflict(group: &str, plural: &str, name: &str, exists: bool) -> Value {
    let (reason, why) = if exists {
        ("AlreadyExists", "already exists")
    } else {
        ("Conflict", "the object has been modified; please apply your changes to the latest version and try again")
    };
    let details = json!({"name": name, "group": group, "kind": plural});
    failure(409, reason, &format!("{} \"{name}\": {why}", full_name(group, plural)), details)
}

/// 504 for a resourceVersion that is not reached.
pub(super) fn too_large(asked: u64, current: u64) -> Value {
    let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
    let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
    failure(504, "Timeout", &message, json!({"causes": causes, "retryAfterSeconds": 1}))
}

/// 500 for a resourceVersion that is no number.
pub(super) fn bad_version(text: &str) -> Value {
    let message =
        format!("resourceVersion: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax");
    failure(500, "", &message, Value::Null)
}

/// 422 for parameters of a list or watch that do not go together.
pub(super) fn invalid_option(field: &str, message: &str) -> Value {
    let cause = json!({"reason": "FieldValueForbidden", "message": format!("Forbidden: {message}"), "field": field});
    let details = json!({"group": "meta.k8s.io", "kind": "ListOptions", "causes": [cause]});
    let message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {message}");
    failure(422, "Invalid", &message, details)
}

/// 400.
pub(super) fn bad_request(message: &str) -> Value {
    failure(400, "BadRequest", message, Value::Null)
}

/// 410 in the stream of a watch.
pub(super) fn too_old(asked: u64, oldest: u64) -> Value {
    failure(410, "Expired", &format!("too old resource version: {asked} ({oldest})"), Value::Null)
}

/// A line of a watch that says why it ends.
pub(super) fn error_line(status: &Value) -> Bytes {
    format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n").into()
}
