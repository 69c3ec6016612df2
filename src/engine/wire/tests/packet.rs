//! The bytes of every kind of part and frame, and what bodies that are none of them cost.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};

use super::{BODY_BYTES_MAX, golden, packet::*};
use crate::engine::spread::sketch::{HeadKey, Size, Sketch};
use crate::model::coordinate::Coordinate;
use crate::model::{
    command::{
        Command, Condition, GossipKey, KeyId, LeaseId, OverrideTarget, Refusal, Registration, Reply, Report, Target, WriteResult, Written,
    },
    entry::{EntryBody, EntryKey},
    event::UserEvent,
    instance::{Check, CheckKind, Endpoint, Health, Instance, Lease, Source},
    names::{InstanceId, Namespace, NodeId, NodeName, ServiceName},
    node::{NodeInfo, Override},
    record::{AsOf, Base, Batch, Content, Head, HeadFlags, Key, Kind, Record, RecordState, Scope, Uid},
    time::WallMs,
};

const ORIGIN: NodeId = NodeId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);

/// The name of a part's kind. A new kind does not compile here until it has a sample below.
fn part_kind(part: &Part) -> &'static str {
    match part {
        Part::Swim(_) => "swim",
        Part::Roots(_) => "roots",
        Part::Delta { .. } => "delta",
        Part::Adverts(_) => "adverts",
        Part::Wants(_) => "wants",
        Part::FetchInstead(_) => "fetch_instead",
        Part::Sketch(_) => "sketch",
        Part::Undecoded { .. } => "undecoded",
        Part::Heads(_) => "heads",
        Part::Ask { .. } => "ask",
        Part::Answer { .. } => "answer",
        Part::Whose { .. } => "whose",
        Part::Challenge(_) => "challenge",
        Part::Echo(_) => "echo",
        Part::Compare { .. } => "compare",
        Part::Lane { .. } => "lane",
        Part::Datacenters(_) => "datacenters",
        Part::Fetch { .. } => "fetch",
        Part::Forgotten { .. } => "forgotten",
        Part::Gateway { .. } => "gateway",
        Part::Members { .. } => "pool_members",
        Part::Coordinate(_) => "coordinate",
    }
}

fn frame_kind(frame: &Frame) -> &'static str {
    match frame {
        Frame::Hello { .. } => "hello",
        Frame::Members(_) => "members",
        Frame::MembersEnd => "members_end",
        Frame::Heads(_) => "heads",
        Frame::HeadsEnd => "heads_end",
        Frame::Wants(_) => "wants",
        Frame::WantsEnd => "wants_end",
        Frame::Batch(_) => "batch",
        Frame::SnapshotStart { .. } => "snapshot_start",
        Frame::SnapshotRecords(_) => "snapshot_records",
        Frame::SnapshotEnd { .. } => "snapshot_end",
        Frame::Busy { .. } => "busy",
        Frame::Done { .. } => "done",
        Frame::Lineage(_) => "lineage",
        Frame::Lane(_) => "lane",
        Frame::Link(LinkFrame::Hello { .. }) => "link_hello",
        Frame::Link(LinkFrame::Sketch(_)) => "link_sketch",
        Frame::Link(LinkFrame::Heads(_)) => "link_heads",
        Frame::Link(LinkFrame::HeadsEnd) => "link_heads_end",
        Frame::Link(LinkFrame::Batches(_)) => "link_batches",
        Frame::Link(LinkFrame::Down { .. }) => "link_down",
        Frame::Link(LinkFrame::Compare { .. }) => "link_compare",
        Frame::Link(LinkFrame::Taken { .. }) => "link_taken",
        Frame::Link(LinkFrame::Unknown(_)) => "link_unknown",
        Frame::Link(LinkFrame::Summaries { .. }) => "link_summaries",
        Frame::Link(LinkFrame::Fetch { .. }) => "link_fetch",
        Frame::Link(LinkFrame::Fetched { .. }) => "link_fetched",
        Frame::Link(LinkFrame::Same { .. }) => "link_same",
    }
}

