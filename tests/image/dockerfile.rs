//! What the Dockerfile says, as far as it has to be understood to do it by hand.

use std::path::Path;

/// One instruction, its continuation lines joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// `RUN`
    pub word: String,
    /// What stands behind it, without flags.
    pub rest: String,
    /// `--from=build`, without the dashes.
    pub flags: Vec<(String, String)>,
}

/// The instructions from one `FROM` to the next, without it.
#[derive(Clone, Debug)]
pub struct Stage {
    /// What it starts from.
    pub from: String,
    /// Its name.
    pub name: Option<String>,
    /// In order.
    pub instructions: Vec<Instruction>,
}

/// Its stages.
///
/// # Panics
/// It cannot be read, or has an instruction that this knows nothing of.
#[must_use]
pub fn read(path: &Path) -> Vec<Stage> {
    let text = std::fs::read_to_string(path).expect("a Dockerfile");
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let joined = lines.collect::<Vec<_>>().join("\n").replace("\\\n", "");
    let mut stages: Vec<Stage> = Vec::new();
    for line in joined.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let instruction = Instruction::read(line);
        if instruction.word != "FROM" {
            stages.last_mut().expect("FROM comes first").instructions.push(instruction);
            continue;
        }
        let (from, name) = match instruction.rest.split_once(" AS ") {
            Some((from, name)) => (from, Some(name.to_owned())),
            None => (instruction.rest.as_str(), None),
        };
        stages.push(Stage { from: from.to_owned(), name, instructions: Vec::new() });
    }
    stages
}

impl Instruction {
    fn read(line: &str) -> Self {
        const KNOWN: [&str; 9] = ["FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "LABEL", "ENTRYPOINT", "CMD"];
        let (word, mut rest) = line.split_once(' ').unwrap_or((line, ""));
        assert!(KNOWN.contains(&word), "teach this test what {word} does: {line}");
        let mut flags = Vec::new();
        while let Some((flag, more)) = rest.trim_start().strip_prefix("--").and_then(|rest| rest.split_once(' ')) {
            let (key, value) = flag.split_once('=').expect("a flag with a value");
            flags.push((key.to_owned(), value.to_owned()));
            rest = more;
        }
        Self { word: word.to_owned(), rest: rest.trim().to_owned(), flags }
    }

    /// The value of a flag.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<&str> {
        self.flags.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

impl Stage {
    /// What stands behind each instruction of this name.
    #[must_use]
    pub fn all(&self, word: &str) -> Vec<&str> {
        self.instructions.iter().filter(|i| i.word == word).map(|i| i.rest.as_str()).collect()
    }

    /// What stands behind the only instruction of this name.
    ///
    /// # Panics
    /// There are none or several.
    #[must_use]
    pub fn only(&self, word: &str) -> &str {
        let all = self.all(word);
        assert_eq!(all.len(), 1, "{word}: {all:?}");
        all[0]
    }

    /// The words of an instruction that is a JSON list.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn list(&self, word: &str) -> Vec<String> {
        serde_json::from_str(self.only(word)).unwrap_or_else(|e| panic!("{word} is not in exec form: {e}"))
    }
}
