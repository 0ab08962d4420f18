//! Where the system ends: connections, files, queues, memory and clocks. Nothing of it brings the server down, and what can
//! be answered is.

mod support;

#[path = "limits/clock.rs"]
mod clock;
#[path = "limits/connections.rs"]
mod connections;
#[path = "limits/files.rs"]
mod files;
#[path = "limits/memory.rs"]
mod memory;
#[path = "limits/queues.rs"]
mod queues;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use support::client::{next_id, read_framed, write_framed};
use support::objects::{self, namespace, pod, segment, service, write};
use support::server::{Server, config_of};
use support::steady::{ask, until_answered};
use support::upstream::Upstream;
use support::world::World;
use support::{HERE, UPSTREAM, free_port, wire};
use tempfile::TempDir;

const SHOP: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 34, 0, 1));
const WEB: &str = "web.shop.mesh.acme";
const OUTSIDE: &str = "www.example.com";
/// Something that happens within moments, on a machine that is busy.
const MOMENTS: Duration = Duration::from_secs(5);
/// What half of the questions may take while something is at its limit, and 99 of 100; others share the cores.
const QUICK: [Duration; 2] =
    [Duration::from_millis(5), Duration::from_millis(if cfg!(debug_assertions) { 200 } else { 50 })];

/// A cluster of manifests with one Service, of which namespace `far` is of another segment: callers have to be known.
struct Lab {
    dir: TempDir,
    at: SocketAddr,
    upstream: Upstream,
    config: Value,
}

impl Lab {
    fn new(extra: &Value) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let namespaces =
            [namespace("istio-system", Some("acme")), namespace("shop", None), namespace("far", Some("other"))];
        write(dir.path(), "segments.yaml", &[segment("acme", "mesh.acme"), segment("other", "mesh.other")]);
        write(dir.path(), "namespaces.yaml", &namespaces);
        write(dir.path(), "pods.yaml", &[pod("shop", "a", SHOP)]);
        write(dir.path(), "services.yaml", &[service("shop", "web", "segment", "10.0.0.1")]);
        let upstream = Upstream::start(World::outside(), SocketAddr::new(UPSTREAM, free_port())).expect("an upstream");
        let at = SocketAddr::new(HERE, free_port());
        let mut config = config_of(at, ("here", dir.path()), upstream.address());
        objects::merge(&mut config, &json!({"answers": {"grace": "0s"}, "limits": {"workers": 2}}));
        objects::merge(&mut config, extra);
        Self { dir, at, upstream, config }
    }

    fn start(&self) -> Server {
        self.start_by(&[], &[])
    }

    /// Starts a server by a command that becomes it, and waits until it answers.
    fn start_by(&self, launcher: &[&str], env: &[(&str, &Path)]) -> Server {
        let mut server = Server::spawn_by(launcher, &self.config, None, env).expect("a process");
        server.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        until_answered(self.at, (SHOP, WEB, 0, &["10.0.0.1"]), MOMENTS);
        server
    }

    /// Another address for the Service, as a careful writer writes it.
    fn move_web(&self, address: &str) {
        let draft = self.dir.path().join("services.draft");
        std::fs::write(&draft, service("shop", "web", "segment", address).to_string()).expect("written");
        std::fs::rename(&draft, self.dir.path().join("services.yaml")).expect("moved");
    }
}

/// A connection of a caller.
fn connect(from: IpAddr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("an option");
    socket.bind(&SocketAddr::new(from, 0).into()).expect("an address");
    socket.connect_timeout(&to.into(), MOMENTS).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(MOMENTS)).expect("a timeout");
    stream
}

/// The response code of a question on a connection; an error if that is closed, or nothing comes.
fn ask_on(stream: &mut TcpStream, name: &str) -> std::io::Result<u8> {
    write_framed(stream, &wire::query(next_id(), name, 1, true))?;
    Ok(read_framed(stream)?[3] & 15)
}

/// Asks a question over UDP again and again for so long, one at a time; each has to be answered, and quickly.
fn quick(at: SocketAddr, from: IpAddr, name: &str, lasts: Duration) {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).expect("a socket");
    socket.connect(at).expect("connected");
    socket.set_read_timeout(Some(MOMENTS)).expect("a timeout");
    let (begun, mut took, mut buffer) = (Instant::now(), Vec::new(), [0; 1500]);
    while begun.elapsed() < lasts || took.len() < 100 {
        let (id, asked) = (next_id(), Instant::now());
        socket.send(&wire::query(id, name, 1, true)).expect("sent");
        let length = socket.recv(&mut buffer).expect("an answer in time");
        assert_eq!((&buffer[..2], buffer[3] & 15), (&id.to_be_bytes()[..], 0), "{:?}", &buffer[..length]);
        took.push(asked.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    took.sort_unstable();
    let [median, slow] = [took[took.len() / 2], took[took.len() * 99 / 100]];
    println!("{name}: {} asked over UDP, median {median:.1?}, 99 of 100 within {slow:.1?}", took.len());
    assert!(median < QUICK[0] && slow < QUICK[1], "{name}: median {median:?}, 99 of 100 within {slow:?}");
}

/// Asked now, this is answered.
fn is_answered(lab: &Lab, from: IpAddr, name: &str, address: &str) {
    let heard = ask(lab.at, from, name).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(heard.is(0, &[address]), "{name} from {from}: {heard:?}");
}
