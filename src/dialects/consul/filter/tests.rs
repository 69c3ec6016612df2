//! The table was answered by Consul 1.8.7 for an equal element, but where a comment says otherwise.

use serde_json::{Value, json};

use super::shape::Shape::{Flag, List, Map, Number, Struct, Text};
use super::*;

const ENDPOINT: Shape = Struct(&[("Address", Text), ("Port", Number)]);
const ELEMENT: Shape = Struct(&[
    ("Node", Struct(&[("Node", Text), ("Meta", Map(&Text))])),
    (
        "Service",
        Struct(&[
            ("Kind", Text),
            ("Service", Text),
            ("Tags", List(&Text)),
            ("Port", Number),
            ("Meta", Map(&Text)),
            ("TaggedAddresses", Map(&ENDPOINT)),
            ("Weights", Struct(&[("Passing", Number)])),
            ("EnableTagOverride", Flag),
        ]),
    ),
    ("Checks", List(&Struct(&[("Status", Text), ("ServiceTags", List(&Text))]))),
]);

fn element() -> Value {
    json!({
        "Node": {"Node": "n1", "Meta": {"os": "linux", "consul-network-segment": ""}},
        "Service": {
            "Service": "web", "Tags": ["a", "B", "two words"], "Port": 80, "Meta": {"v": "1", "my-key": "é"},
            "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": 81}}, "Weights": {"Passing": 5}, "EnableTagOverride": false
        },
        "Checks": [{"Status": "passing", "ServiceTags": []}, {"Status": "critical", "ServiceTags": ["a"]}]
    })
}

fn take(text: &str) -> Result<bool, FilterError> {
    Filter::read(text, &ELEMENT).map(|filter| filter.matches(&element()))
}

const HOLD: &[&str] = &[
    "Service.Service == web",
    "Service.Service==web",
    "Service.Service == \"web\"",
    "Service.Service == `web`",
    "Service.Service != db",
    "Service.Port == 80",
    "Service.Port != 81",
    "Service.Kind == \"\"",
    "Service.EnableTagOverride == false",
    "Service.EnableTagOverride != T",
    "a in Service.Tags",
    "\"two words\" in Service.Tags",
    "b not in Service.Tags",
    "Service.Tags contains B",
    "Service.Tags not contains b",
    "Service.Tags is not empty",
    "not Service.Tags is empty",
    "\"e\" in Service.Service",
    "Service.Service contains we",
    "v in Service.Meta",
    "Service.Meta contains v",
    "Service.Meta.v == 1",
    "Service.Meta[\"my-key\"] == \"\\u00e9\"",
    "Service.Meta[ `my-key` ] == `é`",
    "Service.Meta.none != 1",
    "Service.Meta.none not matches 1",
    "Service.Meta.v matches \"^[0-9]$\"",
    "Service.Service matches `e`",
    "Service.Service not matches `^e`",
    "Service.TaggedAddresses.wan.Port == 81",
    "Service.TaggedAddresses contains wan",
    "Service.Weights.Passing == 5",
    "Checks.Status == critical",
    "Checks.Status != passing",
    "Checks.Status == passing and Checks.Status == critical",
    "Checks is not empty",
    "a in Checks.ServiceTags",
    "Node.Meta.os == linux",
    "(Service.Port == 80)",
    "not Service.Port == 80 or Service.Port == 80",
    "not (Service.Port == 80 and Service.Port == 81)",
    "Service.Port == 81 and Service.Port == 80 or Service.Port == 80",
    "Service.Port == 80 or Service.Port == 80 and Service.Port == 81",
    "\n( ( Service.Port == 80 ) and not\tnot Service.Service == web )\r",
    "(Service.Port == 80)and(Service.Service == web)",
];

const FAIL: &[&str] = &[
    "Service.Service == we",
    "Service.Service != web",
    "Service.Port == -80",
    "c in Service.Tags",
    "Service.Tags is empty",
    "Service.Meta.none == 1",
    "Service.Meta.none matches \"\"",
    "1 in Service.Meta",
    "Service.Service matches `^e`",
    "Service.TaggedAddresses.lan.Port == 81",
    "Checks is empty",
    "Checks.Status == warning",
    "not Service.Port == 80",
    "(Service.Port == 80 or Service.Port == 80) and Service.Port == 81",
    "not not not Service.Port == 80",
];

