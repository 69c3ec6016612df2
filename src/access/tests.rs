//! Whole decisions: who shows what, and what becomes of it.

use super::*;
use crate::model::command::{Command, OverrideTarget, Target};
use crate::model::names::{InstanceId, Namespace, NodeName, ServiceName};
use crate::model::record::Uid;

const OPS: &str = "the-secret-of-the-operators";
const CI: &str = "the-secret-of-the-deployer";

fn token(name: &str, secret: &str, grants: &[&str]) -> Token {
    Token { name: name.into(), secret: secret.parse().unwrap(), grants: grants.iter().map(|grant| grant.parse().unwrap()).collect() }
}

fn rules(anonymous: &[&str]) -> Rules {
    let tokens = vec![token("ops", OPS, &["read", "write", "operator"]), token("ci", CI, &["write@prod:web"])];
    Rules::new(tokens, anonymous.iter().map(|grant| grant.parse().unwrap()).collect()).unwrap()
}

const NEEDS: [Need<'static>; 5] = [
    Need::Nothing,
    Need::Read,
    Need::Write { namespace: "prod", service: "web" },
    Need::Write { namespace: "default", service: "web" },
    Need::Operate,
];

/// A letter a need: let in, asked for a token, unknown token, not granted.
fn told(rules: &Rules, shown: Option<&str>) -> String {
    let caller = rules.caller(shown);
    let letter = |need: &Need<'_>| match caller.may(*need) {
        Ok(()) => '+',
        Err(Denied::NoToken { .. }) => 't',
        Err(Denied::UnknownToken) => 'u',
        Err(Denied::NotGranted { .. }) => 'n',
        Err(other) => panic!("{other}"),
    };
    NEEDS.iter().map(letter).collect()
}

#[test]
fn every_caller_gets_what_his_token_and_everybody_may_have() {
    let (closed, readable) = (rules(&[]), rules(&["read"]));
    for (rules, shown, expected) in [
        (&Rules::default(), None, "+++++"),
        (&Rules::default(), Some("whatever"), "+++++"),
        (&closed, None, "+tttt"),
        (&closed, Some(""), "+uuuu"),
        (&closed, Some("whatever"), "+uuuu"),
        (&closed, Some(OPS), "+++++"),
        (&closed, Some(CI), "+n+nn"),
        (&closed, Some("ops"), "+uuuu"),
        (&readable, None, "++ttt"),
        (&readable, Some("whatever"), "+uuuu"),
        (&readable, Some(CI), "+++nn"),
    ] {
        assert_eq!(told(rules, shown), expected, "{shown:?}");
    }
    let refusal = closed.caller(Some(CI)).may(Need::Operate).unwrap_err().to_string();
    assert!(refusal.contains("\"ci\"") && refusal.contains("operator") && !refusal.contains(CI), "{refusal}");
}

#[test]
fn rules_that_contradict_themselves_are_refused() {
    let two = |a: Token, b: Token| Rules::new(vec![a, b], Vec::new()).unwrap_err();
    assert_eq!(two(token("a", OPS, &[]), token("a", CI, &[])), BadRules::SameName("a".into()));
    assert_eq!(two(token("a", OPS, &[]), token("b", OPS, &["read"])), BadRules::SameSecret("a".into(), "b".into()));
    assert_eq!(Rules::new(Vec::new(), vec![Grant::Operator]).unwrap_err(), BadRules::AnonymousOperator);
    let many = (0..=TOKENS_MAX).map(|i| token(&i.to_string(), &format!("a-long-enough-secret-{i}"), &[])).collect();
    assert_eq!(Rules::new(many, Vec::new()).unwrap_err(), BadRules::TooMany);
}

fn target(service: &str, uid: Option<u128>) -> Target {
    Target {
        namespace: Namespace::new("prod").unwrap(),
        service: ServiceName::new(service).unwrap(),
        id: InstanceId::new("1").unwrap(),
        uid: uid.map(Uid),
    }
}

fn allows(grants: &[&str], command: &Command) -> bool {
    let rules = Rules::new(vec![token("t", OPS, grants)], Vec::new()).unwrap();
    let caller = rules.caller(Some(OPS));
    need::of(command, &|target| target.uid == Some(Uid(1)), &mut |need| caller.may(need)).is_ok()
}

#[test]
fn commands_need_what_they_change() {
    let beat = |service: &str| Command::Heartbeat { target: target(service, None), report: None };
    assert!(allows(&["write:web"], &beat("web-1")));
    assert!(!allows(&["write:web"], &beat("db")));
    assert!(!allows(&["read", "operator"], &beat("web-1")));
    assert!(allows(&["write:web"], &Command::Batch(vec![beat("web"), beat("web-2")])));
    assert!(!allows(&["write:web"], &Command::Batch(vec![beat("web"), beat("db")])), "one that is denied denies all");
    let node = OverrideTarget::Node(NodeName::new("n1").unwrap());
    assert!(!allows(&["write", "read"], &Command::ClearOverride { of: node.clone() }));
    assert!(allows(&["operator"], &Command::ClearOverride { of: node }));
    assert!(allows(&["write@prod"], &Command::ClearOverride { of: OverrideTarget::Instance(target("db", None)) }));
    assert!(!allows(&["write", "read"], &Command::Leave) && allows(&["operator"], &Command::Leave));
}

#[test]
fn a_uid_of_another_service_opens_no_door() {
    let by_uid = |uid| Command::Heartbeat { target: target("web", Some(uid)), report: None };
    assert!(allows(&["write:web"], &by_uid(1)));
    assert!(!allows(&["write:web"], &by_uid(2)), "it may be anybody's");
    assert!(!allows(&["write@prod"], &by_uid(2)));
    assert!(allows(&["write"], &by_uid(2)));
}
