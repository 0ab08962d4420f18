//! An object as it is kept: its serialized form, made once, and what selectors ask for.

use bytes::Bytes;
use serde_json::{Map, Value};

/// An object of the store. Its body has `metadata` first and neither `kind` nor `apiVersion`, so that every form of it
/// (an item, with its type, its metadata alone) is a prefix and a piece of the same octets.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) labels: Vec<(String, String)>,
    pub(super) node: Option<String>,
    body: Bytes,
    metadata_end: usize,
}

/// How an object is written to one client.
#[derive(Debug, Clone)]
pub(super) struct Form {
    /// What stands before the metadata: `{`, or `{` with kind and apiVersion.
    prefix: String,
    partial: bool,
}

impl Form {
    /// The whole object without its type, as an item of a built-in list.
    pub(super) fn bare() -> Self {
        Self { prefix: "{".to_owned(), partial: false }
    }

    /// The whole object with its type.
    pub(super) fn typed(kind: &str, api_version: &str) -> Self {
        Self { prefix: format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","#), partial: false }
    }

    /// Its metadata only.
    pub(super) fn partial() -> Self {
        Self { partial: true, ..Self::typed("PartialObjectMetadata", "meta.k8s.io/v1") }
    }

    /// Writes an object that has this metadata and nothing else but `zero`, the fields that the kind always has.
    pub(super) fn bookmark(&self, metadata: &Value, zero: &str) -> String {
        let zero = if self.partial { "" } else { zero };
        format!(r#"{}"metadata":{metadata}{zero}}}"#, self.prefix)
    }
}

impl Object {
    /// Serializes an object that has its namespace, name and resourceVersion.
    pub(super) fn encode(object: &Map<String, Value>, version: u64) -> Self {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let mut body = br#"{"metadata":"#.to_vec();
        let write = |body: &mut Vec<u8>, value: &Value| serde_json::to_writer(body, value).expect("a Value is JSON");
        write(&mut body, metadata);
        let metadata_end = body.len();
        for (field, value) in object.iter().filter(|(f, _)| !["kind", "apiVersion", "metadata"].contains(&f.as_str())) {
            body.push(b',');
            write(&mut body, &Value::String(field.clone()));
            body.push(b':');
            write(&mut body, value);
        }
        body.push(b'}');
        let labels = metadata["labels"].as_object().into_iter().flatten();
        Self {
            namespace: text("namespace"),
            name: text("name"),
            version,
            labels: labels.map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned())).collect(),
            node: object.get("spec").and_then(|s| s["nodeName"].as_str()).map(ToOwned::to_owned),
            body: body.into(),
            metadata_end,
        }
    }

    /// Its body as a value, without its type.
    pub(super) fn value(&self) -> Map<String, Value> {
        serde_json::from_slice(&self.body).expect("what was serialized")
    }

    /// The same object with another resourceVersion: how a deletion is told.
    pub(super) fn at(&self, version: u64) -> Self {
        let mut value = self.value();
        value["metadata"]["resourceVersion"] = version.to_string().into();
        Self::encode(&value, version)
    }

    /// Appends it in this form.
    pub(super) fn write(&self, form: &Form, out: &mut Vec<u8>) {
        out.extend_from_slice(form.prefix.as_bytes());
        if form.partial {
            out.extend_from_slice(&self.body[1..self.metadata_end]);
            out.push(b'}');
        } else {
            out.extend_from_slice(&self.body[1..]);
        }
    }

    /// Appends a line of a watch.
    pub(super) fn write_event(&self, kind: &str, form: &Form, out: &mut Vec<u8>) {
        out.extend_from_slice(format!(r#"{{"type":"{kind}","object":"#).as_bytes());
        self.write(form, out);
        out.extend_from_slice(b"}\n");
    }
}
