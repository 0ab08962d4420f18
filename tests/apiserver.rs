//! The API server of the tests behaves like a real one.

mod support {
    #![allow(dead_code, reason = "every test crate uses its own part of this")]

    pub mod apiserver;
}
