//! A million instances in memory: 10,000 services of 100, over 100 origins. Prints what they cost in the catalog and in the view.
//!
//! ```text
//! cargo run --release --example million --no-default-features
//! ```
//!
//! Names of services have 12 bytes, ids are UUIDs, addresses IPv4; two tags of four distinct ones, two pairs of metadata.

use std::time::Instant;
use tidings::engine::catalog::{Catalog, Host, Word, config::CatalogConfig};
use tidings::engine::io::Restored;
use tidings::model::instance::Instance;
use tidings::model::names::{NodeId, NodeName};
use tidings::model::node::NodeInfo;
use tidings::model::record::{AsOf, Base, Batch, Content, HeadFlags, Key, Kind, Record, RecordState, Scope};
use tidings::model::time::{Now, WallMs};
use tidings::view::{Entry, Filter, View};

const SERVICES: u64 = 10_000;
const INSTANCES: u64 = 100;
const ORIGINS: u64 = 100;
/// Changes a batch, as streams carry them.
const BATCH: u64 = 1_000;
const LOOKUPS: u64 = 200_000;
const WALL_MS: u64 = 1_800_000_000_000;

fn main() {
    let mut now = Now { ns: 0, wall_ms: WALL_MS };
    let mut catalog = Catalog::new(CatalogConfig::default(), host(), NodeId(u128::MAX), 0, &Restored::default(), now);
    catalog.editor().block_reserved(1 << 52);
    while catalog.poll().is_some() {}
    catalog.publish(now);
    for origin in 0..ORIGINS {
        catalog.on_member(now, node(origin), Word::Alive);
    }
    let empty = resident_kb();
    let records = SERVICES * INSTANCES;
    let (mut applying, mut folding, mut slowest, mut content_bytes) = (0_u128, 0_u128, 0_u128, 0_usize);
    for origin in 0..ORIGINS {
        for from in (0..records / ORIGINS).step_by(BATCH as usize) {
            let batch = batch(origin, from);
            content_bytes += batch.records.iter().map(|record| content_of(record).as_bytes().len()).sum::<usize>();
            let start = clock();
            catalog.apply(now, batch);
            while catalog.poll().is_some() {}
            applying += start.elapsed().as_micros();
            while catalog.deadline().is_some_and(|due| due <= now.ns) {
                let turn = clock();
                catalog.handle_timeout(now);
                let took = turn.elapsed().as_micros();
                (folding, slowest) = (folding + took, slowest.max(took));
            }
        }
    }
    let drafted = resident_kb();
    let start = clock();
    let view = catalog.publish(now).expect("a million instances are news");
    let publishing = start.elapsed().as_millis();
    let shown = resident_kb();
    let each = |kb: u64| kb * 1_024 / records;
    println!("{} instances in {} services of {ORIGINS} origins", view.instance_count(), view.service_count());
    println!("encoded content            {:>8} B each", content_bytes as u64 / records);
    println!("before the view is shown   {:>8} KiB = {:>4} B each", drafted - empty, each(drafted - empty));
    println!("catalog and view           {:>8} KiB = {:>4} B each", shown - empty, each(shown - empty));
    let entries = size_of::<Entry>() as u64;
    // The allocator hands out multiples of 16 bytes, 8 of them its own; an `Arc` counts in 16.
    let content = (content_bytes as u64 / records + 16 + 8).next_multiple_of(16);
    println!("  of it contents           {content:>8} B each");
    println!("  of it the view's entries {entries:>8} B each");
    println!("  the catalog and the rest {:>8} B each: slot, order, index of keys, journal", each(shown - empty) - content - entries);
    println!("apply                      {:>8} ms", applying / 1_000);
    println!("fold                       {:>8} ms, slowest turn {slowest} us", folding / 1_000);
    println!("publish                    {publishing:>8} ms");

    lookups(&view);

    now.ns += 1_000_000_000;
    now.wall_ms += 1_000;
    let start = clock();
    catalog.on_member(now, node(7), Word::Down);
    while catalog.deadline().is_some_and(|due| due <= now.ns) {
        catalog.handle_timeout(now);
    }
    let dead = catalog.publish(now).expect("ten thousand instances are gone");
    println!("death of an origin         {:>8} ms until shown", start.elapsed().as_millis());
    println!("after it                   {:>8} KiB", resident_kb() - empty);
    drop((view, dead));
}

