//! What the system grants, held against what the configuration wants: open files and memory. Where it grants less, segdns
//! serves within that and says so, instead of failing later at whatever happens to be one too many.

use std::fs;
use std::path::Path;
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::config::{Config, Upstream};

/// Files besides the sockets of callers and of upstreams: watches of API servers, the admin side, probes, what is saved.
const OTHERS: u64 = 256;
/// Sockets to one upstream: eight that are used, those that were replaced and still wait, and TCP.
const OF_UPSTREAM: u64 = 36;
/// What a resolv.conf may name at most (resolv.conf(5)).
const NAMESERVERS: u64 = 3;
/// The cache may have this part of the memory that there is: tables, connections and the program take the rest.
const OF_MEMORY: u64 = 2;

/// Raises the soft limit of open files to the hard one, as programs do that do not use select(2).
pub(super) fn raise_files() {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < hard {
        match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => tracing::debug!(soft, hard, "the limit of open files is raised"),
            Err(error) => tracing::warn!(soft, hard, %error, "the limit of open files cannot be raised"),
        }
    }
}

/// How many TCP connections may be open: `limits.tcpConnections`, or fewer if all that is to be open besides could not be
/// then. Callers' connections must not take what upstreams, API servers and the admin side need.
pub(super) fn tcp_connections(config: &Config) -> usize {
    let asked = config.limits.tcp_connections;
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return asked };
    let own = own_files(config, thread::available_parallelism().map_or(1, usize::from));
    let granted = within(asked, limit, own);
    if granted < asked {
        let need = own.saturating_add(asked as u64);
        tracing::warn!(
            "{limit} files may be open, and this configuration takes up to {need}: {granted} TCP connections are taken \
             instead of {asked}; raise the hard limit of open files (LimitNOFILE, ulimit -Hn) or lower \
             limits.tcpConnections"
        );
    }
    granted
}

/// Files that are open besides callers' TCP connections, at most.
fn own_files(config: &Config, cores: usize) -> u64 {
    let workers = if config.limits.workers == 0 { cores } else { config.limits.workers };
    let upstreams = config.forward.iter().flat_map(|zone| &zone.upstreams).map(|upstream| match upstream {
        Upstream::Address(_) => 1,
        Upstream::ResolvConf(_) => NAMESERVERS,
    });
    let listening = config.listen.len() as u64 * (2 * workers as u64 + 1);
    OTHERS + listening + OF_UPSTREAM * upstreams.sum::<u64>()
}

/// How many of `asked` connections there may be if `limit` files may be open, of which `own` are others. A quarter of the
/// limit is theirs in any case: much of the rest is open for moments only.
fn within(asked: usize, limit: u64, own: u64) -> usize {
    let room = limit.saturating_sub(own).max(limit / 4).max(1);
    asked.min(usize::try_from(room).unwrap_or(usize::MAX))
}

/// Octets for the cache: `cache.bytes`, or less if that is more than its part of the memory that this process may have.
pub(super) fn cache_octets(config: &Config) -> u64 {
    let asked = config.cache.bytes;
    let Some((limit, whose)) = memory(Path::new("/")) else { return asked };
    let granted = asked.min(limit / OF_MEMORY);
    if granted < asked {
        tracing::warn!(
            "cache.bytes is {asked}, and {whose} is {limit} octets: the cache takes {granted} at most; lower cache.bytes \
             or raise that limit"
        );
    }
    granted
}

/// The least of the limits on this process's memory, octets, and in words which one it is.
fn memory(root: &Path) -> Option<(u64, &'static str)> {
    let address_space = getrlimit(Resource::RLIMIT_AS).ok().map(|(soft, _)| (soft, "the limit of its address space"));
    let machine = machine(root).map(|octets| (octets, "this machine's memory"));
    [address_space, control_group(root).map(|octets| (octets, "the memory limit of its control group")), machine]
        .into_iter()
        .flatten()
        .min_by_key(|(octets, _)| *octets)
}

/// All the memory that there is.
fn machine(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The least limit of the process's control group and of those around it. Inside of a container its own may be what is
/// mounted, whatever name the node has for it, so that the top is looked at as well.
fn control_group(root: &Path) -> Option<u64> {
    let text = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let of_line = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let (mount, file) = match controllers {
            "" => ("", "memory.max"),
            all if all.split(',').any(|one| one == "memory") => ("memory", "memory.limit_in_bytes"),
            _ => return None,
        };
        let top = root.join("sys/fs/cgroup").join(mount);
        let path = Path::new(path.trim_start_matches('/'));
        path.ancestors()
            .filter_map(|path| fs::read_to_string(top.join(path).join(file)).ok()?.trim().parse().ok())
            .min()
    };
    text.lines().filter_map(of_line).min()
}

#[cfg(test)]
mod tests;
