//! All servers of a run, started one after the other and ended together.

use std::collections::HashMap;
use std::time::Duration;

use crate::data::Kind;
use crate::generate;
use crate::servers::{Program, Running, Setting};

/// The kinds for which there is an echo: those of the table of targets.
pub const TARGETS: [Kind; 4] = [Kind::Visible, Kind::Hidden, Kind::Takeover, Kind::External];
/// How much longer an answer is than its query, where segdns does not run: one A record.
const RECORD: usize = 16;

/// The servers.
#[derive(Debug)]
pub struct Fleet {
    /// What they were told.
    pub setting: Setting,
    /// Those that run, but for echoes.
    pub servers: Vec<Running>,
    /// Why others do not.
    pub missing: Vec<(Program, String)>,
    /// By how many octets they add.
    echoes: HashMap<usize, Running>,
    added: HashMap<Kind, usize>,
}

impl Fleet {
    /// Starts these. One that does not start is missing, and the rest goes on.
    #[must_use]
    pub fn start(setting: Setting, programs: &[Program]) -> Self {
        let mut fleet =
            Self { setting, servers: Vec::new(), missing: Vec::new(), echoes: HashMap::new(), added: HashMap::new() };
        for program in programs.iter().copied().filter(|program| *program != Program::Echo) {
            match program.start(&fleet.setting, 0) {
                Ok(server) => {
                    eprintln!("peers: {} runs, after {:.1} s", program.word(), server.started_in.as_secs_f64());
                    fleet.servers.push(server);
                }
                Err(why) => {
                    eprintln!("peers: without {}: {why}", program.word());
                    fleet.missing.push((program, why));
                }
            }
        }
        if programs.contains(&Program::Echo) {
            fleet.start_echoes();
        }
        fleet
    }

    /// One for each length that segdns's answers have, so that what is copied and sent is the same.
    fn start_echoes(&mut self) {
        for kind in TARGETS {
            let added = self.added_by_segdns(kind).unwrap_or(RECORD);
            self.added.insert(kind, added);
            if !self.echoes.contains_key(&added) {
                match Program::Echo.start(&self.setting, added) {
                    Ok(echo) => drop(self.echoes.insert(added, echo)),
                    Err(why) => self.missing.push((Program::Echo, why)),
                }
            }
        }
    }

    fn added_by_segdns(&self, kind: Kind) -> Option<usize> {
        let segdns = self.server(Program::Segdns, kind)?;
        let question = self.setting.plan.questions(kind, 1, 1).pop()?;
        let from = self.setting.plan.caller(question.caller);
        let answer = generate::ask(from, segdns.at, &question.wire, Duration::from_secs(2)).ok()?;
        answer.len().checked_sub(question.wire.len())
    }

    /// The one that answers this kind, if it runs.
    #[must_use]
    pub fn server(&self, program: Program, kind: Kind) -> Option<&Running> {
        if program == Program::Echo {
            return self.echoes.get(self.added.get(&kind)?);
        }
        self.servers.iter().find(|server| server.program == program)
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self, program: Program) -> bool {
        self.server(program, Kind::Visible).is_some()
    }
}