fn command_kind(command: &Command) -> &'static str {
    match command {
        Command::Register(_) => "ask_register",
        Command::Deregister { .. } => "ask_deregister",
        Command::Heartbeat { .. } => "ask_heartbeat",
        Command::CheckResult { .. } => "ask_check_result",
        Command::SetOverride { .. } => "ask_set_override",
        Command::ClearOverride { .. } => "ask_clear_override",
        Command::Batch(_) => "ask_batch",
        Command::RegisterNode { .. } => "ask_register_node",
        Command::DeregisterNode { .. } => "ask_deregister_node",
        Command::SetNodeCheck { .. } => "ask_set_node_check",
        Command::RemoveNodeCheck { .. } => "ask_remove_node_check",
        Command::ReportNode { .. } => "ask_report_node",
        Command::NodeCheckResult { .. } => "ask_node_check_result",
        Command::PutEntry { .. } => "ask_put_entry",
        Command::DeleteEntry { .. } => "ask_delete_entry",
        Command::DeleteEntries { .. } => "ask_delete_entries",
        Command::FireEvent(_) => "ask_fire_event",
        Command::OpenLease { .. } => "ask_open_lease",
        Command::RenewLease(_) => "ask_renew_lease",
        Command::EndLease(_) => "ask_end_lease",
        Command::Join(_) => "ask_join",
        Command::SetSeeds(_) => "ask_set_seeds",
        Command::Leave => "ask_leave",
        Command::Forget(_) => "ask_forget",
        Command::ListKeys => "ask_list_keys",
        Command::InstallKey(_) => "ask_install_key",
        Command::UseKey(_) => "ask_use_key",
        Command::RemoveKey(_) => "ask_remove_key",
        Command::JoinWan(_) => "ask_join_wan",
        Command::SetWanSeeds(_) => "ask_set_wan_seeds",
        Command::ForgetDatacenter(_) => "ask_forget_datacenter",
        Command::Fetch { .. } => "ask_fetch",
    }
}

fn answer_kind(outcome: &Result<Reply, Refusal>) -> &'static str {
    match outcome {
        Ok(Reply::Written(_)) => "answer_written",
        Ok(Reply::Batch(_)) => "answer_batch",
        Ok(Reply::Deleted { .. }) => "answer_deleted",
        Ok(Reply::Lease(_)) => "answer_lease",
        Ok(Reply::Keys(_)) => "answer_keys",
        Ok(Reply::Done) => "answer_done",
        Err(Refusal::NotFound { .. }) => "answer_not_found",
        Err(Refusal::Condition { .. }) => "answer_condition",
        Err(Refusal::Ambiguous) => "answer_ambiguous",
        Err(Refusal::TooLarge { .. }) => "answer_too_large",
        Err(Refusal::Invalid { .. }) => "answer_invalid",
        Err(Refusal::Busy { .. }) => "answer_busy",
        Err(Refusal::Unavailable { .. }) => "answer_unavailable",
        Err(Refusal::Denied { .. }) => "answer_denied",
    }
}

fn flags() -> HeadFlags {
    HeadFlags { left: true, reaped: Some(20_500) }
}

fn base() -> Base {
    Base { epoch: 1_700_000_000_000, seq: 300, sum: 0xfeed }
}

fn head() -> Head {
    Head { origin: ORIGIN, epoch: 1_700_000_000_001, seq: 1_000, base: base(), flags: flags() }
}

fn advert() -> Advert {
    Advert { origin: ORIGIN, epoch: 1_700_000_000_001, seq: 1_000, flags: flags() }
}

fn want() -> Want {
    Want { origin: ORIGIN, epoch: 1_700_000_000_001, from: 990, sum: 0xfeed }
}

