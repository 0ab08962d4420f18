//! What each server is told: one worker, no logging, the plan's names, and what its manual recommends for speed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde_json::{Value, json};

use super::{Program, Setting};
use crate::data::{CLUSTER, NODE, Plan};
use crate::world;

/// Writes what a server reads into its folder, and tells the arguments that it is started with.
///
/// # Errors
/// The file system's.
pub fn write(
    program: Program,
    setting: &Setting,
    dir: &Path,
    at: SocketAddr,
    admin: Option<SocketAddr>,
    append: usize,
) -> io::Result<Vec<OsString>> {
    let (port, upstream) = (at.port(), setting.upstream);
    let config = dir.join("config");
    let plan = program.plan(setting);
    let text = match program {
        Program::Segdns | Program::SegdnsSmall => {
            plan.write_manifests(&dir.join("objects"))?;
            segdns(&json!({"manifests": [{"cluster": CLUSTER, "path": dir.join("objects")}]}), at, admin, upstream)
        }
        Program::SegdnsFed => {
            segdns(&json!({"kubernetes": {"node": NODE}, "snapshot": dir.join("saved")}), at, admin, upstream)
        }
        Program::Echo => return Ok(["echo", &at.to_string(), &append.to_string()].map(OsString::from).to_vec()),
        Program::Hickory => {
            return Ok(["hickory", &at.to_string(), &plan.names.to_string()].map(OsString::from).to_vec());
        }
        Program::Nsd => nsd(&plan, dir, port)?,
        Program::Knot => knot(&plan, dir, port)?,
        Program::Unbound => unbound(&plan, dir, port, upstream),
        Program::Dnsmasq => dnsmasq(&plan, dir, port, upstream)?,
        Program::Dnsdist => dnsdist(port, upstream, true),
        Program::DnsdistForward => dnsdist(port, upstream, false),
        Program::CoreDns => coredns(&plan, dir, port, upstream)?,
        Program::NodeLocal => nodelocal(port, upstream),
    };
    fs::write(&config, text)?;
    let arguments: &[&str] = match program {
        Program::Segdns | Program::SegdnsSmall | Program::SegdnsFed => &["serve", "--node", NODE, "--config"],
        Program::Nsd => &["-d", "-c"],
        Program::Unbound => &["-d", "-c"],
        Program::Dnsmasq => &["--keep-in-foreground", "--conf-file"],
        Program::Dnsdist | Program::DnsdistForward => &["--supervised", "--disable-syslog", "-C"],
        Program::Knot => &["-c"],
        _ => &["-conf"],
    };
    let mut arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
    if program == Program::Dnsmasq {
        // It takes a value only after an equals sign.
        arguments.pop();
        arguments.push(format!("--conf-file={}", config.display()).into());
    } else {
        arguments.push(config.into());
    }
    Ok(arguments)
}

/// Everything on: policy, metrics, cache, serve-stale and prefetch are so by default. AAAA is answered to callers that have no
/// IPv6 address, too, because loopback gives the callers here none.
fn segdns(sources: &Value, at: SocketAddr, admin: Option<SocketAddr>, upstream: SocketAddr) -> String {
    let config = json!({
        "listen": [at],
        "admin": admin,
        "sources": sources,
        "answers": {"aaaa": "on"},
        "forward": [{"zone": ".", "upstreams": [upstream]}],
        "limits": {"workers": 1, "inflight": 5000, "inflightPerClient": 500},
        "drain": {"lameduck": "0s", "deadline": "1s"},
        "log": {"level": "warn"},
    });
    format!("{config:#}\n")
}

fn nsd(plan: &Plan, dir: &Path, port: u16) -> io::Result<String> {
    let root = dir.display();
    let mut text = format!(
        "server:\n  server-count: 1\n  ip-address: 127.0.0.1@{port}\n  reuseport: yes\n  username: \"\"\n  \
         zonesdir: \"{root}\"\n  pidfile: \"\"\n  logfile: \"{root}/nsd.log\"\n  database: \"\"\n  \
         xfrdfile: \"{root}/xfrd.state\"\n  xfrdir: \"{root}\"\n  zonelistfile: \"{root}/zone.list\"\n  \
         minimal-responses: yes\n  refuse-any: yes\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n  \
         tcp-count: 200\nremote-control:\n  control-enable: no\n"
    );
    for zone in world::zones(plan) {
        fs::write(dir.join(format!("{zone}.zone")), world::master_file(plan, &zone))?;
        text += &format!("zone:\n  name: \"{zone}\"\n  zonefile: \"{zone}.zone\"\n");
    }
    Ok(text)
}

