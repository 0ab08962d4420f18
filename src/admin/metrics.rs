//! `/metrics`: what the parts have counted, as OpenMetrics for who asks for that, else in the older text format. Everything is
//! read when it is scraped, so that no query pays for it; series of fixed label sets are there at 0 from the start, and what
//! others decide (clusters, segments, upstreams) has a bound, beyond which it is counted together as `other`.

mod answers;
mod cache;
mod classic;
mod config;
mod objects;
mod upstreams;

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::http::Admin;
use crate::histogram::{Histogram, Reading};
use crate::mesh::object::LOCAL;

/// What is beyond a bound.
const OTHER: &str = "other";

/// How it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0
    Open,
    /// Prometheus's own text format, version 0.0.4.
    Classic,
}

impl Format {
    /// The one for a scraper with this header `Accept`: as Prometheus's own clients do, OpenMetrics if it is named.
    #[must_use]
    pub fn of(accept: &str) -> Self {
        if accept.to_ascii_lowercase().contains("application/openmetrics-text") { Self::Open } else { Self::Classic }
    }

    /// Its content type.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Classic => classic::CONTENT_TYPE,
        }
    }
}

/// Everything as text.
///
/// # Errors
/// None that is known: text has room for everything.
pub fn text(admin: Arc<Admin>, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("segdns");
    registry.register_collector(Box::new(Scrape(admin)));
    let mut out = String::new();
    encode(&mut out, &registry)?;
    Ok(if format == Format::Classic { classic::classic(&out) } else { out })
}

struct Scrape(Arc<Admin>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

type Labels<const N: usize> = [(&'static str, String); N];

/// Writes families of counters and gauges.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<const N: usize>(&mut self, name: &str, help: &str, all: Vec<(Labels<N>, u64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in &all {
            let counter = ConstCounter::new(*value);
            if N == 0 {
                return counter.encode(family);
            }
            counter.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    fn gauges<const N: usize>(&mut self, name: &str, help: &str, all: Vec<(Labels<N>, i64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in &all {
            let gauge = ConstGauge::new(*value);
            if N == 0 {
                return gauge.encode(family);
            }
            gauge.encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// A gauge of times; `name` is without the unit.
    fn seconds<const N: usize>(&mut self, name: &str, help: &str, all: Vec<(Labels<N>, f64)>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        for (labels, value) in &all {
            ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }

    /// Histograms; `name` is without the unit.
    fn histograms<const N: usize>(
        &mut self,
        (name, unit): (&str, Unit),
        help: &str,
        all: Vec<(Labels<N>, Reading)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&unit), MetricType::Histogram)?;
        for (labels, Reading { buckets, count, sum }) in &all {
            family.encode_family(labels)?.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None)?;
        }
        Ok(())
    }

    /// A histogram of times; `name` is without the unit.
    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let Reading { buckets, count, sum } = histogram.read();
        family.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn signed(value: usize) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Writer(encoder);
        let admin = &*self.0;
        let table = admin.keeper.snapshot().load();
        answers::queries(&mut out, admin, &table)?;
        cache::cache(&mut out, admin)?;
        upstreams::forwarding(&mut out, admin)?;
        objects::names(&mut out, admin, &table)?;
        objects::sources(&mut out, &admin.board, &admin.config().clusters()[LOCAL])?;
        objects::reports(&mut out, admin, &table)?;
        config::reloads(&mut out, &admin.reloads)?;
        answers::sockets(&mut out, admin)
    }
}