fn instance() -> Instance<'static> {
    let check = |id: &'static str, kind| Check {
        id: id.into(),
        name: "Live".into(),
        notes: "as asked".into(),
        kind,
        interval_ms: 10_000,
        timeout_ms: 2_000,
        passing_after: 1,
        warning_after: 2,
        critical_after: 3,
        state: Health::Warning,
        output: "200 OK".into(),
        since: WallMs(1_700_000_000_002),
        remove_after_ms: Some(90_000),
    };
    let http = CheckKind::Http {
        url: "http://10.1.2.3:8080/health".into(),
        method: "GET".into(),
        headers: vec![("Accept".into(), "*/*".into())],
        body: "".into(),
        skip_tls_verify: true,
    };
    Instance {
        address: "10.1.2.3".into(),
        port: Some(8_080),
        secure_port: Some(8_443),
        addresses: vec![("wan".into(), Endpoint { address: "203.0.113.9".into(), port: 18_080 })],
        tags: vec!["grpc".into(), "v1".into()],
        metadata: vec![("env".into(), "prod".into()), ("version".into(), "1.4.2".into())],
        weight: 1_000,
        weight_warning: 500,
        zone: Some("a".into()),
        enabled: true,
        status: Health::Starting,
        lease: Lease::Ttl { ttl_ms: 15_000, remove_after_ms: 150_000 },
        is_expired: true,
        checks: vec![
            check("http", http),
            check("ttl", CheckKind::Ttl { ttl_ms: 15_000 }),
            check("tcp", CheckKind::Tcp { address: "10.1.2.3:8080".into() }),
            check("grpc", CheckKind::Grpc { address: "10.1.2.3:8081".into(), service: "web".into(), tls: true }),
            check("script", CheckKind::Script { args: vec!["/bin/true".into()] }),
            check("alias", CheckKind::Alias { service: "db".into() }),
        ],
        source: Source::Consul,
        registered_at: WallMs(1_700_000_000_003),
        changed_at: WallMs(1_700_000_000_004),
        ext: vec![("eureka".into(), "{}".into())],
    }
}

fn node() -> NodeInfo<'static> {
    NodeInfo {
        address: "10.1.2.3".into(),
        gossip: Some(([10, 1, 2, 3], 7_946).into()),
        http_port: Some(7_700),
        dns_port: Some(8_600),
        datacenter: "dc1".into(),
        zone: Some("a".into()),
        is_gateway: true,
        version: "0.1.0".into(),
        metadata: vec![("rack".into(), "7".into())],
        checks: instance().checks,
    }
}

fn event() -> UserEvent {
    UserEvent {
        uuid: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        name: "deploy".into(),
        payload: b"v7".to_vec(),
        node_filter: "n.*".into(),
        service_filter: "web".into(),
        tag_filter: "".into(),
        version: 1,
        fired_at: 1_700_000_000_007,
    }
}

fn records() -> Vec<Record> {
    let key = |kind, scope| Key { kind, scope, namespace: "default".into(), name: "web".into(), id: "1".into() };
    let live = |seq, content| Record { seq, claim: 1_700_000_000_005, state: RecordState::Live(content) };
    vec![
        live(996, Content::encode(&key(Kind::ENTRY, Scope::Datacenter), &EntryBody { flags: 42, value: b"\x00\xff" })),
        live(997, Content::encode(&key(Kind::EVENT, Scope::Agent), &event())),
        live(998, Content::encode(&key(Kind::NODE, Scope::Agent), &node())),
        live(999, Content::encode(&key(Kind::INSTANCE, Scope::Node("external".into())), &instance())),
        Record { seq: 1_000, claim: 9, state: RecordState::Deleted { uid: Uid(0xabcd), kind: Kind::INSTANCE } },
    ]
}

fn batch() -> Batch {
    Batch {
        origin: ORIGIN,
        epoch: 1_700_000_000_001,
        base: base(),
        from: 997,
        to: 1_000,
        flags: flags(),
        as_of: AsOf::Newest { sum: 0xbeef },
        records: records(),
    }
}

fn target() -> Target {
    Target {
        namespace: Namespace::default(),
        service: ServiceName::new("web").unwrap(),
        id: InstanceId::new("1").unwrap(),
        uid: Some(Uid(0xabcd)),
    }
}

