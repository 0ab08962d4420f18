//! The words of a decision: record types that matter, and why it was decided so.

/// Record types that are told apart here (IANA DNS parameters).
pub mod rtype {
    /// IPv4 address
    pub const A: u16 = 1;
    /// Name server
    pub const NS: u16 = 2;
    /// Alias
    pub const CNAME: u16 = 5;
    /// Start of authority
    pub const SOA: u16 = 6;
    /// Host information; what ANY is answered with (RFC 8482)
    pub const HINFO: u16 = 13;
    /// IPv6 address
    pub const AAAA: u16 = 28;
    /// Service location
    pub const SRV: u16 = 33;
    /// Incremental transfer
    pub const IXFR: u16 = 251;
    /// Whole transfer
    pub const AXFR: u16 = 252;
    /// Any type
    pub const ANY: u16 = 255;
}

/// Why it was decided so. The words of metrics, logs and `explain`; every one is documented in the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Reason {
    /// A name of the caller's own segment.
    Visible,
    /// A name of another segment, of scope `global`.
    Global,
    /// A name that R10 gives to everyone.
    Public,
    /// A cluster name under takeover.
    Takeover,
    /// The name exists, but has nothing of that type.
    NoData,
    /// The name is published, and has no address.
    NoAddress,
    /// Something exists below the name only.
    Empty,
    /// The apex of a mesh zone.
    Apex,
    /// The name does not exist.
    Absent,
    /// The name exists, and the caller may not see it.
    Hidden,
    /// The name has just appeared, and has no address yet.
    Grace,
    /// The first complete state is not in yet.
    NotSynced,
    /// The caller's segment label names an absent or invalid Segment.
    CallerInvalid,
    /// The caller's address is of no known pod.
    CallerUnknown,
    /// Not a name of ours: forwarded.
    Forwarded,
    /// A cluster name of a namespace that the caller may not see.
    ClusterHidden,
    /// The message is none that is answered (R24).
    Protocol,
    /// No upstream answered.
    UpstreamFailed,
    /// Too much is in flight.
    Overloaded,
    /// An upstream sent our own question back to us.
    Loop,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Visible,
        Self::Global,
        Self::Public,
        Self::Takeover,
        Self::NoData,
        Self::NoAddress,
        Self::Empty,
        Self::Apex,
        Self::Absent,
        Self::Hidden,
        Self::Grace,
        Self::NotSynced,
        Self::CallerInvalid,
        Self::CallerUnknown,
        Self::Forwarded,
        Self::ClusterHidden,
        Self::Protocol,
        Self::UpstreamFailed,
        Self::Overloaded,
        Self::Loop,
    ];

    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Visible => "visible",
            Self::Global => "global",
            Self::Public => "public",
            Self::Takeover => "takeover",
            Self::NoData => "nodata",
            Self::NoAddress => "no-address",
            Self::Empty => "empty-non-terminal",
            Self::Apex => "apex",
            Self::Absent => "absent",
            Self::Hidden => "hidden",
            Self::Grace => "grace",
            Self::NotSynced => "not-synced",
            Self::CallerInvalid => "caller-segment-invalid",
            Self::CallerUnknown => "caller-unknown",
            Self::Forwarded => "forwarded",
            Self::ClusterHidden => "cluster-name-hidden",
            Self::Protocol => "protocol",
            Self::UpstreamFailed => "upstream-failed",
            Self::Overloaded => "overloaded",
            Self::Loop => "loop",
        }
    }

    /// The rule of the contract behind it.
    #[must_use]
    pub const fn rule(self) -> &'static str {
        match self {
            Self::Visible | Self::Global => "R11",
            Self::Public => "R10",
            Self::Takeover => "R19",
            Self::NoData | Self::Absent => "R18",
            Self::NoAddress | Self::Grace | Self::NotSynced => "R22",
            Self::Empty | Self::Apex => "R14",
            Self::Hidden => "R11",
            Self::CallerInvalid => "R3",
            Self::CallerUnknown => "R15",
            Self::Forwarded | Self::UpstreamFailed | Self::Overloaded | Self::Loop => "R23",
            Self::ClusterHidden => "R16",
            Self::Protocol => "R24",
        }
    }
}
