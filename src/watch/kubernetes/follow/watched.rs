//! What comes out of a follower: objects of the mesh, or Secrets, decoded straight from the answer's text.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{IntoDeserializer, MapAccess};

use super::super::resource::{Content, Resource};
use crate::watch::decode::{self, Decoded, Problem};
use crate::watch::item::{Item, Meta};
use crate::watch::loose::{Loose, Pairs, Shape, Text};

/// What a follower can give.
pub trait Watched: Send + Sized + 'static {
    /// As it stands in the text, which it borrows from. Reads whatever stands there: one odd object must not end a list.
    type Raw<'a>: Deserialize<'a> + Send;

    /// Its metadata, if it has any.
    fn meta<'r, 'a>(raw: &'r Self::Raw<'a>) -> Option<&'r Meta<'a>>;

    /// Decodes it; `None` for what nothing can be made of.
    fn read(resource: &Resource, raw: &Self::Raw<'_>) -> Option<Self>;
}

impl Watched for Decoded {
    type Raw<'a> = Loose<Item<'a>>;

    fn meta<'r, 'a>(raw: &'r Self::Raw<'a>) -> Option<&'r Meta<'a>> {
        read(read(Some(raw)).map(|item| &item.metadata))
    }

    fn read(resource: &Resource, raw: &Self::Raw<'_>) -> Option<Self> {
        let Content::Object(kind) = resource.content else { return Some(Self::Other) };
        let found = match raw {
            Loose::Read(item) => return Some(decode::item_as(kind, item)),
            Loose::Absent => "null",
            Loose::Wrong(found) => found,
        };
        Some(Self::Broken(
            None,
            vec![Problem {
                path: Vec::new(),
                what: format!("{found} where a {kind} has to be"),
                remedy: "check what stands between this server and the API server".to_owned(),
            }],
        ))
    }
}

/// A Secret with kubeconfigs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    /// `metadata.namespace`
    pub namespace: Box<str>,
    /// `metadata.name`
    pub name: Box<str>,
    /// `metadata.uid`
    pub uid: Box<str>,
    /// `metadata.creationTimestamp`, seconds since the epoch; 0 if it cannot be read.
    pub created: i64,
    /// `data`, decoded. A value that is not base64 is `None`.
    pub data: BTreeMap<Box<str>, Option<Vec<u8>>>,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.data.keys().map(|key| &**key).collect();
        write!(f, "Secret {}/{} with {keys:?}", self.namespace, self.name)
    }
}

/// A Secret as it stands in the text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct SecretIn<'a> {
    #[serde(borrow)]
    metadata: Loose<Meta<'a>>,
    data: Loose<Pairs<'a>>,
}

impl<'de: 'a, 'a> Shape<'de> for SecretIn<'a> {
    const WANT: &'static str = "a mapping";
    fn map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

impl Watched for Secret {
    type Raw<'a> = Loose<SecretIn<'a>>;

    fn meta<'r, 'a>(raw: &'r Self::Raw<'a>) -> Option<&'r Meta<'a>> {
        read(read(Some(raw)).map(|secret| &secret.metadata))
    }

    fn read(_resource: &Resource, raw: &Self::Raw<'_>) -> Option<Self> {
        let secret = read(Some(raw))?;
        let meta = read(Some(&secret.metadata))?;
        let data = read(Some(&secret.data)).map(|pairs| &*pairs.0).unwrap_or_default();
        Some(Self {
            namespace: text(&meta.namespace)?.into(),
            name: text(&meta.name)?.into(),
            uid: text(&meta.uid).unwrap_or_default().into(),
            created: text(&meta.creation_timestamp)
                .and_then(|time| time.parse::<jiff::Timestamp>().ok())
                .map_or(0, jiff::Timestamp::as_second),
            data: data.iter().map(|(key, value)| ((&**key).into(), text(value).and_then(bytes))).collect(),
        })
    }
}

/// The text of a field that is there.
pub fn text<'r>(value: &'r Text<'_>) -> Option<&'r str> {
    read(Some(value)).map(|text| &**text)
}

/// The value of a field that is there and as it should be.
pub fn read<T>(value: Option<&Loose<T>>) -> Option<&T> {
    match value {
        Some(Loose::Read(value)) => Some(value),
        _ => None,
    }
}

fn bytes(base64: &str) -> Option<Vec<u8>> {
    let deserializer: StrDeserializer<'_, serde::de::value::Error> = base64.into_deserializer();
    ByteString::deserialize(deserializer).ok().map(|bytes| bytes.0)
}
