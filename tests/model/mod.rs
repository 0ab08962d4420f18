//! A reference model of what segdns answers, written from the contract alone, and meshes by chance to hold it against.
//!
//! ```text
//! mesh    objects and settings, plain           draw    meshes by chance        ask     questions by chance
//! rules   what is published, who sees it (R1 to R12)
//! names   every name of a segment (R6, R9, R18, R22)
//! caller  who asks (R15, R20)                   answer  what is answered (R13, R14, R16, R18 to R23)
//! search  the rest of a pod's search list (docs/forwarding.md, `autopath`)
//! wire    messages as octets                    upstream  what is forwarded to
//! feed    the mesh for segdns                   front   segdns in this process
//! judge   an answer beside the model's          case    all promises          shrink  the least case that fails
//! change  what happens to a mesh                live    answers after it
//! cut     how long an answer may be (R24)
//! ```
//!
//! `rules`, `names`, `caller`, `answer` and `search` are the model. They know nothing of segdns: only `feed` and `front` do.

pub mod answer;
pub mod ask;
pub mod caller;
pub mod case;
pub mod change;
pub mod cut;
pub mod draw;
pub mod feed;
pub mod front;
pub mod judge;
pub mod live;
pub mod mesh;
pub mod names;
pub mod rules;
pub mod search;
pub mod shrink;
pub mod upstream;
pub mod wire;
