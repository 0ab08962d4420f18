//! Which node writes: that which holds a Lease (`coordination.k8s.io/v1`) in the namespace of segdns's pods.
//!
//! It is renewed every ten seconds. Another node takes it over when it has not seen it change for thirty seconds by its own
//! clock, so that clocks need not agree. Nodes that do not hold it look seldom, because there may be thousands of them.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::LEASE;
use super::call::{Ask, call, is};
use crate::watch::kubernetes::connect::Connection;
use crate::watch::kubernetes::follow::Failure;

/// How often who holds it renews it.
pub const RENEW: Duration = Duration::from_secs(10);
/// How long it may stay as it is until another takes it over.
pub const TAKEN: Duration = Duration::from_secs(30);

/// See the module's page.
pub struct Lease {
    connection: Connection,
    identity: String,
    /// As of the last look.
    held: bool,
    /// Who else held it as of which renewal, and since when it has been so.
    seen: Option<(String, String, Instant)>,
    /// When to look again.
    look: Instant,
}

impl Lease {
    /// Not held yet. `identity` is this process's.
    pub fn new(connection: Connection, identity: String) -> Self {
        Self { connection, identity, held: false, seen: None, look: Instant::now() }
    }

    /// Whether it is held now, renewed or taken over if need be.
    ///
    /// # Errors
    /// The API server's. Nothing is known of it then, see [`Lease::lose`].
    pub async fn hold(&mut self) -> Result<bool, Failure> {
        let now = Instant::now();
        if now >= self.look {
            self.held = self.take(now).await?;
            // On average as long as it takes to be sure that a holder is gone, and not all at once.
            let seldom = || rand::random_range(TAKEN / 2..TAKEN * 3 / 2);
            // Others take it over only when it has not been renewed three times in a row.
            self.look = now + if self.held { RENEW } else { seldom() };
        }
        Ok(self.held)
    }

    /// When to ask for it again.
    pub fn due(&self) -> Duration {
        self.look.saturating_duration_since(Instant::now())
    }

    /// Nothing is known of it.
    pub fn lose(&mut self) {
        (self.held, self.look) = (false, Instant::now());
    }

    async fn take(&mut self, now: Instant) -> Result<bool, Failure> {
        let namespace = self.connection.client().default_namespace().to_owned();
        let path = format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
        let found = call(&self.connection, &path, Ask::Get(LEASE)).await;
        if is(&found, 404) {
            let metadata = json!({"name": LEASE, "namespace": namespace});
            return self.put(&path, None, &json!({"metadata": metadata}), 0).await;
        }
        let lease = found?;
        let text = |field: &str| lease["spec"][field].as_str().unwrap_or_default().to_owned();
        let (holder, renewed) = (text("holderIdentity"), text("renewTime"));
        let changes = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(0);
        if holder == self.identity {
            return self.put(&path, Some(LEASE), &lease, changes).await;
        }
        let since = match &self.seen {
            Some((who, when, since)) if (who, when) == (&holder, &renewed) => *since,
            _ => now,
        };
        if holder.is_empty() || now.duration_since(since) >= TAKEN {
            return self.put(&path, Some(LEASE), &lease, changes + 1).await;
        }
        self.seen = Some((holder, renewed, since));
        Ok(false)
    }

    /// Writes it, unless another was faster.
    async fn put(&self, path: &str, name: Option<&str>, lease: &Value, changes: i64) -> Result<bool, Failure> {
        let now = format!("{:.6}", Timestamp::now());
        let acquired = &lease["spec"]["acquireTime"];
        let own = lease["spec"]["holderIdentity"] == *self.identity && acquired.is_string();
        let spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": TAKEN.as_secs(),
            "acquireTime": if own { acquired.clone() } else { now.clone().into() },
            "renewTime": now,
            "leaseTransitions": changes,
        });
        let metadata = &lease["metadata"];
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec});
        let ask = name.map_or(Ask::Create(&lease), |name| Ask::Replace(name, &lease));
        let written = call(&self.connection, path, ask).await;
        if is(&written, 409) {
            return Ok(false);
        }
        written.map(|_| true)
    }
}
