//! Sockets: batched UDP workers and the TCP accept loop, both in front of one [`Respond`].
