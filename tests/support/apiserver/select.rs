//! Label and field selectors.

use super::object::Object;

/// Which objects a list or watch is about, besides their namespace.
#[derive(Debug, Clone, Default)]
pub(super) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(Field, bool, String)>,
}

#[derive(Debug, Clone)]
enum Requirement {
    Has(String),
    Lacks(String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
}

#[derive(Debug, Clone, Copy)]
enum Field {
    Name,
    Namespace,
    Node,
}

impl Selector {
    /// Reads both selectors; `node` says whether `spec.nodeName` is a field of these objects.
    ///
    /// # Errors
    /// What the server would complain about.
    pub(super) fn parse(labels: &str, fields: &str, node: bool) -> Result<Self, String> {
        let labels = terms(labels).into_iter().map(requirement).collect::<Result<_, _>>()?;
        let fields = terms(fields).into_iter().map(|term| field(term, node)).collect::<Result<_, _>>()?;
        Ok(Self { labels, fields })
    }

    /// Whether it lets everything through.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    pub(super) fn matches(&self, object: &Object) -> bool {
        let value = |key: &str| object.labels.iter().find(|(k, _)| k == key).map(|(_, v)| v);
        let label = |requirement: &Requirement| match requirement {
            Requirement::Has(key) => value(key).is_some(),
            Requirement::Lacks(key) => value(key).is_none(),
            Requirement::In(key, values) => value(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => value(key).is_none_or(|v| !values.contains(v)),
        };
        let field = |(field, equal, wanted): &(Field, bool, String)| {
            let has = match field {
                Field::Name => &object.name,
                Field::Namespace => &object.namespace,
                Field::Node => object.node.as_deref().unwrap_or_default(),
            };
            (has == wanted) == *equal
        };
        self.labels.iter().all(label) && self.fields.iter().all(field)
    }
}

/// The parts between commas that stand outside of parentheses.
fn terms(selector: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    let outside = |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    };
    selector.split(outside).map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn requirement(term: &str) -> Result<Requirement, String> {
    let owned = |text: &str| text.trim().to_owned();
    if let Some((key, values)) = term.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| format!("unable to parse requirement: {term}"))?;
        let values = values.split(',').map(owned).collect();
        return match key.trim().rsplit_once(' ') {
            Some((key, "in")) => Ok(Requirement::In(owned(key), values)),
            Some((key, "notin")) => Ok(Requirement::NotIn(owned(key), values)),
            _ => Err(format!("unable to parse requirement: {term}")),
        };
    }
    Ok(match (term.split_once("!="), term.split_once("==").or_else(|| term.split_once('='))) {
        (Some((key, value)), _) => Requirement::NotIn(owned(key), vec![owned(value)]),
        (None, Some((key, value))) => Requirement::In(owned(key), vec![owned(value)]),
        (None, None) => match term.strip_prefix('!') {
            Some(key) => Requirement::Lacks(owned(key)),
            None => Requirement::Has(owned(term)),
        },
    })
}

fn field(term: &str, node: bool) -> Result<(Field, bool, String), String> {
    let (key, equal, value) = match (term.split_once("!="), term.split_once("==").or_else(|| term.split_once('='))) {
        (Some((key, value)), _) => (key, false, value),
        (None, Some((key, value))) => (key, true, value),
        (None, None) => return Err(format!("invalid selector: '{term}'; can't understand '{term}'")),
    };
    let field = match key {
        "metadata.name" => Field::Name,
        "metadata.namespace" => Field::Namespace,
        "spec.nodeName" if node => Field::Node,
        _ => return Err(format!("field label not supported: {key}")),
    };
    Ok((field, equal, value.to_owned()))
}
