//! Metrics, health and debug over HTTP, and the views that `table`, `explain` and `check` print.
//!
//! ```text
//! asker    CALLER, as people write it           words    what labels say, in words
//! found    from a name back to its objects      explain  what is answered to whom, and why
//! table    all names, with who sees them
//! reloads  what became of configurations that were read again
//! sources  what keeps sources from their objects, in lines
//! placement  pods that ztunnel answers for
//! top      who asks most, and for what
//! http     the endpoints: metrics, health (a query to itself), the views above as JSON, and settings
//! ```

pub mod asker;
pub mod explain;
pub mod found;
pub mod http;
pub mod metrics;
pub mod placement;
pub mod reloads;
pub mod settings;
pub mod sources;
pub mod table;
pub mod top;
pub mod words;
