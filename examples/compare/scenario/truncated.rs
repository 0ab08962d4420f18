//! An answer that does not fit into the upstream's datagram: TC over UDP, all of it over TCP.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Serialize;

use super::{Scenario, with_one};
use crate::lab::client::{Client, How, Saw};
use crate::lab::server::Program;
use crate::lab::upstream::{Content, Manner, Upstream};

/// How many addresses the name has: more than 512 octets hold, and fewer than 1232.
pub const ADDRESSES: u8 = 60;
/// How long a client waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The name.
const NAME: &str = "large.truncated.example";

/// What was measured.
#[derive(Debug, Serialize)]
pub struct Truncated {
    /// Asked over UDP with room for all.
    pub edns: Saw,
    /// Asked over UDP without EDNS, after that.
    pub plain: Saw,
    /// Asked over TCP, after that.
    pub tcp: Saw,
    /// How often the upstream was asked, over UDP and over TCP, for all three.
    pub asked: [usize; 2],
    /// Asked over UDP with room for all, of an upstream that sets TC and refuses TCP.
    pub refused: Saw,
    /// The same again.
    pub refused_again: Saw,
}

impl Scenario for Truncated {
    const ROWS: &'static [&'static str] = &[
        "60 addresses, TC from upstream over UDP: a client over UDP with EDNS 1232",
        "then one without EDNS",
        "then one over TCP",
        "queries upstream for these three",
        "TC from an upstream that refuses TCP",
        "the same, asked again",
    ];

    async fn measure(program: &Program) -> Result<Self, String> {
        let manner = Manner { content: Content::Many(ADDRESSES), truncates: true, ..Manner::default() };
        let (server, client, upstream) = with_one(program, manner).await?;
        let ask = |how| client.ask_as(Ipv4Addr::LOCALHOST, how, NAME, PATIENCE);
        let (edns, plain, tcp) = (ask(How::Edns).await, ask(How::Plain).await, ask(How::Tcp).await);
        let asked = upstream.asked(NAME);
        drop(server);
        let upstream = Upstream::without_tcp(manner).await.map_err(|e| e.to_string())?;
        let server = program.start(&[upstream.address()]).await?;
        let client = Client { server: server.at };
        let refused = client.ask(NAME, PATIENCE).await;
        let refused_again = client.ask(NAME, PATIENCE).await;
        Ok(Self { edns, plain, tcp, asked, refused, refused_again })
    }

    fn cells(&self) -> Vec<String> {
        let what = |saw: &Saw| saw.answer.as_ref().map_or_else(|| saw.words(), |answer| answer.words());
        let [udp, tcp] = self.asked;
        vec![
            what(&self.edns),
            what(&self.plain),
            what(&self.tcp),
            format!("{udp} over UDP, {tcp} over TCP"),
            self.refused.words(),
            self.refused_again.words(),
        ]
    }
}
