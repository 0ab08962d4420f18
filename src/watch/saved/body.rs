//! The objects in the file: for each cluster its name, then its objects, each after a byte 1, then a byte 0. Names and
//! objects are in postcard's encoding. No count says how much follows, so none can lie.

use std::cell::OnceCell;

use postcard::ser_flavors::Flavor;
use ring::digest::{SHA256, digest};

use super::SavedCluster;
use crate::mesh::object::Object;

/// An object follows.
const MORE: u8 = 1;
/// The cluster ends.
const END: u8 = 0;

/// Encoded clusters.
#[derive(Debug, Default)]
pub struct Body {
    bytes: Vec<u8>,
    clusters: usize,
    objects: usize,
    sha256: OnceCell<String>,
}

impl Body {
    /// As it stands in the file.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many clusters are in it.
    #[must_use]
    pub fn clusters(&self) -> usize {
        self.clusters
    }

    /// How many objects are in it, of all clusters.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.objects
    }

    /// Its SHA-256 in hexadecimal; worked out when it is first asked for, since [`encode`] has to be quick.
    #[must_use]
    pub fn sha256(&self) -> &str {
        self.sha256.get_or_init(|| sha256(&self.bytes))
    }
}

/// Encodes clusters, the local one first. It is quick, because it runs where changes wait for it; `expected` is how many
/// bytes it will come to, if that is known from the last time.
///
/// # Panics
/// An object has a sequence that does not know its length; none has.
#[must_use]
pub fn encode<'a, O>(clusters: impl IntoIterator<Item = (&'a str, O)>, expected: usize) -> Body
where
    O: IntoIterator<Item = Object>,
{
    let mut out = Body { bytes: Vec::with_capacity(expected), ..Body::default() };
    for (name, objects) in clusters {
        out.clusters += 1;
        put(name, &mut out.bytes);
        for object in objects {
            out.objects += 1;
            out.bytes.push(MORE);
            put(&object, &mut out.bytes);
        }
        out.bytes.push(END);
    }
    out
}

fn put<T: serde::Serialize + ?Sized>(value: &T, bytes: &mut Vec<u8>) {
    postcard::serialize_with_flavor(value, Append(bytes)).expect("every sequence of an object knows its length");
}

/// Postcard's own writers to a `Vec` own it, or copy byte for byte.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Decodes what [`encode`] made; any bytes are safe to give. It allocates in proportion to `bytes`, whatever they say.
///
/// # Errors
/// What is wrong and where, e.g. `at byte 17 of the objects: Hit the end of buffer, expected more data`.
pub fn decode(bytes: &[u8]) -> Result<Vec<SavedCluster>, String> {
    let mut rest = bytes;
    let mut clusters = Vec::new();
    while !rest.is_empty() {
        clusters.push(cluster(&mut rest).map_err(|what| {
            let at = bytes.len() - rest.len();
            format!("at byte {at} of the objects: {what}")
        })?);
    }
    Ok(clusters)
}

fn cluster(rest: &mut &[u8]) -> Result<SavedCluster, String> {
    let name: &str = take(rest)?;
    let mut cluster = SavedCluster { name: name.into(), objects: Vec::new() };
    loop {
        match take(rest)? {
            MORE => cluster.objects.push(take::<Object>(rest)?),
            END => return Ok(cluster),
            other => return Err(format!("{other} is neither another object nor the cluster's end")),
        }
    }
}

fn take<'a, T: serde::Deserialize<'a>>(rest: &mut &'a [u8]) -> Result<T, String> {
    let (value, after) = postcard::take_from_bytes(rest).map_err(|error| error.to_string())?;
    *rest = after;
    Ok(value)
}

/// SHA-256 in hexadecimal, as `sha256sum` prints it.
pub(super) fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in digest(&SHA256, bytes).as_ref() {
        // A String takes all that is written to it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
