//! What no agent of this version writes or says: records of a newer version, and lies about heads.

use super::Run;
use crate::reader;
use crate::world::HostId;
use tidings::engine::io::StoreOp;
use tidings::engine::wire::packet::{Advert, Part};
use tidings::model::names::NodeId;
use tidings::model::record::{Base, Content, HeadFlags, Key, Kind, Record, RecordState, Scope, Uid, sum_term};

/// How far ahead of the truth a lie goes at most.
const AHEAD_MAX: u64 = 1_000_000;
const DAY_MS: u64 = 86_400_000;
/// A kind of record that this version does not know.
const UNKNOWN_KIND: Kind = Kind(200);

impl Run {
    /// A member says of somebody's head what is not so: that there is more of it, that it goes on in another life, that it was given up.
    pub(super) fn lie(&mut self, from: HostId, to: HostId, draw: u64) {
        let now = self.world.now();
        let running: Vec<NodeId> = self.world.host_ids().filter_map(|host| self.node(host)).collect();
        let Some(origin) = running.get(draw as usize % running.len().max(1)).copied() else { return };
        let Some((epoch, seq)) = self.truth.newest(origin) else { return };
        let today = (self.world.host(from).clock.now(now, now).wall_ms / DAY_MS) as u32;
        let advert = Advert { origin, epoch, seq, flags: HeadFlags::default() };
        let lie = match draw >> 32 & 3 {
            0 | 1 => Advert { flags: HeadFlags { reaped: Some(today), ..HeadFlags::default() }, ..advert },
            2 => Advert { seq: seq + 1 + draw % AHEAD_MAX, ..advert },
            _ => Advert { epoch: epoch + 1 + draw % AHEAD_MAX, ..advert },
        };
        let config = self.world.config(to);
        let body = reader::body_of(&Part::Adverts(vec![lie]));
        let datagram = reader::sealed(&config.label, config.keys.first().copied(), draw, &body);
        let address = self.world.host(from).address;
        self.world.inject(to, address, datagram);
    }

    /// Adds a life to a dead host's history in which a newer version ran there, before this one takes its place again: it wrote a kind of
    /// record that this one does not know, and an instance with more fields.
    pub(super) fn write_newer(&mut self, host: HostId) {
        let at = self.world.now();
        let wall_ms = self.world.host(host).clock.now(at, at).wall_ms;
        let draw = self.noise.number();
        let disk = self.world.host(host).disk.durable();
        let Some((mut head, mut sum)) = disk.head else { return };
        let mut lineage = disk.lineage.clone();
        head.base = Base { epoch: head.epoch, seq: head.seq, sum };
        lineage.add(head.epoch, head.seq);
        head.epoch = (head.epoch + 1).max(wall_ms) + draw % 4_096;
        let key = Key { kind: UNKNOWN_KIND, scope: Scope::Agent, namespace: "default".into(), name: "newer".into(), id: "1".into() };
        let body = (draw, "what this version does not know");
        let unknown = Record { seq: 0, claim: wall_ms, state: RecordState::Live(Content::encode(&key, &body)) };
        let known = |uid: &Uid| disk.records.binary_search_by_key(uid, |(known, _)| *known).ok().map(|found| &disk.records[found].1);
        let instance = disk.records.iter().find_map(|(uid, record)| Some((*uid, with_more_fields(record)?)));
        let mut ops = vec![StoreOp::Lineage(lineage)];
        for (uid, record) in [(key.uid(head.origin), unknown)].into_iter().chain(instance) {
            head.seq += 1;
            let live = known(&uid).filter(|before| matches!(before.state, RecordState::Live(_)));
            let before = live.map_or(0, |before| sum_term(uid, before.seq));
            sum = sum.wrapping_add(sum_term(uid, head.seq)).wrapping_sub(before);
            ops.push(StoreOp::Record { uid, record: Record { seq: head.seq, ..record } });
        }
        ops.push(StoreOp::Head { head, sum });
        let verdict = self.truth.persisted(host, &ops);
        debug_assert!(verdict.is_ok(), "a new life is nobody else's: {verdict:?}");
        self.world.host_mut(host).disk.write(at, ops);
    }
}

/// A live instance with bytes behind the fields that this version knows.
fn with_more_fields(record: &Record) -> Option<Record> {
    let RecordState::Live(content) = &record.state else { return None };
    let is_instance = content.key().is_ok_and(|key| key.kind == Kind::INSTANCE);
    let longer = [content.as_bytes(), &[1, 7, 42]].concat();
    is_instance.then(|| Record { state: RecordState::Live(Content::from_bytes(&longer)), ..record.clone() })
}
