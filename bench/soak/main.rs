//! Ten minutes of everything at once against a release build: `cargo bench --bench soak`. tests/soak.rs runs a minute of it.

#[path = "../../tests/load/mod.rs"]
mod load;
#[path = "../../tests/soak/mod.rs"]
mod soak;
#[path = "../../tests/support/mod.rs"]
mod support;

fn main() {
    soak::run(600);
}