const REFUSED: &[(&str, &str)] = &[
    ("Service.Foo == x", "Selector \"Service.Foo\" is not valid"),
    ("service.Service == x", "Selector \"service.Service\" is not valid"),
    ("Service.Service.Deeper == x", "Selector \"Service.Service.Deeper\" is not valid"),
    ("Service.Port in 80", "1:17 (16): no match found, expected: a selector"),
    ("Service.Port == abc", "Failed to coerce value \"abc\" for selector \"Service.Port\""),
    ("Service.Port == 1.5", "Failed to coerce value \"1.5\" for selector \"Service.Port\""),
    ("Service.EnableTagOverride == maybe", "Failed to coerce value \"maybe\" for selector \"Service.EnableTagOverride\""),
    ("Service.Tags == a", "Invalid match operator \"Equal\" for selector \"Service.Tags\""),
    ("Service == a", "Invalid match operator \"Equal\" for selector \"Service\""),
    ("Service.Port contains 8", "Invalid match operator \"In\" for selector \"Service.Port\""),
    ("a not in Checks", "Invalid match operator \"Not In\" for selector \"Checks\""),
    ("Service.Service is empty", "Invalid match operator \"Is Empty\" for selector \"Service.Service\""),
    ("Service.Meta.v is not empty", "Invalid match operator \"Is Not Empty\" for selector \"Service.Meta.v\""),
    ("Service.Tags matches a", "Invalid match operator \"Matches\" for selector \"Service.Tags\""),
    ("Service.Service ==", "1:19 (18): no match found, expected: a value"),
    ("Service.Service == we-b", "1:22 (21): no match found, expected: a number"),
    ("(Service.Port == 80", "1:20 (19): no match found, expected: \")\""),
    ("Service.Port == 80)", "1:19 (18): no match found, expected: \"and\", \"or\" or the end"),
    ("Service.Port == 80 and", "1:23 (22): no match found, expected: a selector or a value"),
    ("Service.Port == 080", "1:17 (16): no match found, expected: a number"),
    ("Service.Service == \"open", "1:20 (19): no match found, expected: a text with an end"),
    ("Service.Service == \"\\q\"", "1:20 (19): no match found, expected: a text with Go's escapes"),
    ("Service.Meta[v] == 1", "1:14 (13): no match found, expected: a quoted key"),
    ("", "1:1 (0): no match found, expected: a selector or a value"),
];

#[test]
fn what_consul_answers_is_answered() {
    for text in HOLD {
        assert_eq!(take(text), Ok(true), "{text}");
    }
    for text in FAIL {
        assert_eq!(take(text), Ok(false), "{text}");
    }
}

#[test]
fn what_does_not_fit_is_refused_before_any_element_is_seen() {
    for (text, why) in REFUSED {
        let refused = take(text).expect_err(text).to_string();
        assert_eq!(refused.strip_prefix("Failed to create boolean expression evaluator: "), Some(*why), "{text}");
    }
    let broken = take("Service.Service matches \"[\"").unwrap_err().to_string();
    assert!(broken.contains("Failed to compile regular expression \"[\""), "{broken}");
}

#[test]
fn a_field_that_an_element_leaves_out_is_empty() {
    let bare = |text| Filter::read(text, &ELEMENT).unwrap().matches(&json!({"Service": {"Tags": null}}));
    for text in [
        "Service.Tags is empty",
        "Service.Meta is empty",
        "Service.Port == 0",
        "Service.Service == \"\"",
        "Service.EnableTagOverride == false",
        "Checks is empty",
        "Service.Weights.Passing == 0",
        "Node.Meta.os != linux",
    ] {
        assert!(bare(text), "{text}");
    }
    assert!(!bare("Checks.Status != passing"), "none of no checks");
}

#[test]
fn filters_are_bounded() {
    let deep = |depth: usize| format!("{}Service.Port == 80{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(take(&deep(DEPTH_MAX - 1)), Ok(true));
    assert_eq!(take(&deep(DEPTH_MAX)), Err(FilterError::TooDeep));
    assert_eq!(take(&"not ".repeat(2_000)), Err(FilterError::TooDeep));
    assert_eq!(take(&" ".repeat(FILTER_BYTES_MAX + 1)), Err(FilterError::TooLong));
    let patterns = |count: usize| vec!["Service.Service matches w"; count].join(" and ");
    assert_eq!(take(&patterns(PATTERNS_MAX)), Ok(true));
    assert_eq!(take(&patterns(PATTERNS_MAX + 1)), Err(FilterError::TooManyPatterns));
    assert!(matches!(take("Service.Service matches `(((a{100}){100}){100})`"), Err(FilterError::Pattern { .. })));
    let wide = vec!["Service.Port == 80"; 300].join(" or ");
    assert_eq!(take(&wide), Ok(true));
}

/// SplitMix64: the same mutations in each run.
fn random(state: &mut u64) -> usize {
    *state = state.wrapping_add(crate::select::random::STEP);
    crate::select::random::mix(*state) as usize
}

#[test]
fn mutated_filters_are_refused_or_answered_and_never_panic() {
    let pieces =
        [" and ", " or ", "not ", "(", ")", "[", "]", "\"", "`", ".", "-", "\\", "==", " in ", " is empty", "\u{1f980}", "é", "\0", "0"];
    let texts: Vec<&str> = HOLD.iter().chain(FAIL).copied().chain(REFUSED.iter().map(|(text, _)| *text)).collect();
    let (element, mut state, mut taken) = (element(), 7, 0);
    for _ in 0..20_000 {
        let mut text: Vec<char> = texts[random(&mut state) % texts.len()].chars().collect();
        for _ in 0..=random(&mut state) % 3 {
            let at = random(&mut state) % (text.len() + 1);
            match random(&mut state) % 4 {
                0 => drop(text.splice(at..at, pieces[random(&mut state) % pieces.len()].chars())),
                1 => text.truncate(at),
                2 => drop(text.drain(at..text.len().min(at + 3))),
                _ => text.extend(texts[random(&mut state) % texts.len()].chars()),
            }
        }
        let text: String = text.into_iter().collect();
        if let Ok(filter) = Filter::read(&text, &ELEMENT) {
            taken += 1;
            filter.matches(&element);
            filter.matches(&json!({"Service": 7, "Checks": {"Status": []}}));
        }
    }
    assert!((100..19_900).contains(&taken), "{taken} of 20,000 were taken: the mutations teach nothing");
}
