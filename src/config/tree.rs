//! The configuration as a small tree that knows its lines, with the environment put in.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::ConfigError;

/// A value.
#[derive(Debug)]
pub enum Node {
    /// Nothing, or null.
    Null,
    /// `true`, `false` and how else YAML 1.1 spells them.
    Bool(bool),
    /// A whole number.
    Number(u64),
    /// Any other number.
    Fraction(f64),
    /// Anything else that is one value.
    Text(String),
    /// A list.
    List(Vec<Spanned<Node>>),
    /// A mapping, in order.
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

struct NodeVisitor;

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(u64::try_from(value).map_or_else(|_| Node::Text(value.to_string()), Node::Number))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Fraction(value))
    }
    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = seq.next_element()? {
            list.push(element);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Node::Map(entries))
    }
}

/// Parses, and puts the environment in.
pub fn parse(text: &str, file: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Spanned<Node>, ConfigError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let mut root: Spanned<Node> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| bad(file, &error))?;
    expand(&mut root, "", file, env)?;
    Ok(root)
}

fn bad(file: &str, error: &Error) -> ConfigError {
    let error = error.without_snippet();
    let line = error.location().map(|at| at.line()).filter(|line| *line > 0);
    match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            ConfigError::new(file, line, key, "this key is there twice; remove one of the two")
        }
        Error::MultipleDocuments { .. } => {
            ConfigError::new(file, line, "", "a second document starts here; a configuration is one, remove the `---`")
        }
        _ => {
            let message = crate::watch::yaml::message(error);
            ConfigError::new(file, line, "", format_args!("it is no YAML: {message}; correct it there"))
        }
    }
}

fn expand(
    node: &mut Spanned<Node>,
    path: &str,
    file: &str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<(), ConfigError> {
    let line = node.defined.line();
    match &mut node.value {
        Node::Text(text) => {
            if let Some(new) = expanded(text, env).map_err(|what| ConfigError::new(file, Some(line), path, what))? {
                *text = new;
            }
        }
        Node::List(list) => {
            for (index, element) in list.iter_mut().enumerate() {
                expand(element, &format!("{path}[{index}]"), file, env)?;
            }
        }
        Node::Map(entries) => {
            for (key, value) in entries {
                expand(value, &below(path, &key.value), file, env)?;
            }
        }
        Node::Null | Node::Bool(_) | Node::Number(_) | Node::Fraction(_) => {}
    }
    Ok(())
}

/// A text with `${NAME}` replaced; `None` if it has none. There is no way to write `${` itself: no value needs it.
fn expanded(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<String>, String> {
    if !text.contains("${") {
        return Ok(None);
    }
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!("{text:?} has `${{` without `}}`; write ${{NAME}}"));
        };
        let value = env(name).ok_or_else(|| {
            format!("environment variable {name:?} is not set; set it, or write the value in place of ${{{name}}}")
        })?;
        out.push_str(before);
        out.push_str(&value);
        rest = after;
    }
    out.push_str(rest);
    Ok(Some(out))
}

/// The path of a key below another.
pub fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// The line of every key and list element.
pub fn lines(node: &Spanned<Node>, path: &str, out: &mut BTreeMap<String, u64>) {
    match &node.value {
        Node::List(list) => {
            for (index, element) in list.iter().enumerate() {
                let path = format!("{path}[{index}]");
                out.insert(path.clone(), element.defined.line());
                lines(element, &path, out);
            }
        }
        Node::Map(entries) => {
            for (key, value) in entries {
                let path = below(path, &key.value);
                out.insert(path.clone(), key.defined.line());
                lines(value, &path, out);
            }
        }
        _ => {}
    }
}
