use super::*;

#[test]
fn what_a_writer_has_left_the_next_one_goes_on_with() {
    let registry = Registry::default();
    for _ in 0..3 {
        let (one, other) = (registry.register(false), registry.register(false));
        assert!(!Arc::ptr_eq(&one, &other));
        one.ignored();
        other.ignored();
        // Many writers need other counters than one.
        registry.register(true).ignored();
    }
    assert_eq!(registry.ignored(), 9);
    assert_eq!(registry.all.lock().unwrap().len(), 3);
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
                    let own = registry.register(false);
                    (0..turn % 50).for_each(|_| own.ignored());
                }
            });
        }
    });
    let each: usize = (0..TURNS).map(|turn| turn % 50).sum();
    assert_eq!(registry.ignored(), (HANDS * each) as u64);
    assert!(registry.all.lock().unwrap().len() <= HANDS, "what is left is used again");
}
