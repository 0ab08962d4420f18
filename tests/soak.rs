//! Everything at once, for a minute. `cargo bench --bench soak` runs ten of a release build; `SEGDNS_SOAK_SECONDS` sets another
//! time for either, and `SEGDNS_SOAK_SEED` repeats a run.

mod load;
#[path = "soak/mod.rs"]
mod parts;
mod support;

#[test]
fn everything_goes_wrong_at_once_and_every_answer_is_right() {
    parts::run(60);
}