fn knot(plan: &Plan, dir: &Path, port: u16) -> io::Result<String> {
    let root = dir.display();
    let mut text = format!(
        "server:\n  rundir: \"{root}\"\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
         background-workers: 1\n  tcp-reuseport: on\n  tcp-max-clients: 200\ndatabase:\n  storage: \"{root}/db\"\n\
         log:\n- target: stderr\n  any: warning\ntemplate:\n- id: default\n  storage: \"{root}\"\n  \
         semantic-checks: off\n  journal-content: none\nzone:\n"
    );
    for zone in world::zones(plan) {
        fs::write(dir.join(format!("{zone}.zone")), world::master_file(plan, &zone))?;
        text += &format!("- domain: {zone}\n  file: {zone}.zone\n");
    }
    Ok(text)
}

/// The first lines let it run beside a system's own, ask addresses of 127.0.0.0/8, and believe answers that nobody signed.
fn unbound(plan: &Plan, dir: &Path, port: u16, upstream: SocketAddr) -> String {
    let (root, ip, to) = (dir.display(), upstream.ip(), upstream.port());
    format!(
        "server:\n  interface: 127.0.0.1@{port}\n  access-control: 127.0.0.0/8 allow\n  do-not-query-localhost: no\n  \
         directory: \"{root}\"\n  chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n  logfile: \"\"\n  \
         do-daemonize: no\n  module-config: \"iterator\"\n  num-threads: 1\n  so-reuseport: yes\n  \
         so-rcvbuf: 4m\n  so-sndbuf: 4m\n  minimal-responses: yes\n  msg-cache-size: 64m\n  rrset-cache-size: 128m\n  \
         outgoing-range: 8192\n  num-queries-per-thread: 4096\n  incoming-num-tcp: 200\n{}\
         remote-control:\n  control-enable: no\nforward-zone:\n  name: \".\"\n  forward-addr: {ip}@{to}\n",
        world::local_data(plan)
    )
}

fn dnsmasq(plan: &Plan, dir: &Path, port: u16, upstream: SocketAddr) -> io::Result<String> {
    let hosts = dir.join("hosts");
    fs::write(&hosts, world::hosts(plan))?;
    let mut text = format!(
        "port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-hosts\nno-resolv\nno-poll\nuser=root\npid-file=\n\
         addn-hosts={}\nserver={}#{}\ncache-size=10000\ndns-forward-max=2000\nlocal-ttl={}\n",
        hosts.display(),
        upstream.ip(),
        upstream.port(),
        world::TTL
    );
    for zone in world::zones(plan).iter().filter(|zone| *zone != "example.com") {
        text += &format!("local=/{zone}/\n");
    }
    Ok(text)
}

fn dnsdist(port: u16, upstream: SocketAddr, cache: bool) -> String {
    let mut text = format!(
        "setLocal('127.0.0.1:{port}', {{reusePort=true}})\nsetSecurityPollSuffix('')\nsetMaxUDPOutstanding(65535)\n\
         newServer({{address='{upstream}'}}):setUp()\n"
    );
    if cache {
        text += "getPool(''):setCache(newPacketCache(100000, {maxTTL=86400}))\n";
    }
    text
}

fn coredns(plan: &Plan, dir: &Path, port: u16, upstream: SocketAddr) -> io::Result<String> {
    let hosts = dir.join("hosts");
    fs::write(&hosts, world::hosts(plan))?;
    let (hosts, zones) = (hosts.display(), world::zones(plan));
    let inside: Vec<_> =
        zones.iter().filter(|zone| *zone != "example.com").map(|zone| format!("{zone}:{port}")).collect();
    Ok(format!(
        "{} {{\n  bind 127.0.0.1\n  hosts {hosts} {{\n    ttl 5\n    no_reverse\n  }}\n}}\n\
         .:{port} {{\n  bind 127.0.0.1\n  cache 3600\n  forward . {upstream}\n}}\n",
        inside.join(" ")
    ))
}

/// The block for "." of node-local-dns, but for its metrics; with room for all names of the plan, as an operator would give it.
fn nodelocal(port: u16, upstream: SocketAddr) -> String {
    format!(
        ".:{port} {{\n  errors\n  cache {{\n    success 65536 3600\n    denial 65536 3600\n  }}\n  reload\n  loop\n  \
         bind 127.0.0.1\n  forward . {upstream}\n}}\n"
    )
}
