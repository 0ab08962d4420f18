//! The views for people: aligned columns, nothing wrapped, no colours.

use std::io::Write;

use serde_json::Value;

/// Prints a text and a line feed. Whoever reads it may have gone (`| head`); that is no error.
pub fn out(text: &str) {
    drop(writeln!(std::io::stdout(), "{}", text.trim_end()));
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or("-")
}

fn list(value: &Value) -> Vec<&str> {
    value.as_array().map(|all| all.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}

fn joined(value: &Value) -> String {
    let all = list(value);
    if all.is_empty() { "-".to_owned() } else { all.join(",") }
}

/// `cluster: Kind namespace/name`
fn object(value: &Value) -> String {
    let (cluster, kind, name) = (text(value, "cluster"), text(value, "kind"), text(value, "name"));
    match value["namespace"].as_str() {
        Some(namespace) => format!("{cluster}: {kind} {namespace}/{name}"),
        None => format!("{cluster}: {kind} {name}"),
    }
}

/// Rows under their titles; the last column is as wide as it is.
fn columns(titles: &[&str], rows: &[Vec<String>]) -> String {
    let width = |ix: usize| {
        let cells = rows.iter().filter_map(|row| row.get(ix)).map(|cell| cell.chars().count());
        cells.chain([titles[ix].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(titles.to_vec());
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(head).chain(body).collect::<Vec<_>>().join("\n")
}

/// `check`
pub fn reports(value: &Value) -> String {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "no reports".to_owned();
    }
    let row = |r: &Value| {
        let what = format!("{} -> {}", text(r, "text"), text(r, "remedy"));
        vec![text(r, "kind").to_owned(), text(r, "rule").to_owned(), object(&r["object"]), what]
    };
    columns(&["KIND", "RULE", "OBJECT", "PROBLEM -> REMEDY"], &all.iter().map(row).collect::<Vec<_>>())
}

/// `table`
pub fn names(value: &Value) -> String {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "no names".to_owned();
    }
    let row = |r: &Value| {
        let visible = r["visible_to"].as_str().map_or_else(|| joined(&r["visible_to"]), ToOwned::to_owned);
        let objects = r["objects"].as_array().map(|all| all.iter().map(object).collect::<Vec<_>>());
        vec![
            text(r, "name").to_owned(),
            text(r, "segment").to_owned(),
            text(r, "scope").to_owned(),
            joined(&r["addresses"]),
            visible,
            objects.unwrap_or_default().join(", "),
        ]
    };
    let titles = ["NAME", "SEGMENT", "SCOPE", "ADDRESSES", "VISIBLE TO", "OBJECTS"];
    columns(&titles, &all.iter().map(row).collect::<Vec<_>>())
}

/// `explain`
pub fn explanation(value: &Value) -> String {
    let caller = &value["caller"];
    let pod = caller["pod"].as_str().map(|pod| format!("pod {}/{pod}", text(caller, "namespace")));
    let address = caller["address"].as_str().map(ToOwned::to_owned);
    let who: Vec<String> = pod.into_iter().chain(address).collect();
    let who = if who.is_empty() { "any caller".to_owned() } else { who.join(" ") };
    let enrolled = if caller["enrolled"] == true { "enrolled" } else { "not enrolled" };
    let mut lines = vec![
        format!("{} {}", text(value, "name"), text(value, "type")),
        format!("  from    {who}, segment {}, {enrolled}", text(caller, "segment")),
    ];
    let ttl = value["ttl"].as_u64().map(|ttl| format!(", TTL {ttl}")).unwrap_or_default();
    let rcode = value["rcode"].as_str().unwrap_or("whatever the upstream says");
    let answers = list(&value["answers"]);
    let answers = if answers.is_empty() { String::new() } else { format!(": {}", answers.join(", ")) };
    lines.push(format!("  answer  {rcode}{ttl}{answers}"));
    lines.push(format!(
        "  why     {} ({}), from {}",
        text(value, "reason"),
        text(value, "rule"),
        text(value, "source")
    ));
    lines.push(String::new());
    lines.extend(text(value, "text").lines().map(ToOwned::to_owned));
    let objects = value["objects"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !objects.is_empty() {
        lines.push(String::new());
        lines.push("objects".to_owned());
        lines.extend(objects.iter().map(|o| format!("  {}", object(o))));
    }
    lines.join("\n")
}
