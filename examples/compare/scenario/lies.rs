//! An upstream whose true answer comes 50 ms after one that nobody must believe.

use std::time::Duration;

use serde::Serialize;

use super::{Scenario, with_one};
use crate::lab::client::Saw;
use crate::lab::server::Program;
use crate::lab::upstream::{LIE, Lie, Manner, TRUTH};

/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Lies {
    /// With another ID.
    pub id: Saw,
    /// To another question.
    pub question: Saw,
    /// From another address.
    pub source: Saw,
}

impl Scenario for Lies {
    const ROWS: &'static [&'static str] = &["before the true answer one with another ID; question; source comes"];

    async fn measure(program: &Program) -> Result<Self, String> {
        let (_server, client, upstream) = with_one(program, Manner::default()).await?;
        let mut seen = Vec::new();
        for lie in [Lie::Id, Lie::Question, Lie::Source] {
            upstream.set(Manner { lie: Some(lie), ..Manner::default() });
            seen.push(client.ask(&format!("{lie:?}.lies.example").to_lowercase(), PATIENCE).await);
        }
        let [id, question, source] = <[Saw; 3]>::try_from(seen).expect("three lies");
        Ok(Self { id, question, source })
    }

    fn cells(&self) -> Vec<String> {
        let what = |saw: &Saw| match &saw.answer {
            Some(answer) if answer.addresses == [TRUTH] => "the truth".to_owned(),
            Some(answer) if answer.addresses == [LIE] => "**the lie**".to_owned(),
            _ => saw.words(),
        };
        vec![format!("{}; {}; {}", what(&self.id), what(&self.question), what(&self.source))]
    }
}
