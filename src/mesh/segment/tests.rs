//! Cases of R2 to R4.
