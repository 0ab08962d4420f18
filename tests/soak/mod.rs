//! Parts of the soak: what may be answered, who asks, and what goes wrong.

pub mod faults;
pub mod load;
pub mod oracle;
