//! A responder on hickory-server with its names in a `HashMap`: what one would write with that crate, without segments.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::time::Duration;

use hickory_proto::op::{Header, HeaderCounts, Metadata, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_server::Server;
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;

use crate::data::Plan;
use crate::world;

/// How long a TCP connection may be idle.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that wait to be written, for each connection.
const TCP_ANSWERS: usize = 64;

/// What it knows.
struct Handler {
    names: HashMap<LowerName, Vec<Record>>,
    soa: Record,
}

/// Serves until it is killed.
///
/// # Errors
/// What the system says of the sockets.
pub fn serve(plan: &Plan, udp: UdpSocket, tcp: TcpListener) -> io::Result<()> {
    let handler = Handler::new(plan).ok_or_else(|| io::Error::other("a name of the plan is none"))?;
    udp.set_nonblocking(true)?;
    tcp.set_nonblocking(true)?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let mut server = Server::new(handler);
        server.register_socket(tokio::net::UdpSocket::from_std(udp)?);
        server.register_listener(tokio::net::TcpListener::from_std(tcp)?, IDLE, TCP_ANSWERS);
        server.block_until_done().await.map_err(io::Error::other)
    })
}

impl Handler {
    fn new(plan: &Plan) -> Option<Self> {
        let mut names: HashMap<LowerName, Vec<Record>> = HashMap::with_capacity(plan.names * 2);
        for (text, address) in world::records(plan) {
            let name = Name::from_ascii(format!("{text}.")).ok()?;
            let data = match address {
                IpAddr::V4(ip) => RData::A(A(ip)),
                IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
            };
            names.entry(LowerName::new(&name)).or_default().push(Record::from_rdata(name, world::TTL, data));
        }
        let [apex, mname, rname] = ["mesh.acme.", "ns.mesh.acme.", "hostmaster.mesh.acme."].map(Name::from_ascii);
        let soa = SOA::new(mname.ok()?, rname.ok()?, 1, 7200, 1800, 86_400, world::TTL);
        Some(Self { names, soa: Record::from_rdata(apex.ok()?, world::TTL, RData::SOA(soa)) })
    }

    fn find(&self, name: &LowerName, rtype: RecordType) -> Option<impl Iterator<Item = &Record>> {
        Some(self.names.get(name)?.iter().filter(move |record| record.record_type() == rtype))
    }
}

#[async_trait::async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(&self, request: &Request, mut send: R) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        let failed = ResponseInfo::from(Header { metadata, counts: HeaderCounts::default() });
        let Ok(info) = request.request_info() else { return failed };
        let found = self.find(info.query.name(), info.query.query_type());
        if found.is_none() {
            metadata.response_code = ResponseCode::NXDomain;
        }
        let answers: Vec<&Record> = found.into_iter().flatten().collect();
        let soa = answers.is_empty().then_some(&self.soa);
        let response = MessageResponseBuilder::from_message_request(request).build(metadata, answers, soa, None, None);
        send.send_response(response).await.unwrap_or(failed)
    }
}
