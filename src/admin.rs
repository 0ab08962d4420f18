//! Metrics, health and debug over HTTP, and the views that `table`, `explain` and `check` print.

pub mod http;
