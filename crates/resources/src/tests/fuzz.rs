//! Any bytes at all: nothing panics, and time stays in proportion to size.

use crate::fuzz_parse;
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

/// Text made of the pieces that mean something to the readers, so that it gets further than noise would.
fn pieces() -> impl Strategy<Value = String> {
    const PIECES: [&str; 40] = [
        "apiVersion: dapr.io/v1alpha1\n",
        "apiVersion: dapr.io/v2alpha1\n",
        "kind: Component\n",
        "kind: Configuration\n",
        "kind: Subscription\n",
        "kind: Resiliency\n",
        "kind: HTTPEndpoint\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  type: state.redis\n",
        "  metadata:\n",
        "  - name: x\n",
        "    value: 1\n",
        "    secretKeyRef: {name: a}\n",
        "---\n",
        "...\n",
        "- ",
        "  ",
        "\t",
        "\n",
        ": ",
        "{",
        "}",
        "[",
        "]",
        ",",
        "&a ",
        "*a ",
        "<<: ",
        "!x ",
        "| \n",
        "\"",
        "'",
        "# c\n",
        "5s",
        "policies: ",
        "targets: ",
        "routes: ",
        "apps:\n",
        "version: 1\n",
    ];
    let piece = prop_oneof![
        8 => prop::sample::select(PIECES.as_slice()).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_parse(&bytes);
    }

    /// The case files with a few of their bytes replaced: deep inside the readers from the start.
    #[test]
    fn damaged_cases(
        case in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3_u8), 1..8),
    ) {
        let names = ["component-good.yaml", "configuration-good.yaml", "resiliency.yaml", "resiliency-policies.yaml",
            "subscription.yaml", "http-endpoint.yaml", "run-good.yaml", "aliases.yaml"];
        let mut bytes = super::read(names[case.index(names.len())]).into_bytes();
        for (place, byte, how) in damage {
            let at = place.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        fuzz_parse(&bytes);
    }

    #[test]
    fn nearly_resources(text in pieces()) {
        fuzz_parse(text.as_bytes());
    }
}

/// Large inputs that would hurt a careless reader: each must be done in about the time of a plain file of the size.
/// There is no clock here; a quadratic reader makes the test run for minutes.
#[test]
fn large_inputs() {
    let size = crate::load::FILE_BYTES_MAX / 4;
    let keys: String = (0..45_000).map(|i| format!("k{i}: v\n")).collect();
    let head = "apiVersion: dapr.io/v1alpha1\nkind: Component\nmetadata: {name: a}\nspec:\n";
    let inputs = [
        "[".repeat(size),
        "{".repeat(size),
        "- ".repeat(size / 2),
        "? ".repeat(size / 2),
        "a: ".repeat(size / 3),
        "\"".repeat(size),
        "&a ".repeat(size / 3),
        "---\n".repeat(size / 4),
        "--- [\n".repeat(size / 6),
        "%".repeat(size),
        "#".repeat(size),
        "a".repeat(size),
        format!("a: |\n{}", "  x\n".repeat(size / 4 - 2)),
        format!("a: &a [{}]", "*a,".repeat(size / 3 - 4)),
        format!("a: &a b\nc: [{}]", "*a,".repeat(size / 3 - 8)),
        format!("{head}{}", keys.lines().map(|line| format!("  {line}\n")).collect::<String>()),
        format!("a: &a {{x: 1}}\n<<: [{}]", "*a,".repeat(size / 3 - 12)),
        keys,
    ];
    for input in inputs {
        assert!(input.len() <= crate::load::FILE_BYTES_MAX);
        fuzz_parse(input.as_bytes());
    }
    fuzz_parse(&vec![b' '; crate::load::FILE_BYTES_MAX + 1]);
}
