//! A gateway: its place in the pool of gateways, and its links (protocol.md §6).
//!
//! Each gateway opens one link to each other datacenter, to any gateway there that lives, and to the next where that one breaks. On it
//! go the origins whose shard falls to this gateway: of the own datacenter's gateways that live by LAN membership, the highest in
//! rendezvous rank for (shard, datacenter) sends as things change. The first two compare every ten seconds all they know with what the
//! other side has, so that what a dead or wrong first one left out comes from the second. Overlap is harmless.

use super::config::{GatewayConfig, WanConfig};
use super::crossing::{Crossing, advert_term};
use super::imports::{Imports, Making, author_of};
use super::link::{Incoming, Outgoing, weight};
use crate::engine::catalog::{Catalog, Heard};
use crate::engine::io::StreamId;
use crate::engine::mail::Mail;
use crate::engine::membership::{MemberState, Membership};
use crate::engine::proof::Proofs;
use crate::engine::spread::sketch::{Gathering, HeadKey, Size, Sketch, Theirs};
use crate::engine::spread::{Context, LANE_SHIFT, unpack_batches, unpack_records};
use crate::engine::streams::Streams;
use crate::engine::wire::packet::{Advert, Frame, LinkFrame, Part, SketchCells, Want};
use crate::engine::wire::seal::Sealer;
use crate::model::names::{Datacenter, NodeId};
use crate::model::node::Liveness;
use crate::model::record::{Head, Lineage};
use crate::model::time::Now;
use crate::view::LinkState;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::Hasher as _;
use std::net::SocketAddr;

/// Links and pool are looked after so often, in milliseconds.
const TICK_MS: u64 = 1_000;
/// Heads, wants or ids in one frame.
const FRAME_ITEMS: usize = 1_024;
/// Wants gathered on one link.
const WANTS_MAX: usize = 65_536;
/// A link that broke is looked after so soon, in milliseconds.
const REDIAL_MS: u64 = 100;
/// Peers and reasons that were said in the log.
const WARNED_MAX: usize = 256;
/// Links that other gateways hold with this one.
const INCOMING_MAX: usize = 64;
/// Streams of gateways have numbers of their own.
const LANE: u64 = 0x7fff;

/// What a gateway wants done.
#[derive(Debug)]
pub enum Effect {
    Open { stream: StreamId, to: SocketAddr, datacenter: Datacenter },
    Frame { stream: StreamId, frame: Frame },
    Close { stream: StreamId },
}

/// The own datacenter, as its gateway sees it.
pub struct Home<'a> {
    pub name: &'a Datacenter,
    pub catalog: &'a Catalog,
    pub members: &'a Membership,
    pub is_ready: bool,
    pub making: Making<'a>,
}

struct Dial {
    not_before_ns: u64,
    pause_ms: u64,
    turn: usize,
    /// Gateways that were tried since the last pause.
    tried: usize,
}

