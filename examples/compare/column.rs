//! Every scenario for one server, and the table of several.

use std::time::Instant;

use serde_json::{Map, Value, json};

use super::Took;
use super::scenario::Scenario;
use super::scenario::dead::Dead;
use super::scenario::first::First;
use super::scenario::greedy::Greedy;
use super::scenario::herd::Herd;
use super::scenario::lies::Lies;
use super::scenario::negative::Negative;
use super::scenario::stale::Stale;
use super::scenario::truncated::Truncated;
use super::server::{Kind, Program};

/// What was measured of one server.
#[derive(Debug)]
pub struct Column {
    /// Its head.
    pub kind: Kind,
    /// What it says of its version; or why it was not measured.
    pub version: Result<String, String>,
    /// A label and a cell for each row.
    pub rows: Vec<(&'static str, String)>,
    /// The figures, by scenario.
    pub figures: Value,
}

impl Column {
    /// Puts a server through all scenarios.
    pub async fn of(program: &Program) -> Self {
        let mut column = Self::empty(program.kind, Ok(program.version()));
        column.through(Some(program)).await;
        column
    }

    /// A server that is not there.
    pub async fn missing(kind: Kind, why: &str) -> Self {
        let mut column = Self::empty(kind, Err(why.to_owned()));
        column.through(None).await;
        column
    }

    async fn through(&mut self, program: Option<&Program>) {
        self.add::<Dead>("dead", program).await;
        self.add::<Stale>("stale", program).await;
        self.add::<Herd>("herd", program).await;
        self.add::<First>("first", program).await;
        self.add::<Truncated>("truncated", program).await;
        self.add::<Lies>("lies", program).await;
        self.add::<Negative>("negative", program).await;
        self.add::<Greedy>("greedy", program).await;
    }

    fn empty(kind: Kind, version: Result<String, String>) -> Self {
        Self { kind, version, rows: Vec::new(), figures: Value::Object(Map::new()) }
    }

    async fn add<S: Scenario + serde::Serialize>(&mut self, name: &str, program: Option<&Program>) {
        let Some(program) = program else {
            self.rows.extend(S::ROWS.iter().map(|label| (*label, String::new())));
            return;
        };
        let start = Instant::now();
        let (cells, figures) = match S::measure(program).await {
            Ok(measured) => (measured.cells(), json!(measured)),
            Err(why) => (vec![why.clone(); S::ROWS.len()], json!({"error": why})),
        };
        eprintln!("{}: {name} ({})", self.kind.word(), Took(start.elapsed()));
        self.rows.extend(S::ROWS.iter().copied().zip(cells));
        self.figures[name] = figures;
    }
}

/// The columns side by side, in markdown.
#[must_use]
pub fn markdown(columns: &[Column]) -> String {
    let heads: Vec<&str> = columns.iter().map(|c| c.kind.title()).collect();
    let mut text = format!("| what a client sees | {} |\n|---|{}\n", heads.join(" | "), "---|".repeat(columns.len()));
    for (row, (label, _)) in columns[0].rows.iter().enumerate() {
        let cell = |c: &Column| c.version.as_ref().map_or_else(String::clone, |_| c.rows[row].1.replace('|', "/"));
        let cells: Vec<String> = columns.iter().map(cell).collect();
        text += &format!("| {label} | {} |\n", cells.join(" | "));
    }
    for column in columns {
        if let Ok(version) = &column.version {
            text += &format!("\n{}: {version}\n", column.kind.title());
        }
    }
    text
}

/// The figures of all columns.
#[must_use]
pub fn json(columns: &[Column]) -> Value {
    let one = |c: &Column| match &c.version {
        Ok(version) => json!({"version": version, "figures": c.figures}),
        Err(why) => json!({"missing": why}),
    };
    Value::Object(columns.iter().map(|c| (c.kind.word().to_owned(), one(c))).collect())
}
