//! Cases of R24.