fn commands() -> Vec<Command> {
    let registration = Registration {
        namespace: Namespace::default(),
        service: ServiceName::new("web").unwrap(),
        id: InstanceId::new("1").unwrap(),
        scope: Scope::Datacenter,
        instance: instance(),
        condition: Condition::Version(7),
        lease: Some(LeaseId(3)),
    };
    let word = Override { enabled: false, reason: "drained".into(), expires_at: Some(1_700_000_000_006), set_at: 1_700_000_000_005 };
    vec![
        Command::Register(Box::new(registration.clone())),
        Command::Deregister { target: target(), condition: Condition::Absent },
        Command::Heartbeat {
            target: target(),
            report: Some(Report { check: Some("ttl".into()), state: Health::Critical, output: "no".into() }),
        },
        Command::CheckResult { target: target(), check: "http".into(), state: Health::Passing, output: "200 OK".into() },
        Command::SetOverride { of: OverrideTarget::Instance(target()), word },
        Command::ClearOverride { of: OverrideTarget::Node(NodeName::new("n1").unwrap()) },
        Command::Batch(vec![
            Command::Register(Box::new(registration)),
            Command::Deregister { target: target(), condition: Condition::Absent },
            Command::Heartbeat { target: target(), report: None },
        ]),
        Command::RegisterNode { name: NodeName::new("ext").unwrap(), info: Box::new(node()) },
        Command::DeregisterNode { name: NodeName::new("ext").unwrap() },
        Command::SetNodeCheck { node: None, check: Box::new(instance().checks.remove(0)) },
        Command::RemoveNodeCheck { node: Some(NodeName::new("ext").unwrap()), check: "http".into() },
        Command::ReportNode { node: None, report: Some(Report { check: Some("ttl".into()), state: Health::Warning, output: "".into() }) },
        Command::NodeCheckResult { check: "http".into(), state: Health::Passing, output: "200 OK".into() },
        Command::PutEntry {
            namespace: Namespace::default(),
            key: EntryKey::new("a/b").unwrap(),
            value: vec![0, 255],
            flags: 1 << 63,
            condition: Condition::Absent,
        },
        Command::DeleteEntry { namespace: Namespace::default(), key: EntryKey::new("a/b").unwrap(), condition: Condition::Always },
        Command::DeleteEntries { namespace: Namespace::default(), prefix: "a/".into() },
        Command::FireEvent(Box::new(event())),
        Command::OpenLease { ttl_ms: Some(15_000) },
        Command::RenewLease(LeaseId(3)),
        Command::EndLease(LeaseId(3)),
        Command::Join(vec![([10, 1, 2, 3], 7_946).into()]),
        Command::SetSeeds(vec![([0, 0, 0, 0, 0, 0, 0, 1], 7_946).into()]),
        Command::Leave,
        Command::Forget(ORIGIN),
        Command::ListKeys,
        Command::InstallKey(GossipKey([7; 32])),
        Command::UseKey(KeyId(0x0102_0304)),
        Command::RemoveKey(KeyId(0x0102_0304)),
        Command::JoinWan(vec![([10, 1, 2, 3], 7_977).into()]),
        Command::SetWanSeeds(vec![([10, 1, 2, 3], 7_977).into()]),
        Command::ForgetDatacenter(crate::model::names::Datacenter::new("east").unwrap()),
        Command::Fetch {
            datacenter: crate::model::names::Datacenter::new("east").unwrap(),
            namespace: Namespace::default(),
            service: ServiceName::new("web").unwrap(),
        },
    ]
}

fn outcomes() -> Vec<Result<Reply, Refusal>> {
    let written = |result| Written { uid: Uid(0xabcd), result, revision: 77 };
    let results = [WriteResult::Created, WriteResult::Updated, WriteResult::Unchanged, WriteResult::Removed, WriteResult::Absent];
    vec![
        Ok(Reply::Written(written(WriteResult::Created))),
        Ok(Reply::Batch(results.map(written).into())),
        Ok(Reply::Deleted { entries: 300, revision: 77 }),
        Ok(Reply::Lease(LeaseId(3))),
        Ok(Reply::Keys(vec![KeyId(1), KeyId(2)])),
        Ok(Reply::Done),
        Err(Refusal::NotFound { what: "web".into() }),
        Err(Refusal::Condition { version: Some(7) }),
        Err(Refusal::Ambiguous),
        Err(Refusal::TooLarge { bytes: 70_000, bytes_max: 65_536 }),
        Err(Refusal::Invalid { what: "weight".into() }),
        Err(Refusal::Busy { retry_after_ms: 1_000, why: "queue".into() }),
        Err(Refusal::Unavailable { why: "disk full".into() }),
    ]
}