pub struct Gateway {
    pub config: GatewayConfig,
    wan: WanConfig,
    pub sealer: Sealer,
    pub proofs: Proofs,
    pub membership: Membership,
    pub streams: Streams,
    pub mail: Mail,
    key: HeadKey,
    announced: BTreeMap<NodeId, Datacenter>,
    outgoing: BTreeMap<StreamId, Outgoing>,
    incoming: BTreeMap<StreamId, Incoming>,
    dials: BTreeMap<Datacenter, Dial>,
    opened: u64,
    /// Gateways of the own datacenter that live, this one included.
    own: Vec<NodeId>,
    tick_ns: u64,
    speak_ns: Option<u64>,
    /// Who is down may have changed.
    is_life_new: bool,
    /// What of whom was said in the log: once is enough.
    warned: BTreeSet<(NodeId, &'static str)>,
    effects: VecDeque<Effect>,
    /// What was refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
}

impl Gateway {
    pub fn new(config: GatewayConfig, wan: WanConfig, sealer: Sealer, membership: Membership, now: Now) -> Self {
        Self {
            key: HeadKey::new(&config.label),
            config,
            wan,
            sealer,
            proofs: Proofs::default(),
            membership,
            streams: Streams::default(),
            mail: Mail::default(),
            announced: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            dials: BTreeMap::new(),
            opened: 0,
            own: Vec::new(),
            tick_ns: now.ns,
            speak_ns: None,
            is_life_new: true,
            warned: BTreeSet::new(),
            effects: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn deadline(&self) -> u64 {
        let swim = self.membership.deadline().unwrap_or(u64::MAX);
        self.tick_ns.min(self.speak_ns.unwrap_or(u64::MAX)).min(swim)
    }

    fn refuse(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
    }

    /// Counts it, and says it once of each peer.
    fn refuse_peer(&mut self, node: NodeId, why: &'static str) {
        self.refuse(why);
        if self.warned.len() < WARNED_MAX && self.warned.insert((node, why)) {
            tracing::warn!(?node, why, "what a gateway says is refused");
        }
    }

    fn send(&mut self, stream: StreamId, frame: Frame) {
        self.effects.push_back(Effect::Frame { stream, frame });
    }

    fn close(&mut self, now: Now, imports: &mut Imports, stream: StreamId) {
        self.effects.push_back(Effect::Close { stream });
        self.closed(now, imports, stream);
    }

    /// Which datacenter a gateway is of.
    pub fn announced(&mut self, now: Now, home: &Home<'_>, node: NodeId, datacenter: Datacenter) {
        if datacenter == *home.name && home.members.member(node).is_none() && home.catalog.head(node).is_none() {
            // It calls its own datacenter as we call ours.
            return self.refuse_peer(node, "wan_name_taken");
        }
        if self.membership.member(node).is_some() && self.announced.insert(node, datacenter.clone()) != Some(datacenter) {
            self.tick_ns = now.ns;
        }
    }

    /// Our word on where we belong, for whoever came into the pool.
    pub fn introduce(&mut self, home: &Home<'_>, to: SocketAddr, is_answer: bool) {
        self.mail.post(to, &Part::Gateway { datacenter: home.name.clone(), is_answer });
    }

    /// A gateway of the pool is gone: its links are.
    pub fn gone(&mut self, now: Now, imports: &mut Imports, node: NodeId) {
        let of = |is_its: bool, id: &StreamId| is_its.then_some(*id);
        let out = self.outgoing.iter().filter_map(|(id, link)| of(link.to == node, id));
        let ids: Vec<StreamId> = out.chain(self.incoming.iter().filter_map(|(id, link)| of(link.from == Some(node), id))).collect();
        ids.into_iter().for_each(|id| self.close(now, imports, id));
        self.tick_ns = now.ns;
    }

    /// An origin of the own datacenter moved.
    pub fn moved(&mut self, now: Now, origin: NodeId) {
        self.outgoing.values_mut().for_each(|link| link.touch(origin));
        if !self.outgoing.is_empty() {
            self.speak_ns.get_or_insert(now.after_ms(self.wan.batch_ms));
        }
    }

    /// Somebody of the own datacenter came or went.
    pub fn member_changed(&mut self, now: Now) {
        self.is_life_new = true;
        self.tick_ns = self.tick_ns.min(now.after_ms(self.wan.batch_ms));
    }

    pub fn handle_timeout(&mut self, now: Now, home: &Home<'_>, imports: &mut Imports, rng: &mut ChaCha12Rng) {
        self.membership.handle_timeout(now);
        if now.ns >= self.tick_ns {
            self.tick_ns = now.after_ms(TICK_MS);
            self.is_life_new = true;
            self.tick(now, home, imports, rng);
        }
        if self.speak_ns.is_some_and(|at| at <= now.ns) {
            self.speak_ns = None;
            self.speak(now, home);
        }
    }

    fn tick(&mut self, now: Now, home: &Home<'_>, imports: &mut Imports, rng: &mut ChaCha12Rng) {
        let lives = |node: NodeId| home.members.member(node).is_some_and(|member| member.state != MemberState::Down);
        let gateways = home.members.members().map(|member| member.node).filter(|node| lives(*node) && home.catalog.is_gateway(*node));
        let mut own: Vec<NodeId> = std::iter::once(home.members.me().node).chain(gateways).collect();
        own.sort_unstable();
        if own != self.own {
            self.own = own;
            // What was another's to send may be ours now.
            let origins: Vec<NodeId> = home.catalog.heads().map(|head| head.origin).collect();
            self.outgoing.values_mut().for_each(|link| link.touch_all(origins.iter().copied()));
            self.speak_ns = Some(now.ns);
        }
        self.announced.retain(|node, _| self.membership.member(*node).is_some());
        let strangers: Vec<SocketAddr> =
            self.membership.peers().iter().filter(|peer| !self.announced.contains_key(&peer.node)).map(|peer| peer.addr).collect();
        strangers.into_iter().for_each(|addr| self.introduce(home, addr, false));
        let silent_ns = now.ns.saturating_sub(self.wan.silence_ms * 1_000_000);
        let silent: Vec<StreamId> = self.outgoing.iter().filter(|(_, link)| link.heard_ns < silent_ns).map(|(id, _)| *id).collect();
        let silent_in: Vec<StreamId> = self.incoming.iter().filter(|(_, link)| link.heard_ns < silent_ns).map(|(id, _)| *id).collect();
        silent.into_iter().chain(silent_in).for_each(|id| self.close(now, imports, id));
        // What a former life said of a link is not true of this one, though others may have given it back.
        let unheard = imports.by_lane.values().filter(|import| import.said_state().is_some_and(|state| state != LinkState::Stale));
        let unheard: Vec<Datacenter> = unheard.map(|import| import.name.clone()).filter(|name| !self.hears(name)).collect();
        unheard.iter().for_each(|name| self.say_links(now, imports, name));
        self.dial(now, rng);
        self.say_life(now, home);
        let crossing = Crossing { catalog: home.catalog, policy: &self.config.export };
        let due: Vec<StreamId> =
            self.outgoing.iter().filter(|(_, link)| link.is_greeted && link.compare_ns <= now.ns).map(|(id, _)| *id).collect();
        if !due.is_empty() && home.is_ready {
            let root = crossing.root();
            for id in due {
                self.compare(now, id, root);
            }
        }
    }

    fn compare(&mut self, now: Now, id: StreamId, root: u64) {
        let Some(link) = self.outgoing.get_mut(&id) else { return };
        link.compare_ns = now.after_ms(self.wan.reconcile_ms);
        let backlog = link.backlog(self.wan.window_bytes);
        self.send(id, Frame::Link(LinkFrame::Compare { root, backlog }));
    }

    /// Opens a link to each datacenter that has none.
    fn dial(&mut self, now: Now, rng: &mut ChaCha12Rng) {
        let lives =
            |node: &NodeId| self.membership.member(*node).filter(|member| member.state == MemberState::Alive).map(|member| member.addr);
        let mut reachable: BTreeMap<Datacenter, Vec<(NodeId, SocketAddr)>> = BTreeMap::new();
        for (node, datacenter) in &self.announced {
            if let Some(addr) = lives(node) {
                reachable.entry(datacenter.clone()).or_default().push((*node, addr));
            }
        }
        self.dials.retain(|name, _| reachable.contains_key(name));
        for (name, gateways) in reachable {
            let is_own = gateways.iter().any(|(node, _)| self.own.contains(node));
            if is_own || self.outgoing.values().any(|link| link.datacenter == name) {
                continue;
            }
            let first = rng.random_range(0..1_024);
            let dial = self.dials.entry(name.clone()).or_insert(Dial { not_before_ns: 0, pause_ms: 0, turn: first, tried: 0 });
            if dial.not_before_ns > now.ns {
                continue;
            }
            // The next one at once, whoever of them is dead already; a pause once all were tried.
            dial.tried += 1;
            if dial.tried >= gateways.len() {
                dial.tried = 0;
                dial.pause_ms = (dial.pause_ms * 2).clamp(self.wan.redial_min_ms, self.wan.redial_max_ms);
                dial.not_before_ns = now.after_ms(rng.random_range(dial.pause_ms / 2..=dial.pause_ms));
            }
            dial.turn += 1;
            let (node, addr) = gateways[dial.turn % gateways.len()];
            let stream = StreamId(LANE << LANE_SHIFT | (2 * self.opened + 1));
            self.opened += 1;
            self.outgoing.insert(stream, Outgoing::new(now, node, name.clone(), self.wan.reconcile_ms));
            self.effects.push_back(Effect::Open { stream, to: addr, datacenter: name });
        }
    }

    /// Says who of the own datacenter is down, unless this gateway seems to be the one that is cut off.
    fn say_life(&mut self, now: Now, home: &Home<'_>) {
        if !std::mem::take(&mut self.is_life_new) || home.members.is_cut_off() || !home.is_ready {
            return;
        }
        let down: BTreeSet<NodeId> = home
            .catalog
            .heads()
            .map(|head| head.origin)
            .filter(|origin| home.catalog.liveness_of(*origin, now) == Some(Liveness::Down))
            .collect();
        let said: Vec<(StreamId, Vec<Frame>)> =
            self.outgoing.iter_mut().filter(|(_, link)| link.is_greeted).map(|(id, link)| (*id, link.say_down(&down))).collect();
        for (id, frames) in said {
            frames.into_iter().for_each(|frame| self.send(id, frame));
        }
    }

    fn speak(&mut self, now: Now, home: &Home<'_>) {
        if !home.is_ready {
            // Who does not know enough exports nothing.
            self.speak_ns = Some(now.after_ms(TICK_MS));
            return;
        }
        let crossing = Crossing { catalog: home.catalog, policy: &self.config.export };
        let me = home.members.me().node;
        let mut said = Vec::new();
        for (id, link) in self.outgoing.iter_mut().filter(|(_, link)| link.is_due(self.wan.window_bytes)) {
            let datacenter = link.datacenter.clone();
            let frames = link.speak(&crossing, |origin| rank(&self.own, &datacenter, origin, me) == 0, self.wan.window_bytes);
            said.push((*id, frames));
        }
        let window = self.wan.window_bytes;
        let is_news = |link: &Outgoing| link.sketches > 0 && !link.is_caught_up && link.backlog(window) == 0;
        let caught_up: Vec<StreamId> = self.outgoing.iter().filter(|(_, link)| is_news(link)).map(|(id, _)| *id).collect();
        let root = if caught_up.is_empty() { 0 } else { crossing.root() };
        for (id, frames) in said {
            frames.into_iter().for_each(|frame| self.send(id, frame));
        }
        for id in caught_up {
            if let Some(link) = self.outgoing.get_mut(&id) {
                link.is_caught_up = true;
            }
            self.compare(now, id, root);
        }
    }

    /// A gateway of another datacenter opened a stream.
    pub fn accepted(&mut self, now: Now, stream: StreamId, peer: SocketAddr, certified: Option<Datacenter>) -> bool {
        let has_room = self.incoming.len() < INCOMING_MAX && self.streams.accepted(stream, peer);
        if has_room {
            self.incoming.insert(stream, Incoming::new(now, peer, certified));
        } else {
            self.refuse("wan_streams_full");
        }
        has_room
    }

    /// A stream we opened stands.
    pub fn connected(&mut self, home: &Home<'_>, stream: StreamId) {
        if self.outgoing.contains_key(&stream) {
            let hello = LinkFrame::Hello { datacenter: home.name.clone(), edition: self.config.export.edition };
            self.send(stream, Frame::Link(hello));
        }
    }

    pub fn closed(&mut self, now: Now, imports: &mut Imports, stream: StreamId) {
        self.streams.closed(stream);
        if self.outgoing.remove(&stream).is_some() {
            self.tick_ns = self.tick_ns.min(now.after_ms(REDIAL_MS));
        }
        if let Some(name) = self.incoming.remove(&stream).and_then(|link| link.datacenter) {
            self.say_links(now, imports, &name);
        }
    }

    /// A frame came whole, from a gateway that the seal vouches for.
    pub fn frame(&mut self, now: Now, home: &Home<'_>, imports: &mut Imports, stream: StreamId, from: NodeId, frame: Frame) {
        let taken = if self.outgoing.contains_key(&stream) {
            self.frame_out(now, home, stream, from, frame)
        } else {
            self.frame_in(now, home, imports, stream, from, frame)
        };
        if let Err(why) = taken {
            self.refuse_peer(from, why);
            self.close(now, imports, stream);
        }
    }

    /// What the receiver of our changes says.
    fn frame_out(&mut self, now: Now, home: &Home<'_>, stream: StreamId, from: NodeId, frame: Frame) -> Result<(), &'static str> {
        let Some(link) = self.outgoing.get_mut(&stream).filter(|link| link.to == from) else { return Err("link_stranger") };
        link.heard_ns = now.ns;
        match frame {
            Frame::Link(LinkFrame::Hello { datacenter, .. }) if datacenter == link.datacenter && !link.is_greeted => {
                link.is_greeted = true;
                link.touch_all(home.catalog.marks());
                self.dials.remove(&datacenter);
                self.is_life_new = true;
                self.tick_ns = now.ns;
            }
            Frame::Link(LinkFrame::Sketch(parts)) if link.is_greeted => self.take_sketch(home, stream, parts)?,
            Frame::Wants(wants) if link.is_greeted => link.wants(&wants),
            Frame::WantsEnd => {}
            Frame::Link(LinkFrame::Taken { bytes }) => link.taken(bytes),
            _ => return Err("link_nonsense"),
        }
        self.speak_ns = Some(now.ns);
        Ok(())
    }

    fn take_sketch(&mut self, home: &Home<'_>, stream: StreamId, parts: Vec<SketchCells>) -> Result<(), &'static str> {
        let mut gathering = Gathering::default();
        let mut sketch = None;
        for part in parts {
            sketch = gathering.push(part).map_err(|_| "link_sketch")?;
        }
        let Some(sketch) = sketch else { return Err("link_sketch") };
        let me = home.members.me().node;
        let crossing = Crossing { catalog: home.catalog, policy: &self.config.export };
        let Some(link) = self.outgoing.get_mut(&stream) else { return Ok(()) };
        link.sketches += 1;
        let is_first = link.sketches == 1;
        let heads: Vec<Head> = crossing.heads().collect();
        link.has(heads.iter().copied());
        let adverts: Vec<Advert> = heads.iter().map(Advert::from).collect();
        let Ok(diff) = sketch.diff(&self.key, adverts.iter().copied()) else {
            // Too much: all heads, and the other side says what it lacks.
            for heads in heads.chunks(FRAME_ITEMS) {
                self.effects.push_back(Effect::Frame { stream, frame: Frame::Link(LinkFrame::Heads(heads.to_vec())) });
            }
            self.effects.push_back(Effect::Frame { stream, frame: Frame::Link(LinkFrame::HeadsEnd) });
            return Ok(());
        };
        for diverged in diff.diverged {
            let mine = diverged.mine;
            let place = match diverged.theirs {
                // Another gateway told of changes that have not come here yet.
                Theirs::Seq(seq) if seq >= mine.seq => continue,
                Theirs::Seq(seq) => Some((mine.epoch, seq)),
                Theirs::Nothing | Theirs::OtherLife => None,
            };
            // At first each sends its own share; what stays missing comes from the second in rank as well.
            let is_asked = !is_first && rank(&self.own, &link.datacenter, mine.origin, me) <= 1;
            link.lacks(mine.origin, place, is_asked);
        }
        Ok(())
    }

    /// What another datacenter's gateway sends.
    fn frame_in(
        &mut self,
        now: Now,
        home: &Home<'_>,
        imports: &mut Imports,

        stream: StreamId,
        from: NodeId,
        frame: Frame,
    ) -> Result<(), &'static str> {
        if self.incoming.get(&stream).is_some_and(|link| link.from.is_some_and(|known| known != from)) {
            return Err("link_stranger");
        }
        let Some(mut link) = self.incoming.remove(&stream) else { return Ok(()) };
        link.from = Some(from);
        link.heard_ns = now.ns;
        let taken = self.take_in(now, home, imports, stream, &mut link, frame);
        let name = link.datacenter.clone();
        self.incoming.insert(stream, link);
        if let (Ok(true), Some(name)) = (taken, name) {
            self.say_links(now, imports, &name);
        }
        taken.map(|_| ())
    }

    /// Says whether what we say of the link changed.
    fn take_in(
        &mut self,
        now: Now,
        home: &Home<'_>,
        imports: &mut Imports,

        stream: StreamId,
        link: &mut Incoming,
        frame: Frame,
    ) -> Result<bool, &'static str> {
        if let Frame::Link(LinkFrame::Hello { datacenter, .. }) = frame {
            return self.greet(now, home, imports, stream, link, datacenter);
        }
        let Some(name) = link.datacenter.clone() else { return Err("link_ungreeted") };
        let bytes = weight(&frame);
        let is_other = |origin: NodeId, imports: &Imports| home.catalog.head(origin).is_some() || imports.has_origin(origin, &name);
        let mut is_time = false;
        let mut is_news = false;
        match frame {
            Frame::Link(LinkFrame::Batches(packed)) => {
                let batches = unpack_batches(&packed).ok_or("link_batches")?;
                let mut wants: Vec<Want> = Vec::new();
                for batch in batches {
                    if is_other(batch.origin, imports) {
                        return Err("link_others_origin");
                    }
                    let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                    let mut context = Context { catalog: &mut import.catalog, members: home.members };
                    let applied = import.spread.import(now, &mut context, batch);
                    wants.extend(applied.gap);
                }
                if !wants.is_empty() {
                    self.send(stream, Frame::Wants(wants));
                }
            }
            Frame::SnapshotStart { head, sum } => {
                if is_other(head.origin, imports) {
                    return Err("link_others_origin");
                }
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                link.receiving = Some((import.catalog.stage(now, head, sum, Lineage::default()), 0));
            }
            Frame::SnapshotRecords(packed) => {
                let records = unpack_records(&packed).ok_or("link_records")?;
                let Some((staged, count)) = link.receiving.as_mut() else { return Err("link_nonsense") };
                *count += records.len() as u64;
                if staged.as_mut().is_some_and(|staged| !staged.push(records)) {
                    return Err("link_snapshot_size");
                }
            }
            Frame::SnapshotEnd { records } => {
                let Some((staged, count)) = link.receiving.take() else { return Err("link_nonsense") };
                let (Some(staged), Some(import)) = (staged.filter(|_| count == records), imports.find(&name)) else { return Ok(false) };
                let origin = staged.origin();
                if import.catalog.finish(now, staged).advanced {
                    import.spread.imported(now, origin);
                }
            }
            Frame::Link(LinkFrame::Down { origins, is_down }) => {
                let down = link.down.get_or_insert_default();
                for origin in origins {
                    if is_down {
                        down.insert(origin)
                    } else {
                        down.remove(&origin)
                    };
                }
                is_news = true;
            }
            Frame::Link(LinkFrame::Heads(heads)) => {
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                for head in &heads {
                    if let Heard::Behind(want) = import.catalog.hear(now, &Advert::from(head))
                        && link.wants.len() < WANTS_MAX
                    {
                        link.wants.push(want);
                    }
                }
            }
            Frame::Link(LinkFrame::HeadsEnd) => {
                for wants in std::mem::take(&mut link.wants).chunks(FRAME_ITEMS) {
                    self.send(stream, Frame::Wants(wants.to_vec()));
                }
                self.send(stream, Frame::WantsEnd);
            }
            Frame::Link(LinkFrame::Compare { root, backlog }) => {
                is_time = true;
                let adverts = self.theirs(home, imports, &name);
                let held = adverts.iter().fold(0_u64, |sum, advert| sum.wrapping_add(advert_term(advert)));
                if held != root {
                    self.send_sketch(stream, &adverts, root);
                }
                is_news = link.is_fresh != (backlog == 0);
                link.is_fresh = backlog == 0;
            }
            _ => return Err("link_nonsense"),
        }
        if let Some(word) = link.take(bytes, is_time) {
            self.send(stream, word);
        }
        Ok(is_news)
    }

    fn greet(
        &mut self,
        now: Now,
        home: &Home<'_>,
        imports: &mut Imports,

        stream: StreamId,
        link: &mut Incoming,
        datacenter: Datacenter,
    ) -> Result<bool, &'static str> {
        if link.datacenter.is_some() {
            return Err("link_nonsense");
        }
        if link.certified.as_ref().is_some_and(|certified| *certified != datacenter) {
            return Err("link_certificate");
        }
        if datacenter == *home.name {
            return Err("wan_name_taken");
        }
        if link.from.and_then(|from| self.announced.get(&from)).is_some_and(|announced| *announced != datacenter) {
            return Err("link_name_changed");
        }
        if imports.ensure(now, &datacenter, true, &self.wan, &home.making).is_none() {
            return Err("link_datacenters_full");
        }
        link.datacenter = Some(datacenter.clone());
        // Who opens a second one has given the first up.
        let former: Vec<StreamId> = self.incoming.iter().filter(|(_, other)| other.from == link.from).map(|(id, _)| *id).collect();
        former.into_iter().for_each(|id| self.close(now, imports, id));
        let hello = LinkFrame::Hello { datacenter: home.name.clone(), edition: self.config.export.edition };
        self.send(stream, Frame::Link(hello));
        let adverts = self.theirs(home, imports, &datacenter);
        self.send_sketch(stream, &adverts, u64::from(now.wall_ms as u32));
        Ok(true)
    }

    /// What is held of another datacenter's own origins: not what gateways here say of it.
    fn theirs(&self, home: &Home<'_>, imports: &mut Imports, name: &Datacenter) -> Vec<Advert> {
        let members = home.members.members().map(|member| member.node);
        let authors: BTreeSet<NodeId> = std::iter::once(home.members.me().node).chain(members).map(|node| author_of(name, node)).collect();
        imports.find(name).map(|import| import.adverts(&authors)).unwrap_or_default()
    }

    fn send_sketch(&mut self, stream: StreamId, adverts: &[Advert], salt: u64) {
        let sketch = Sketch::build(&self.key, Size::Small, salt, adverts.iter().copied());
        self.send(stream, Frame::Link(LinkFrame::Sketch(sketch.parts(0))));
    }

    /// Says to all agents here how a datacenter is heard by this gateway, and whom it holds down.
    fn say_links(&mut self, now: Now, imports: &mut Imports, name: &Datacenter) {
        let Some(import) = imports.find(name) else { return };
        let links: Vec<&Incoming> = self.incoming.values().filter(|link| link.datacenter.as_ref() == Some(name)).collect();
        let state = match () {
            () if links.is_empty() => LinkState::Stale,
            () if links.iter().any(|link| link.is_fresh) => LinkState::Fresh,
            () => LinkState::Lagging,
        };
        let member = |link: &&Incoming| link.from.and_then(|from| self.membership.member(from));
        let peers: Vec<(NodeId, SocketAddr)> = links.iter().filter_map(|link| Some((link.from?, link.addr))).collect();
        let peers = peers.into_iter().map(|(node, addr)| (node, self.membership.member(node).map_or(addr, |member| member.addr))).collect();
        let rtt_us = links.iter().filter_map(|link| member(link)?.rtt_us).min();
        let downs: Vec<&BTreeSet<NodeId>> = links.iter().filter_map(|link| link.down.as_ref()).collect();
        let knows_life = !downs.is_empty();
        if let Some((first, others)) = downs.split_first() {
            let down = first.iter().filter(|origin| others.iter().all(|down| down.contains(origin)));
            import.say_down(now, &down.copied().collect());
        }
        // After it, so that nobody takes the one for true without the other.
        import.say_link(now, state, rtt_us, peers, knows_life);
    }

    /// Whether a datacenter is heard on some link.
    pub fn hears(&self, name: &Datacenter) -> bool {
        self.incoming.values().any(|link| link.datacenter.as_ref() == Some(name))
    }

    pub fn is_link(&self, stream: StreamId) -> bool {
        self.outgoing.contains_key(&stream) || self.incoming.contains_key(&stream)
    }
}

/// Where a gateway stands for an origin's shard and a datacenter: 0 is the one that sends.
fn rank(own: &[NodeId], datacenter: &Datacenter, origin: NodeId, me: NodeId) -> usize {
    let shard = (origin.0 >> 120) as u8;
    let weight = |gateway: NodeId| {
        let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x7368_6172_6420_6f66);
        hasher.write(&gateway.0.to_le_bytes());
        hasher.write_u8(shard);
        hasher.write(datacenter.as_str().as_bytes());
        (hasher.finish(), gateway)
    };
    let mine = weight(me);
    own.iter().filter(|gateway| **gateway != me && weight(**gateway) > mine).count()
}
