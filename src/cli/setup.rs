//! `segdns setup` and `teardown`: the node's addresses that DNS is answered on.

use std::collections::HashSet;
use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{BAD_CONFIGURATION, FAILED, fail, print};
use crate::config::Config;
use crate::node::{self, INTERFACE, NAME_LENGTH, NodeError, Plan, Step, notrack, watch};

/// Which addresses, and where.
#[derive(Clone, Debug, clap::Args)]
pub struct Where {
    /// Configuration file; the addresses of its `listen` that are link-local are made. Without it and without --address:
    /// 169.254.20.10
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One more address, link-local or not; repeatable
    #[arg(long, value_name = "IP", value_parser = address)]
    address: Vec<IpAddr>,
    /// The interface of their own
    #[arg(long, value_name = "NAME", default_value = INTERFACE, value_parser = interface)]
    interface: String,
}

/// Flags of `setup`.
#[derive(Clone, Debug, clap::Args)]
pub struct SetupArgs {
    #[command(flatten)]
    place: Where,
    /// Keep conntrack out of DNS on these addresses (nftables). If that fails, it is a warning
    #[arg(long)]
    notrack: bool,
    /// Stay, and restore what someone removes; a signal ends it, and removes nothing
    #[arg(long)]
    watch: bool,
}

/// Flags of `teardown`.
#[derive(Clone, Debug, clap::Args)]
pub struct TeardownArgs {
    #[command(flatten)]
    place: Where,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| "give an IPv4 or IPv6 address, without a port or a prefix length")?;
    let valid = node::valid_address(address).then_some(address);
    valid.ok_or_else(|| "give the address of one host, and not of loopback".to_owned())
}

fn interface(text: &str) -> Result<String, String> {
    let valid = node::valid_name(text).then(|| text.to_owned());
    valid.ok_or_else(|| format!("give 1 to {NAME_LENGTH} letters, digits, '-', '_' or '.', and not lo"))
}

/// Whether the kernel takes an address as one of this link only (RFC 3927, RFC 4291 2.5.6).
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => four.is_link_local(),
        IpAddr::V6(six) => six.is_unicast_link_local(),
    }
}

impl Where {
    /// What is to be made or removed.
    ///
    /// # Errors
    /// What is wrong with the configuration, in one line.
    fn plan(&self) -> Result<Plan, String> {
        let mut addresses = Vec::new();
        if self.config.is_some() || self.address.is_empty() {
            let config = self.config.as_ref().map(|path| Config::read(path, |name| std::env::var(name).ok()));
            let config = config.transpose().map_err(|error| error.to_string())?.unwrap_or_default();
            addresses.extend(config.listen.iter().map(std::net::SocketAddr::ip).filter(|ip| is_link_local(*ip)));
        }
        addresses.extend(&self.address);
        if let (true, Some(file)) = (addresses.is_empty(), &self.config) {
            let file = file.display();
            return Err(format!(
                "{file}: listen: none of its addresses is link-local; say with --address which to make"
            ));
        }
        let mut seen = HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(Plan::new(&self.interface, addresses))
    }
}

/// Makes the addresses; with `--watch` goes on until a signal.
pub fn setup(args: &SetupArgs) -> ExitCode {
    let plan = match args.place.plan() {
        Ok(plan) => plan,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    match node::setup(&plan) {
        Ok(steps) => steps.iter().for_each(say),
        Err(error) => return fail(FAILED, error),
    }
    put_rules(args.notrack, &plan);
    if !args.watch {
        return ExitCode::SUCCESS;
    }
    match keep(&plan, args.notrack) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(FAILED, format_args!("watching the node's addresses: {error}")),
    }
}

/// Removes what `setup` has made.
pub fn teardown(args: &TeardownArgs) -> ExitCode {
    let plan = match args.place.plan() {
        Ok(plan) => plan,
        Err(error) => return fail(BAD_CONFIGURATION, error),
    };
    let steps = match node::teardown(&plan) {
        Ok(steps) => steps,
        Err(error) => return fail(FAILED, error),
    };
    steps.iter().for_each(say);
    let removed = remove_rules();
    if steps.is_empty() && !removed {
        say("nothing of segdns is there");
    }
    ExitCode::SUCCESS
}

/// The rules, as asked for: those of a former setup must not outlive the flag. Never fatal.
fn put_rules(wanted: bool, plan: &Plan) {
    if !wanted {
        remove_rules();
        return;
    }
    match notrack::put(&plan.addresses) {
        Ok(()) => say(format_args!("NOTRACK: rules for port 53 are in table inet {} of nftables", notrack::TABLE)),
        Err(error) => warn(format_args!(
            "NOTRACK is left out: nftables says: {error}; DNS works without, and conntrack sees its packets"
        )),
    }
}

/// True if there were any.
fn remove_rules() -> bool {
    let removed = notrack::remove();
    match &removed {
        Ok(true) => say(format_args!("NOTRACK: table inet {} of nftables: deleted", notrack::TABLE)),
        Ok(false) => {}
        // Who may not look cannot have made any.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(error) => warn(format_args!("whether there are rules of NOTRACK is not known: nftables says: {error}")),
    }
    removed.unwrap_or(false)
}

/// Restores what is taken away, until a signal.
fn keep(plan: &Plan, rules: bool) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Process 1 of a container ends by no signal that it does not ask for.
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let rules = (!rules || notrack::there().unwrap_or(false)).then_some(rules);
        let mut keeper = Keeper { plan, rules, said: String::new() };
        say("watching: what is removed is made again");
        tokio::select! {
            ended = watch::watch(|| keeper.look()) => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }
    })
}

/// What is kept, and what was last said of it.
struct Keeper<'a> {
    plan: &'a Plan,
    /// Whether there are to be rules. `None`: they cannot be made, and one warning is enough.
    rules: Option<bool>,
    said: String,
}

impl Keeper<'_> {
    fn look(&mut self) -> bool {
        // Rules that nobody here wants: until its pod ends, the keeper of the one before restores its own.
        if let Some(wanted) = self.rules
            && notrack::there().is_ok_and(|there| there != wanted)
        {
            put_rules(wanted, self.plan);
        }
        let done = node::setup(self.plan);
        if let Ok(steps) = &done {
            self.said.clear();
            steps
                .iter()
                .filter(|step| !matches!(step, Step::There { .. }))
                .for_each(|step| say(format_args!("restored: {step}")));
        }
        done.map_err(|error| self.trouble(&error)).is_ok()
    }

    /// Says what keeps it from being restored, once.
    fn trouble(&mut self, error: &NodeError) {
        let error = error.to_string();
        if self.said != error {
            warn(&error);
            self.said = error;
        }
    }
}

/// One line on standard output. Nobody may be reading it any more, which is no reason to stop.
fn say(line: impl Display) {
    print::out(&line.to_string());
}

fn warn(line: impl Display) {
    drop(writeln!(std::io::stderr(), "segdns: {line}"));
}
