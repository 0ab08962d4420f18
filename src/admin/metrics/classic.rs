//! OpenMetrics text as the older text format (version 0.0.4), which everything that does not ask for OpenMetrics reads.
//!
//! Samples are the same in both, but that edges are `le="100"` as in CoreDNS's, not `le="100.0"`. Counters have their `_total` in
//! the older one's descriptions too, and units are no lines of it. `# EOF` stays: it is a comment there, by which a person sees
//! that nothing was cut.

use std::borrow::Cow;
use std::collections::HashSet;

/// The content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A sample with its upper edge, if it has one, without decimals that say nothing.
fn edge(line: &str) -> Cow<'_, str> {
    const LABEL: &str = "_bucket{le=\"";
    let split = line.split_once(LABEL).and_then(|(name, rest)| Some((name, rest.split_once('"')?)));
    match split.and_then(|(name, (edge, rest))| Some((name, edge.strip_suffix(".0")?, rest))) {
        Some((name, edge, rest)) => format!("{name}{LABEL}{edge}\"{rest}").into(),
        None => line.into(),
    }
}

/// The same in the older format.
pub fn classic(text: &str) -> String {
    let counters: HashSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(text.len() + 64 * counters.len());
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ")) {
        let described = ["# HELP ", "# TYPE "].into_iter().find_map(|word| Some((word, line.strip_prefix(word)?)));
        let split = described.and_then(|(word, rest)| Some((word, rest.split_once(' ')?)));
        match split.filter(|(_, (name, _))| counters.contains(*name)) {
            Some((word, (name, rest))) => out.extend([word, name, "_total ", rest, "\n"]),
            None => out.extend([&edge(line), "\n"]),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_described_by_the_name_of_their_samples_and_units_are_left_out() {
        let open = "# HELP segdns_a A thing.\n# TYPE segdns_a counter\nsegdns_a_total{b=\"# TYPE\"} 1\n\
                    # HELP segdns_c_seconds Time.\n# TYPE segdns_c_seconds histogram\n# UNIT segdns_c_seconds seconds\n\
                    segdns_c_seconds_sum 0.0\nsegdns_c_seconds_bucket{le=\"1.0\"} 0\n\
                    segdns_c_seconds_bucket{le=\"0.0005\",to=\"10.0.0.1\"} 0\n\
                    # HELP segdns_d D.\n# TYPE segdns_d gauge\nsegdns_d 1\n# EOF\n";
        let want = "# HELP segdns_a_total A thing.\n# TYPE segdns_a_total counter\nsegdns_a_total{b=\"# TYPE\"} 1\n\
                    # HELP segdns_c_seconds Time.\n# TYPE segdns_c_seconds histogram\n\
                    segdns_c_seconds_sum 0.0\nsegdns_c_seconds_bucket{le=\"1\"} 0\n\
                    segdns_c_seconds_bucket{le=\"0.0005\",to=\"10.0.0.1\"} 0\n\
                    # HELP segdns_d D.\n# TYPE segdns_d gauge\nsegdns_d 1\n# EOF\n";
        assert_eq!(classic(open), want);
    }
}
