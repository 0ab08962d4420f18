//! Questions to the kernel over netlink, each with its answer.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use socket2::SockRef;

/// The kernel answers while it is asked; one that does not is broken.
const PATIENCE: Duration = Duration::from_secs(5);
/// netlink's messages begin at multiples of this, octets.
const ALIGNMENT: usize = 4;

/// A socket of one of netlink's protocols.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// A socket of this protocol, one of [`netlink_sys::protocols`].
    ///
    /// # Errors
    /// The kernel's: it may not have the protocol.
    pub fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        SockRef::from(&socket).set_read_timeout(Some(PATIENCE))?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// All objects of the kind that this message asks for.
    ///
    /// # Errors
    /// The kernel's.
    pub fn list<M>(&mut self, message: M) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.exchange([(message, NLM_F_DUMP)])
    }

    /// Puts one question or order, with these flags beside those that every one has. What came back before it was confirmed.
    ///
    /// # Errors
    /// The kernel's.
    pub fn ask<M>(&mut self, message: M, flags: u16) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.exchange([(message, NLM_F_ACK | flags)])
    }

    /// Sends messages as one, and reads until the last that asks for it is confirmed, or a list has ended.
    ///
    /// # Errors
    /// That of the first message that fails.
    pub fn exchange<M>(&mut self, messages: impl IntoIterator<Item = (M, u16)>) -> io::Result<Vec<M>>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut out = Vec::new();
        let mut last = 0;
        for (payload, flags) in messages {
            self.sequence = self.sequence.wrapping_add(1);
            if flags & (NLM_F_ACK | NLM_F_DUMP) != 0 {
                last = self.sequence;
            }
            append(&mut out, payload, NLM_F_REQUEST | flags, self.sequence);
        }
        self.socket.send(&out, 0)?;
        let mut told = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            if read(&datagram, last, &mut told)? {
                return Ok(told);
            }
        }
    }
}

/// Appends one message, padded to where the next one may begin.
fn append<M: NetlinkSerializable>(out: &mut Vec<u8>, payload: M, flags: u16, sequence: u32) {
    let mut message = NetlinkMessage::new(Default::default(), NetlinkPayload::InnerMessage(payload));
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let start = out.len();
    let end = start + message.buffer_len();
    out.resize(end.next_multiple_of(ALIGNMENT), 0);
    message.serialize(&mut out[start..end]);
}

/// Takes the messages of a datagram apart; true if it was the last one.
fn read<M>(mut datagram: &[u8], last: u32, told: &mut Vec<M>) -> io::Result<bool>
where
    M: NetlinkDeserializable,
{
    while !datagram.is_empty() {
        let message = NetlinkMessage::<M>::deserialize(datagram).map_err(io::Error::other)?;
        match message.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
            NetlinkPayload::Error(_) if message.header.sequence_number == last => return Ok(true),
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::InnerMessage(payload) => told.push(payload),
            _ => {}
        }
        let length = usize::try_from(message.header.length).unwrap_or(usize::MAX).next_multiple_of(ALIGNMENT);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(false)
}
