//! What clients write: new objects, whole ones in place of what is there, and merge patches (RFC 7396).

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Map, Value};

use super::request::{Target, Verb};
use super::resource::{Key, api_version};
use super::status::{Reply, bad_request, conflict, not_found};
use super::store::State;

/// Does it; the object as it is then, or the `Status` that says why not.
pub(super) fn write(state: &mut State, key: &Key, target: &Target, body: &Bytes) -> Result<Reply, Value> {
    let given: Value = serde_json::from_slice(body).map_err(|_| bad_request("the body is no JSON"))?;
    let name = target.name.as_deref().or(given["metadata"]["name"].as_str()).unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(bad_request("an object has to have a name"));
    }
    let place = (target.namespace.clone().unwrap_or_default(), name.clone());
    let table = state.table(key).ok_or_else(|| bad_request("there is no such resource"))?;
    let kind = table.resource.kind.clone();
    let old = table.objects.get(&place).map(|old| old.value());
    let (group, plural) = key;
    let mut object = match (target.verb, old) {
        (Verb::Create, None) => given,
        (Verb::Create, Some(_)) => return Err(conflict(group, plural, &name, true)),
        (_, None) => return Err(not_found(group, plural, &name)),
        (Verb::Patch, Some(old)) => {
            let mut object = Value::Object(old);
            merge(&mut object, given);
            object
        }
        (_, Some(old)) => {
            let (held, now) = (&given["metadata"]["resourceVersion"], &old["metadata"]["resourceVersion"]);
            if held != now {
                return Err(conflict(group, plural, &name, false));
            }
            given
        }
    };
    object["apiVersion"] = api_version(group, &target.version).into();
    object["kind"] = kind.as_str().into();
    object["metadata"]["name"] = name.into();
    if let Some(namespace) = &target.namespace {
        object["metadata"]["namespace"] = namespace.as_str().into();
    }
    state.put(object);
    let table = state.table(key).expect("it was there");
    let mut body = Vec::new();
    table.objects[&place].write(&table.resource.typed(&target.version), &mut body);
    let code = if target.verb == Verb::Create { StatusCode::CREATED } else { StatusCode::OK };
    Ok(Reply { code, ..Reply::bytes(body) })
}

fn merge(into: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *into = patch;
        return;
    };
    if !into.is_object() {
        *into = Value::Object(Map::new());
    }
    for (field, value) in patch {
        if value.is_null() {
            into.as_object_mut().expect("it is one").remove(&field);
        } else {
            merge(&mut into[field.as_str()], value);
        }
    }
}
