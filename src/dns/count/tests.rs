use super::*;

#[test]
fn what_a_writer_has_left_the_next_one_goes_on_with() {
    let registry = Registry::default();
    for _ in 0..3 {
        let (one, other) = (registry.own(), registry.own());
        assert!(!Arc::ptr_eq(&one, &other));
        one.ignored();
        other.ignored();
        // Many writers need other counters than one.
        registry.shared().ignored();
    }
    assert_eq!(registry.ignored(), 9);
    assert_eq!((registry.own.all().len(), registry.shared.all().len()), (2, 1));
}

#[test]
fn a_size_is_counted_at_the_first_edge_that_it_does_not_pass() {
    let infinite = f64::INFINITY;
    for (size, edge) in [
        (0, 0.0),
        (1, 100.0),
        (100, 100.0),
        (101, 200.0),
        (511, 511.0),
        (512, 1023.0),
        (1023, 1023.0),
        (1024, 2047.0),
        (4095, 4095.0),
        (8292, 16_000.0),
        (64_000, 64_000.0),
        (65_535, infinite),
    ] {
        let registry = Registry::default();
        registry.own().request(Transport::Tcp, [10, 0, 0, 1].into(), 1, size);
        registry.shared().response(Transport::Tcp, 0, Source::Table, Reason::Visible, size);
        for [(_, udp), (word, tcp)] in registry.sizes() {
            let filled: Vec<(f64, u64)> = tcp.buckets.into_iter().filter(|(_, count)| *count > 0).collect();
            assert_eq!((word, filled, tcp.count, tcp.sum), ("tcp", vec![(edge, 1)], 1, size as f64), "{size}");
            assert_eq!((udp.count, udp.sum), (0, 0.0));
        }
    }
}

#[test]
fn times_are_of_all_writers_together_and_of_one_source_each() {
    let registry = Registry::default();
    registry.own().took(Source::Table, 3, 30_000);
    registry.own().took(Source::Table, 1, 9_000_000_000);
    registry.shared().took(Source::Upstream, 1, 1_000_000);
    let times = registry.times();
    let table = &times[Source::Table as usize];
    assert_eq!((table.0, table.1.count, table.1.sum), ("table", 4, 9.000_09));
    let filled = |at: Source| -> Vec<(f64, u64)> {
        times[at as usize].1.buckets.iter().copied().filter(|(_, count)| *count > 0).collect()
    };
    assert_eq!(filled(Source::Table), [(50e-6, 3), (f64::INFINITY, 1)]);
    assert_eq!(filled(Source::Upstream), [(1e-3, 1)]);
    assert_eq!(filled(Source::Cache), []);
}

#[test]
fn counters_that_go_from_hand_to_hand_lose_nothing() {
    const HANDS: usize = 4;
    const TURNS: usize = 400;
    let registry = Registry::default();
    std::thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                for turn in 0..TURNS {
                    let own = registry.own();
                    (0..turn % 50).for_each(|_| own.ignored());
                }
            });
        }
    });
    let each: usize = (0..TURNS).map(|turn| turn % 50).sum();
    assert_eq!(registry.ignored(), (HANDS * each) as u64);
    assert!(registry.own.all().len() <= HANDS, "what is left is used again");
}

#[test]
fn an_ipv4_mapped_address_is_counted_as_ipv4() {
    for (from, family) in [("10.0.0.1", "1"), ("::ffff:10.0.0.1", "1"), ("fd00::1", "2"), ("::1", "2")] {
        let registry = Registry::default();
        registry.own().request(Transport::Udp, from.parse().unwrap(), 28, 40);
        let counted: Vec<_> = registry.requests().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [(["udp", family, "AAAA"], 1)], "{from}");
    }
}
