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
