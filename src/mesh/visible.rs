//! Who sees what (R11, R12).

use super::segment::{DEFAULT, SegmentIx};
use super::settings::{CrossSegment, Policy};

/// Which publishers' names and addresses of a segment a caller may see (R5, R11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// All of them: the caller is of that segment.
    Own,
    /// Those of scope `global`: the caller is of another segment.
    Cross,
    /// None.
    Nothing,
}

/// What a caller of segment `caller` may see of segment `of` (R11, R12).
#[must_use]
pub fn view(policy: &Policy, caller: SegmentIx, of: SegmentIx) -> View {
    if caller == of {
        View::Own
    } else if policy.cross_segment == CrossSegment::Scope && (of != DEFAULT || policy.default_segment_visible) {
        View::Cross
    } else {
        View::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_sees_its_own_segment_and_what_is_global_of_the_others() {
        let open = Policy::default();
        let deny = Policy { cross_segment: CrossSegment::Deny, ..Policy::default() };
        let soft = Policy { default_segment_visible: true, ..Policy::default() };
        let both = Policy { default_segment_visible: true, ..deny.clone() };
        let cases = [
            (&open, 1, 1, View::Own),
            (&open, 1, 2, View::Cross),
            (&open, 1, DEFAULT, View::Nothing),
            (&open, DEFAULT, 1, View::Cross),
            (&open, DEFAULT, DEFAULT, View::Own),
            (&deny, 1, 1, View::Own),
            (&deny, 1, 2, View::Nothing),
            (&deny, DEFAULT, 1, View::Nothing),
            (&soft, 1, DEFAULT, View::Cross),
            (&both, 1, DEFAULT, View::Nothing),
        ];
        for (policy, caller, of, want) in cases {
            assert_eq!(view(policy, caller, of), want, "{caller} of {of} under {policy:?}");
        }
    }
}
