//! Commands and flags, and how flags override the configuration file (contract section 5).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::config::ConfigCommand;
use crate::config::{Config, ConfigError, Level, ManifestDir, Upstream, Zone};

/// Node-local DNS for Kubernetes that knows mesh segments
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
pub struct Args {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What segdns can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer DNS
    Serve(ServeArgs),
    /// Print what is wrong with the objects; exit status 1 if anything is
    Check(AskArgs),
    /// Print all names with who sees them, or those that one caller sees
    Table(TableArgs),
    /// Say what a caller is answered, by which rule, from which object of which cluster, or what hides it
    Explain(ExplainArgs),
    /// Ask a running server whether it is well, within 2 s; exit status 1 if it is not
    Probe(ProbeArgs),
    /// Make the node's addresses that DNS is answered on
    Setup(super::setup::SetupArgs),
    /// Undo `setup`
    Teardown(super::setup::TeardownArgs),
    /// Judge a configuration, or print what can be in one
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completions of a shell
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Print the manual page, or write one for each command
    Man {
        /// Where to write them
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    #[default]
    Table,
    /// For programs
    Json,
}

/// Whom to ask, and how to print it.
#[derive(Clone, Debug, clap::Args)]
pub struct AskArgs {
    /// Where objects and settings come from
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Ask the running server with this admin address instead
    #[arg(long, value_name = "ADDR:PORT", conflicts_with_all = ["config", "manifests", "kubernetes"])]
    pub server: Option<SocketAddr>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
}

/// Flags of `table`.
#[derive(Clone, Debug, clap::Args)]
pub struct TableArgs {
    /// Only the names that this caller sees: an IP address, namespace/pod, or segment:NAME
    #[arg(long = "as", value_name = "CALLER")]
    pub caller: Option<String>,
    /// Whom to ask, and how to print it
    #[command(flatten)]
    pub ask: AskArgs,
}

/// Flags of `explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    /// The whole name; a dot at its end changes nothing
    pub name: String,
    /// A, AAAA, SRV, TXT and the like, or TYPE65 for a number
    #[arg(value_name = "TYPE", default_value = "A")]
    pub rtype: String,
    /// Who asks: an IP address, namespace/pod, or segment:NAME
    #[arg(long, value_name = "CALLER")]
    pub from: String,
    /// Whom to ask, and how to print it
    #[command(flatten)]
    pub ask: AskArgs,
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Probe {
    /// Names are answered: /readyz
    Ready,
    /// Queries are answered: /healthz
    Live,
}

/// Flags of `probe`.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeArgs {
    /// What to ask
    pub what: Probe,
    /// The server with this admin socket
    #[arg(long, value_name = "PATH", required_unless_present = "server", conflicts_with = "server")]
    pub socket: Option<PathBuf>,
    /// The server with this admin address
    #[arg(long, value_name = "ADDR:PORT")]
    pub server: Option<SocketAddr>,
}

/// Where objects and settings come from.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct SourceArgs {
    /// Configuration file (YAML); flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Directory of manifests, as `kubectl get -o yaml` prints them; the first is the local cluster, others are peers
    #[arg(long, value_name = "[CLUSTER=]DIR")]
    pub manifests: Vec<String>,
    /// Watch the API server: the pod's own account, or KUBECONFIG
    #[arg(long)]
    pub kubernetes: bool,
    /// The node whose pods are callers
    #[arg(long, env = "NODE_NAME")]
    pub node: Option<String>,
}

/// Flags of `serve`.
#[derive(Clone, Debug, clap::Args)]
pub struct ServeArgs {
    /// Where objects and settings come from
    #[command(flatten)]
    pub sources: SourceArgs,
    /// Address to answer DNS on, UDP and TCP
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Vec<SocketAddr>,
    /// Address of metrics, health and debug endpoints
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,
    /// Unix socket of the same endpoints, for `segdns probe`
    #[arg(long, value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// Upstream for everything that is not ours (zone `.`)
    #[arg(long, value_name = "ADDR:PORT")]
    pub forward: Vec<SocketAddr>,
    /// How much to log
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<Level>,
}

impl SourceArgs {
    /// The configuration, with these flags in it.
    ///
    /// # Errors
    /// What is wrong with the file or a flag.
    pub fn config(&self) -> Result<Config, ConfigError> {
        Ok(self.merged(match &self.config {
            Some(path) => Config::read(path, environment)?,
            None => Config::default(),
        }))
    }

    fn merged(&self, mut config: Config) -> Config {
        if !self.manifests.is_empty() {
            let dirs = self.manifests.iter().enumerate().map(|(ix, flag)| manifest_dir(flag, ix));
            config.sources.manifests = dirs.collect();
            config.sources.kubernetes = None;
        }
        if self.kubernetes {
            if self.manifests.is_empty() {
                config.sources.manifests.clear();
            }
            config.sources.kubernetes.get_or_insert_default();
        }
        let node = self.node(&config);
        if let Some(kubernetes) = &mut config.sources.kubernetes {
            kubernetes.node = node;
        }
        config
    }

    /// The node whose pods are callers: the flag, else what the configuration says.
    #[must_use]
    pub fn node(&self, config: &Config) -> Option<Box<str>> {
        let configured = || config.sources.kubernetes.as_ref().and_then(|k| k.node.clone());
        self.node.as_deref().filter(|node| !node.is_empty()).map(Into::into).or_else(configured)
    }
}

impl ServeArgs {
    /// The configuration, with these flags in it, judged as a whole.
    ///
    /// # Errors
    /// What is wrong with the file or a flag.
    pub fn config(&self) -> Result<Config, ConfigError> {
        self.judged(self.sources.config()?)
    }

    /// As [`ServeArgs::config`], with this for what is in the file.
    ///
    /// # Errors
    /// As [`ServeArgs::config`].
    pub fn config_of(&self, text: &str) -> Result<Config, ConfigError> {
        let file = self.sources.config.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        self.judged(self.sources.merged(Config::parse(text, &file, environment)?))
    }

    fn judged(&self, mut config: Config) -> Result<Config, ConfigError> {
        if !self.listen.is_empty() {
            config.listen.clone_from(&self.listen);
        }
        if let Some(admin) = self.admin {
            config.admin = admin;
        }
        if let Some(path) = &self.admin_socket {
            config.admin_socket = Some(path.clone());
        }
        if !self.forward.is_empty() {
            config.forward.retain(|f| f.zone.is_some());
            let upstreams = self.forward.iter().copied().map(Upstream::Address).collect();
            config.forward.push(Zone { zone: None, upstreams, tcp: false });
        }
        if let Some(level) = self.log {
            config.log.level = level;
        }
        config.validate()?;
        config.validate_to_serve()?;
        Ok(config)
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `CLUSTER=DIR`, or a directory alone, whose own name is then the cluster's.
fn manifest_dir(flag: &str, ix: usize) -> ManifestDir {
    let (cluster, path) = match flag.split_once('=') {
        Some((cluster, path)) => (cluster.to_owned(), path),
        None => {
            let own = Path::new(flag).file_name().map(|name| name.to_string_lossy().into_owned());
            (own.unwrap_or_else(|| format!("cluster{}", ix + 1)), flag)
        }
    };
    ManifestDir { cluster: cluster.into(), path: path.into() }
}
