//! Whether a text that does not parse may have held who belongs to which segment.

/// Kinds that decide a caller's segment, or what a segment is.
const POLICY: [&str; 6] = ["Namespace", "NamespaceList", "Pod", "PodList", "Segment", "SegmentList"];
/// `kind:` further in is some reference's. kubectl's own indent is 2; a hand-written indented List has 4.
const MAX_INDENT: usize = 4;

/// Looks for `kind:` as text. What names none is taken for policy: nothing is known of it.
pub fn may_hold_policy(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    let (mut any, mut before) = (false, "");
    for line in text.lines() {
        // The pod behind an endpoint, in every EndpointSlice of a real cluster.
        let reference = before.ends_with("targetRef:") || before.ends_with("\"targetRef\": {");
        before = line.trim_end();
        for kind in kinds(line) {
            if POLICY.contains(&kind) && !reference {
                return true;
            }
            any |= !matches!(kind, "" | "List");
        }
    }
    !any
}

/// The values of `kind` in a line: one in block style, any number in JSON.
fn kinds(line: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !c.is_ascii_alphanumeric();
    let block = line.trim_start_matches([' ', '-']);
    let indent = line.len() - block.len();
    let block = block.strip_prefix("kind:").filter(|_| indent <= MAX_INDENT);
    let flow = line.split("\"kind\"").skip(1).filter_map(|rest| rest.trim_start().strip_prefix(':'));
    // kubectl's copy of an object in its annotation is JSON inside YAML, and says nothing new.
    let flow = flow.filter(move |_| block.is_none());
    block.into_iter().chain(flow).map(move |value| {
        let value = value.trim_start().trim_start_matches(['"', '\'']);
        value.split(word).next().unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::may_hold_policy;

    #[test]
    fn only_a_text_that_names_other_kinds_alone_holds_no_policy() {
        let cases = [
            ("kind: Namespace\nmetadata: {", true),
            ("apiVersion: v1\nitems:\n- kind: Segment\n", true),
            ("- apiVersion: v1\n  kind: Pod\n", true),
            ("kind: \"Pod\"\n", true),
            ("{\"kind\":\"List\",\"items\":[{\"kind\":\"Namespace\"}]}", true),
            ("kind: List\nitems:\n", true),
            ("garbage", true),
            ("", true),
            ("kind: Service\nspec: [", false),
            ("kind: Service\n---\nkind: Namespace\n", true),
            ("- endpoints:\n  - targetRef:\n      kind: Pod\n  kind: EndpointSlice\n", false),
            ("endpoints:\n- addresses: []\n  targetRef:\n    kind: Pod\nkind: EndpointSlice\n", false),
        ];
        for (text, want) in cases {
            assert_eq!(may_hold_policy(text.as_bytes()), want, "{text}");
        }
    }
}
