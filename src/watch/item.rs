//! The slim shape of every kind that is read, in one struct: a manifest may name its `kind` after everything else, so
//! the kind is not known while its fields go by.

use serde::Deserialize;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;
use serde_saphyr::Spanned;

use super::loose::{Keys, List, Loose, Pairs, Shape, Text};

/// One object, or a list of them, as it stands in a manifest or comes from an API server.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Item<'a> {
    /// `apiVersion`
    #[serde(borrow)]
    pub api_version: Text<'a>,
    /// `kind`
    pub kind: Text<'a>,
    /// `metadata`
    pub metadata: Loose<Meta<'a>>,
    /// `spec`
    pub spec: Loose<Spec<'a>>,
    /// `status`
    pub status: Loose<Status<'a>>,
    /// `addressType` of an EndpointSlice
    pub address_type: Text<'a>,
    /// `endpoints` of an EndpointSlice
    pub endpoints: List<EndpointIn<'a>>,
    /// `ports` of an EndpointSlice
    pub ports: List<PortIn<'a>>,
    /// `items` of a List. Only YAML can say where each stands, so a List in JSON proper has to be taken apart first.
    pub items: Loose<Vec<Spanned<Loose<Item<'a>>>>>,
}

/// `metadata`
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Meta<'a> {
    /// `name`
    #[serde(borrow)]
    pub name: Text<'a>,
    /// `namespace`
    pub namespace: Text<'a>,
    /// `uid`
    pub uid: Text<'a>,
    /// `resourceVersion`
    pub resource_version: Text<'a>,
    /// `creationTimestamp`, RFC 3339
    pub creation_timestamp: Text<'a>,
    /// `deletionTimestamp`, RFC 3339
    pub deletion_timestamp: Text<'a>,
    /// `labels`
    pub labels: Loose<Pairs<'a>>,
    /// `annotations`
    pub annotations: Loose<Pairs<'a>>,
}

/// `spec` of every kind that has one.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec<'a> {
    /// Service: ExternalName or another type
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    /// Service
    #[serde(rename = "clusterIP")]
    pub cluster_ip: Text<'a>,
    /// Service
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Loose<Vec<Text<'a>>>,
    /// Service
    pub external_name: Text<'a>,
    /// Service
    pub publish_not_ready_addresses: Loose<bool>,
    /// Service, ServiceEntry
    pub ports: List<PortIn<'a>>,
    /// Pod
    pub node_name: Text<'a>,
    /// Pod
    pub host_network: Loose<bool>,
    /// Pod
    pub dns_policy: Text<'a>,
    /// Pod
    pub dns_config: Loose<DnsConfig<'a>>,
    /// Segment
    pub domain: Text<'a>,
    /// Segment
    pub aliases: List<AliasIn<'a>>,
    /// ServiceEntry
    pub hosts: Loose<Vec<Text<'a>>>,
    /// ServiceEntry: addresses and CIDRs
    pub addresses: Loose<Vec<Text<'a>>>,
    /// ServiceEntry
    pub endpoints: List<InlineEndpoint<'a>>,
}

/// `spec.dnsConfig` of a Pod
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct DnsConfig<'a> {
    /// Search domains after those of the cluster and the node.
    #[serde(borrow)]
    pub searches: Loose<Vec<Text<'a>>>,
}

/// `status` of every kind whose status is read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status<'a> {
    /// Pod
    #[serde(borrow)]
    pub phase: Text<'a>,
    /// Pod
    #[serde(rename = "podIP")]
    pub pod_ip: Text<'a>,
    /// Pod
    #[serde(rename = "podIPs")]
    pub pod_ips: List<PodIp<'a>>,
    /// ServiceEntry
    pub addresses: List<StatusAddress<'a>>,
}

/// `status.podIPs[]`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PodIp<'a> {
    /// The address.
    #[serde(borrow)]
    pub ip: Text<'a>,
}

/// `status.addresses[]` of a ServiceEntry
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct StatusAddress<'a> {
    /// For which of its hosts.
    #[serde(borrow)]
    pub host: Text<'a>,
    /// The address.
    pub value: Text<'a>,
}

/// A port of a Service (`port`), an EndpointSlice (`port`) or a ServiceEntry (`number`).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PortIn<'a> {
    /// Its name.
    #[serde(borrow)]
    pub name: Text<'a>,
    /// Its number.
    pub port: Loose<u64>,
    /// Its number.
    pub number: Loose<u64>,
    /// Its transport or application protocol.
    pub protocol: Text<'a>,
}

/// `endpoints[]` of an EndpointSlice
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct EndpointIn<'a> {
    /// Its addresses.
    #[serde(borrow)]
    pub addresses: Loose<Vec<Text<'a>>>,
    /// Its conditions.
    pub conditions: Loose<Conditions>,
    /// Its name below the Service.
    pub hostname: Text<'a>,
}

/// `endpoints[].conditions`
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Missing counts as ready (R6).
    pub ready: Loose<bool>,
}

/// `spec.endpoints[]` of a ServiceEntry
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct InlineEndpoint<'a> {
    /// An IP address, a host name or a Unix socket.
    #[serde(borrow)]
    pub address: Text<'a>,
}

/// `spec.aliases[]` of a Segment
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct AliasIn<'a> {
    /// The pattern (R9).
    #[serde(borrow)]
    pub pattern: Text<'a>,
    /// Which services.
    pub selector: Loose<Selector<'a>>,
}

/// `spec.aliases[].selector`
#[derive(Debug, Default)]
pub struct Selector<'a> {
    /// `matchLabels`
    pub match_labels: Loose<Pairs<'a>>,
    /// Names of all other fields that are there.
    pub others: Vec<String>,
}

macro_rules! mapping {
    ($($name:ident)*) => {$(
        impl<'de: 'a, 'a> Shape<'de> for $name<'a> {
            const WANT: &'static str = "a mapping";
            fn map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
                Self::deserialize(MapAccessDeserializer::new(map)).map(Some)
            }
        }
    )*};
}
mapping!(Item Meta Spec DnsConfig Status PodIp StatusAddress PortIn EndpointIn InlineEndpoint AliasIn);

impl<'de> Shape<'de> for Conditions {
    const WANT: &'static str = "a mapping";
    fn map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(map)).map(Some)
    }
}

impl<'de: 'a, 'a> Shape<'de> for Selector<'a> {
    const WANT: &'static str = "a mapping";
    fn map<A: MapAccess<'de>>(mut map: A) -> Result<Option<Self>, A::Error> {
        let mut selector = Self::default();
        while let Some(key) = map.next_key::<String>()? {
            if key == "matchLabels" {
                selector.match_labels = map.next_value()?;
            } else {
                // An empty list or null asks for nothing.
                match map.next_value::<Loose<Asked>>()? {
                    Loose::Absent | Loose::Read(Asked(false)) => {}
                    Loose::Read(Asked(true)) | Loose::Wrong(_) => selector.others.push(key),
                }
            }
        }
        Ok(Some(selector))
    }
}

/// Whether a list or mapping asks for anything.
struct Asked(bool);

impl<'de> Shape<'de> for Asked {
    const WANT: &'static str = "a list";
    fn map<A: MapAccess<'de>>(map: A) -> Result<Option<Self>, A::Error> {
        Ok(Keys::map(map)?.map(|keys| Self(!keys.0.is_empty())))
    }
    fn seq<A: serde::de::SeqAccess<'de>>(seq: A) -> Result<Option<Self>, A::Error> {
        Ok(Vec::<serde::de::IgnoredAny>::seq(seq)?.map(|list| Self(!list.is_empty())))
    }
}
