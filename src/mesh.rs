//! The rules of segments (R1 to R17): pure functions over plain data. No async, no I/O, no DNS wire.
//!
//! ```text
//! object  what Kubernetes says, trimmed          settings  what the operator says
//!    |                                               |
//! cluster -> world -> segment   which zones and segments count (R2 to R4)
//!               |---> entry     which hosts of ServiceEntries count (R8, R10)
//!               |---> publish   what one Service name publishes (R1, R5, R7, R19)
//!               |       |-----> label (scope), address (R6), alias (R9)
//!               |---> rival     who has a name that several want (R9)
//!               |---> grace     how long a missing address may still come (R22)
//!               `---> caller    who asks (R15, R20)
//! visible       who sees what (R11, R12)         report    what is wrong, and the remedy
//! pack          what is kept of many objects, as octets
//! placement     whose queries ztunnel takes
//! ```

pub mod address;
pub mod alias;
pub mod caller;
pub mod cluster;
pub mod entry;
pub mod grace;
pub mod label;
pub mod name;
pub mod object;
pub mod pack;
pub mod placement;
pub mod publish;
pub mod report;
pub mod rival;
pub mod segment;
pub mod settings;
pub mod visible;
pub mod world;
