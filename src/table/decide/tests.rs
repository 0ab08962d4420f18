//! Cases of decisions.