/// One service after another, none of them in the processor's caches: its list as a reader gets it, and the first instance of a tag.
fn lookups(view: &View) {
    let blue = Filter { tags: vec!["blue".into()], ..Filter::default() };
    let (mut list, mut tag, mut nothing) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..LOOKUPS {
        let name = format!("service-{:04}", n.wrapping_mul(7_919) % SERVICES);
        let start = clock();
        nothing.push(start.elapsed().as_nanos());
        let start = clock();
        let service = view.service("default", &name).cloned();
        list.push(start.elapsed().as_nanos());
        let service = service.expect("it was registered");
        assert_eq!(std::hint::black_box(&service).counts.available, INSTANCES as u32);
        let name = format!("service-{:04}", n.wrapping_mul(104_729) % SERVICES);
        let start = clock();
        let service = view.service("default", &name).expect("it was registered");
        let first = blue.select(service).next();
        tag.push(start.elapsed().as_nanos());
        assert!(std::hint::black_box(first).is_some(), "half of a service's instances have the tag");
    }
    let print = |what: &str, times: &mut Vec<u128>| {
        times.sort_unstable();
        let at = |share: usize| times[times.len() * share / 1_000];
        println!("{what:<26} p50 {:>6} ns, p99 {:>6} ns, p99.9 {:>6} ns", at(500), at(990), at(999));
    };
    print("the clock alone", &mut nothing);
    print("lookup of a list", &mut list);
    print("lookup and first by tag", &mut tag);
}

/// This program measures, so it may look at the clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn clock() -> Instant {
    Instant::now()
}

fn node(origin: u64) -> NodeId {
    NodeId(u128::from(origin + 1) << 64)
}

fn host() -> Host {
    let info = NodeInfo {
        address: "10.0.0.1".into(),
        gossip: None,
        http_port: None,
        dns_port: None,
        datacenter: "dc1".into(),
        zone: None,
        is_gateway: false,
        version: "0".into(),
        metadata: Vec::new(),
        checks: Vec::new(),
    };
    Host { name: NodeName::new("bench").expect("it is a name"), info }
}

/// Changes `from + 1` to `from + BATCH` of an origin: its instance of as many services.
fn batch(origin: u64, from: u64) -> Batch {
    let records = (from..from + BATCH).map(|n| record(origin, n)).collect();
    let base = Base::default();
    Batch { origin: node(origin), epoch: 1, base, from, to: from + BATCH, flags: HeadFlags::default(), as_of: AsOf::Later(0), records }
}

fn record(origin: u64, n: u64) -> Record {
    let mixed = (origin << 32 | n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let service = format!("service-{n:04}");
    let id = format!("{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", mixed as u32, n as u16, origin, origin, mixed >> 16);
    let key = Key {
        kind: Kind::INSTANCE,
        scope: Scope::Datacenter,
        namespace: "default".into(),
        name: service.as_str().into(),
        id: id.as_str().into(),
    };
    const TAGS: [&str; 4] = ["grpc", "http", "blue", "green"];
    let instance = Instance {
        address: format!("10.{}.{}.{}", origin, n >> 8 & 0xff, n & 0xff).into(),
        port: Some(8_080),
        tags: vec![TAGS[((n + origin) % 4) as usize].into(), TAGS[((n + origin + 1) % 4) as usize].into()],
        metadata: vec![("env".into(), "prod".into()), ("version".into(), "1.4.2".into())],
        weight: 1_000,
        weight_warning: 1_000,
        enabled: true,
        registered_at: WallMs(WALL_MS),
        changed_at: WallMs(WALL_MS),
        ..Instance::default()
    };
    Record { seq: n + 1, claim: WALL_MS + n, state: RecordState::Live(Content::encode(&key, &instance)) }
}

fn content_of(record: &Record) -> &Content {
    match &record.state {
        RecordState::Live(content) => content,
        RecordState::Deleted { .. } => unreachable!("nothing is deleted here"),
    }
}

/// Resident memory of this process, in KiB.
fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