fn east() -> crate::model::names::Datacenter {
    crate::model::names::Datacenter::new("east").unwrap()
}

fn parts() -> Vec<Part> {
    let head = |origin| Advert { origin: NodeId(origin), epoch: 1, seq: 7 + origin as u64 / 25, flags: HeadFlags::default() };
    let sketch = Sketch::build(&HeadKey::new("test"), Size::Small, 2, (3..33).map(head)).parts(1).remove(0);
    let asks = commands().into_iter().map(|command| Part::Ask { id: 5, command });
    let answers = outcomes().into_iter().map(|outcome| Part::Answer { id: 5, outcome });
    let others = [
        Part::Swim(Bytes::from_static(b"swim")),
        Part::Roots(Roots { local: 1, remote: u64::MAX }),
        Part::Delta { reach: Some(Reach { first: 0x0100_0000, last: u32::MAX }), changes: batch().into() },
        Part::Adverts(vec![advert(), Advert { flags: HeadFlags::default(), ..advert() }]),
        Part::Wants(vec![want()]),
        Part::FetchInstead(vec![ORIGIN]),
        Part::Sketch(sketch),
        Part::Undecoded { id: 1, cells: 55 },
        Part::Heads(HeadsPage { after: None, until: Some(ORIGIN), heads: vec![advert()] }),
        Part::Whose { salt: 2, origins: vec![1, 0xffff_ffff_ffff] },
        Part::Challenge(0x0102_0304_0506_0708),
        Part::Echo(0x0102_0304_0506_0708),
        Part::Compare { root: 0xfeed, is_answer: true },
        Part::Lane { lane: [1, 2, 3, 4], part: Bytes::from_static(b"part") },
        Part::Datacenters(vec![Mention { datacenter: east(), root: 0xfeed, is_heard: true }]),
        Part::Forgotten { datacenter: east(), at_ms: 1_700_000_000_000 },
        Part::Fetch { datacenter: east(), namespace: Namespace::default(), service: ServiceName::new("web").unwrap() },
        Part::Gateway { datacenter: east(), is_answer: true },
        Part::Members { page: Bytes::from_static(b"page"), is_answer: true },
        Part::Coordinate(Coordinate {
            vector: [1, -1, 300, -300, 70_000, -70_000, 0, 5_000_000],
            height_us: 150,
            adjustment_us: -20,
            error_permille: 1_500,
        }),
    ];
    others.into_iter().chain(asks).chain(answers).collect()
}

