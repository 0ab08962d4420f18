//! One request and its answer.

use std::time::Duration;

use kube::core::Request;
use kube::core::params::{GetParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::Value;
use tokio::time::timeout;

use crate::watch::kubernetes::connect::Connection;
use crate::watch::kubernetes::follow::{Failure, whole};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// What is to be done with the objects of one path.
pub enum Ask<'a> {
    /// The object of this name.
    Get(&'a str),
    /// What a list with nothing but the object of this name says of its metadata. Unlike the object itself, a list is what
    /// every account of ours may read.
    Find(&'a str),
    /// A new object.
    Create(&'a Value),
    /// The object of this name, in the version that it holds.
    Replace(&'a str, &'a Value),
    /// Some fields of the object of this name.
    Merge(&'a str, &'a Value),
}

/// Asks, and reads the object that is the answer.
///
/// # Errors
/// What the API server said instead, or that it said nothing. The credentials are read again where that may help.
pub async fn call(connection: &Connection, path: &str, ask: Ask<'_>) -> Result<Value, Failure> {
    let request = Request::new(path);
    let octets = |value: &Value| value.to_string().into_bytes();
    let request = match ask {
        Ask::Get(name) => request.get(name, &GetParams::default()),
        Ask::Find(name) => {
            request.list_metadata(&ListParams::default().fields(&format!("metadata.name={name}")).limit(1))
        }
        Ask::Create(value) => request.create(&PostParams::default(), octets(value)),
        Ask::Replace(name, value) => request.replace(name, &PostParams::default(), octets(value)),
        Ask::Merge(name, value) => request.patch(name, &PatchParams::default(), &Patch::Merge(value)),
    };
    let request = request.map_err(|error| Failure::Garbled(error.to_string()))?;
    let body = timeout(LIMIT, whole(connection, request)).await.unwrap_or(Err(Failure::Silent(LIMIT)));
    if body.as_ref().is_err_and(Failure::wants_credentials) {
        // What cannot be read now may be there when it is tried again, and that this failed is told anyway.
        let _ = connection.renew();
    }
    serde_json::from_slice(&body?).map_err(|error| Failure::Garbled(error.to_string()))
}

/// Whether a request failed with this code.
pub fn is<T>(answer: &Result<T, Failure>, code: u16) -> bool {
    answer.as_ref().is_err_and(|failure| failure.code() == code)
}
