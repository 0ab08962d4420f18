//! Cases of whole worlds.
