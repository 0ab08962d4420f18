//! OpenMetrics text as the older text format (version 0.0.4), which everything that does not ask for OpenMetrics reads.
//!
//! Samples are the same in both. Counters have their `_total` in the older one's descriptions too, and units are no lines of
//! it. `# EOF` stays: it is a comment there, by which a person sees that nothing was cut.

use std::collections::HashSet;

/// The content type.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
            None => out.extend([line, "\n"]),
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
                    segdns_c_seconds_sum 0.0\n# HELP segdns_d D.\n# TYPE segdns_d gauge\nsegdns_d 1\n# EOF\n";
        let want = "# HELP segdns_a_total A thing.\n# TYPE segdns_a_total counter\nsegdns_a_total{b=\"# TYPE\"} 1\n\
                    # HELP segdns_c_seconds Time.\n# TYPE segdns_c_seconds histogram\n\
                    segdns_c_seconds_sum 0.0\n# HELP segdns_d D.\n# TYPE segdns_d gauge\nsegdns_d 1\n# EOF\n";
        assert_eq!(classic(open), want);
    }
}