fn frames() -> Vec<Frame> {
    let chunk = postcard::to_stdvec::<SnapshotChunk>(&records()).unwrap();
    vec![
        Frame::Hello { purpose: Purpose::Fetch, is_ready: true },
        Frame::Members(Bytes::from_static(b"members")),
        Frame::MembersEnd,
        Frame::Heads(vec![head()]),
        Frame::HeadsEnd,
        Frame::Wants(vec![want()]),
        Frame::WantsEnd,
        Frame::Batch(super::compress::pack(&postcard::to_stdvec(&batch()).unwrap()).into()),
        Frame::SnapshotStart { head: head(), sum: Some(0xbeef) },
        Frame::SnapshotRecords(super::compress::pack(&chunk).into()),
        Frame::SnapshotEnd { records: 3 },
        Frame::Busy { retry_after_ms: 500, others: vec![([10, 1, 2, 3], 7_946).into()] },
        Frame::Done { is_ready: false },
        Frame::Lineage(vec![(1_800_000_000_000, 7), (1_800_000_009_000, 12)].into()),
        Frame::Lane([1, 2, 3, 4]),
        Frame::Link(LinkFrame::Hello { datacenter: east(), edition: 3, kin: vec![ORIGIN] }),
        Frame::Link(LinkFrame::Sketch(vec![])),
        Frame::Link(LinkFrame::Heads(vec![head()])),
        Frame::Link(LinkFrame::HeadsEnd),
        Frame::Link(LinkFrame::Batches(super::compress::pack(&postcard::to_stdvec(&vec![batch()]).unwrap()).into())),
        Frame::Link(LinkFrame::Down { origins: vec![ORIGIN], is_down: true }),
        Frame::Link(LinkFrame::Compare { root: 0xfeed, backlog: 2, is_asking: true }),
        Frame::Link(LinkFrame::Taken { bytes: 70_000 }),
        Frame::Link(LinkFrame::Unknown(vec![0x0123_4567_89ab_cdef])),
        Frame::Link(LinkFrame::Summaries { is_whole: true, is_end: false, packed: Bytes::from_static(b"packed") }),
        Frame::Link(LinkFrame::Fetch { namespace: Namespace::default(), service: ServiceName::new("web").unwrap() }),
        Frame::Link(LinkFrame::Fetched {
            namespace: Namespace::default(),
            service: ServiceName::new("web").unwrap(),
            is_end: true,
            packed: Bytes::from_static(b"packed"),
        }),
        Frame::Link(LinkFrame::Same { root: 0xfeed }),
    ]
}

/// The committed bytes are what is written today, and are understood.
fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(file: &str, things: Vec<(&str, T)>) {
    let encoded: Vec<_> = things.iter().map(|(kind, thing)| (*kind, postcard::to_stdvec(thing).unwrap())).collect();
    golden::check(file, &encoded);
    let kept = golden::read(file);
    for (kind, thing) in things {
        assert_eq!(postcard::from_bytes::<T>(&kept[kind]).as_ref(), Ok(&thing), "{kind}");
    }
}

#[test]
fn every_part_is_these_bytes() {
    let kind = |part: &Part| match part {
        Part::Ask { command, .. } => command_kind(command),
        Part::Answer { outcome, .. } => answer_kind(outcome),
        part => part_kind(part),
    };
    check("parts", parts().into_iter().map(|part| (kind(&part), part)).collect());
    assert_eq!(parts().iter().map(part_kind).collect::<BTreeSet<_>>().len(), 22);
}

#[test]
fn every_frame_is_these_bytes() {
    check("frames", frames().into_iter().map(|frame| (frame_kind(&frame), frame)).collect());
}

#[test]
fn commands_in_commands_in_commands_cost_no_stack() {
    // The deepest nesting a datagram can hold, on a stack as small as a thread gets by default.
    let batch = postcard::to_stdvec(&Part::Ask { id: 0, command: Command::Batch(vec![]) }).unwrap();
    let (ask, [one_batch, _none]) = batch.split_last_chunk::<2>().unwrap();
    let nested: Vec<u8> = ask.iter().copied().chain([*one_batch, 1].repeat((BODY_BYTES_MAX - ask.len()) / 2)).collect();
    let decode = move || postcard::from_bytes::<Part>(&nested).is_err();
    assert!(std::thread::Builder::new().stack_size(512 * 1_024).spawn(decode).unwrap().join().unwrap());
}

proptest! {
    #[test]
    fn mutated_bodies_never_panic(which in any::<prop::sample::Index>(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bodies: Vec<_> = parts().iter().map(|part| postcard::to_stdvec(part).unwrap()).collect();
        bodies.extend(frames().iter().map(|frame| postcard::to_stdvec(frame).unwrap()));
        let body = &mut bodies[which.index(parts().len() + frames().len())];
        let at = at.index(body.len());
        let _ = postcard::from_bytes::<Part>(&body[..at]);
        let _ = postcard::from_bytes::<Frame>(&body[..at]);
        body[at] = byte;
        let _ = postcard::from_bytes::<Part>(body);
        let _ = postcard::from_bytes::<Frame>(body);
    }
}
