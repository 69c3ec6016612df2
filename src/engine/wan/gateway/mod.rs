//! A gateway: its place in the pool of gateways, and its links (protocol.md §6).
//!
//! Each gateway opens one link to each other datacenter, to any gateway there that lives, and to the next where that one breaks. On it
//! go the origins whose shard falls to this gateway: of the own datacenter's gateways that live by LAN membership, the highest in
//! rendezvous rank for (shard, datacenter) sends as things change. The first two compare every ten seconds all they know with what the
//! other side has, so that what a dead or wrong first one left out comes from the second. Overlap is harmless.

use super::config::{GatewayConfig, WanConfig};
use super::fetching::Fetching;
use super::imports::{Imports, Making};
use super::kin;
use super::link::{Incoming, Outgoing};
use super::pace::{Hurry, Pace};
use super::summaries::Summaries;
use crate::engine::catalog::Catalog;
use crate::engine::io::StreamId;
use crate::engine::mail::Mail;
use crate::engine::membership::{Event, MemberState, Membership};
use crate::engine::proof::Proofs;
use crate::engine::spread::sketch::HeadKey;
use crate::engine::streams::Streams;
use crate::engine::wire::packet::{Frame, LinkFrame, Part};
use crate::engine::wire::seal::Sealer;
use crate::engine::wire::strangers::Strangers;
use crate::model::names::{Datacenter, NodeId};
use crate::model::time::Now;
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

mod receiving;
mod sending;

/// Links and pool are looked after so often, in milliseconds.
const TICK_MS: u64 = 1_000;
/// A new gateway of the own datacenter is known in it by then, in milliseconds.
const NAMESAKE_MS: u64 = 10_000;
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
    /// Since when gateways of the pool bear the own datacenter's name and are unknown in it.
    namesakes: BTreeMap<NodeId, u64>,
    outgoing: BTreeMap<StreamId, Outgoing>,
    incoming: BTreeMap<StreamId, Incoming>,
    dials: BTreeMap<Datacenter, Dial>,
    opened: u64,
    summaries: Summaries,
    /// On which link the summaries came that are said here.
    told_by: BTreeMap<Datacenter, StreamId>,
    fetching: Fetching,
    /// Gateways of the own datacenter that live, this one included.
    own: Vec<NodeId>,
    tick_ns: u64,
    pace: Pace,
    speak_ns: Option<u64>,
    /// When what takes something out of lists is said, and when it is said who went down.
    hurry_ns: Option<u64>,
    life_ns: Option<u64>,
    /// Who is down may have changed.
    is_life_new: bool,
    /// What of whom was said in the log: once is enough.
    warned: BTreeSet<(NodeId, &'static str)>,
    pub strangers: Strangers,
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
            namesakes: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            dials: BTreeMap::new(),
            opened: 0,
            summaries: Summaries::default(),
            told_by: BTreeMap::new(),
            fetching: Fetching::default(),
            own: Vec::new(),
            tick_ns: now.ns,
            pace: Pace::default(),
            speak_ns: None,
            hurry_ns: None,
            life_ns: None,
            is_life_new: true,
            warned: BTreeSet::new(),
            strangers: Strangers::new("WAN"),
            effects: VecDeque::new(),
            refused: BTreeMap::new(),
        }
    }

    pub fn poll(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn deadline(&self) -> u64 {
        let swim = self.membership.deadline().unwrap_or(u64::MAX);
        [self.speak_ns, self.hurry_ns, self.life_ns, self.pace.deadline()].into_iter().flatten().fold(self.tick_ns.min(swim), u64::min)
    }

    fn refuse(&mut self, why: &'static str) {
        *self.refused.entry(why).or_default() += 1;
    }

    /// Counts it, and says it once of each peer.
    fn refuse_peer(&mut self, node: NodeId, why: &'static str) {
        self.refuse(why);
        if self.warned.len() < WARNED_MAX && self.warned.insert((node, why)) {
            let (addr, datacenter) = (self.membership.member(node).map(|member| member.addr), self.announced.get(&node));
            tracing::warn!(?node, ?addr, ?datacenter, why, "what a gateway says is refused");
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
            // It calls its own datacenter as we call ours, or has not come here yet.
            let since_ns = *self.namesakes.entry(node).or_insert(now.ns);
            if now.ns.saturating_sub(since_ns) >= NAMESAKE_MS * 1_000_000 {
                self.refuse_peer(node, "wan_name_taken");
            }
            return;
        }
        self.namesakes.remove(&node);
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
    pub fn moved(&mut self, now: Now, catalog: &Catalog, origin: NodeId) {
        let hurry = self.pace.moved(now, catalog, &self.config.export, origin);
        if self.outgoing.is_empty() || hurry == Hurry::Held {
            return;
        }
        self.outgoing.values_mut().for_each(|link| link.touch(origin, hurry));
        self.speak_ns.get_or_insert(now.after_ms(self.wan.batch_ms));
        if hurry == Hurry::AtOnce {
            self.hurry_ns.get_or_insert(now.after_ms(self.wan.removal_ms));
        }
    }

    /// Somebody of the own datacenter came or went.
    pub fn member_changed(&mut self, now: Now, event: Event) {
        self.is_life_new = true;
        if matches!(event, Event::Down(_) | Event::TakenOver { .. }) {
            self.life_ns.get_or_insert(now.after_ms(self.wan.removal_ms));
        }
        self.tick_ns = self.tick_ns.min(now.after_ms(self.wan.batch_ms));
    }

    pub fn handle_timeout(&mut self, now: Now, home: &Home<'_>, imports: &mut Imports, rng: &mut ChaCha12Rng) {
        self.membership.handle_timeout(now);
        if now.ns >= self.tick_ns {
            self.tick_ns = now.after_ms(TICK_MS);
            self.is_life_new = true;
            self.tick(now, home, imports, rng);
        }
        if self.life_ns.is_some_and(|at| at <= now.ns) {
            self.life_ns = None;
            self.is_life_new = true;
            self.say_life(now, home);
        }
        for origin in self.pace.let_go_due(now) {
            self.outgoing.values_mut().for_each(|link| link.touch(origin, Hurry::Gathers));
            self.speak_ns = Some(now.ns);
        }
        if self.speak_ns.is_some_and(|at| at <= now.ns) {
            (self.speak_ns, self.hurry_ns) = (None, None);
            self.speak(now, home);
        } else if self.hurry_ns.is_some_and(|at| at <= now.ns) {
            self.hurry_ns = None;
            self.speak_hurried(home);
        }
    }

    fn tick(&mut self, now: Now, home: &Home<'_>, imports: &mut Imports, rng: &mut ChaCha12Rng) {
        let lives = |node: NodeId| home.members.member(node).is_some_and(|member| member.state != MemberState::Down);
        let gateways = home.members.members().map(|member| member.node).filter(|node| lives(*node) && home.catalog.is_gateway(*node));
        let mut own: Vec<NodeId> = std::iter::once(home.members.me().node).chain(gateways).collect();
        own.sort_unstable();
        if own != self.own {
            let is_first =
                |own: &[NodeId], link: &Outgoing, origin| sending::rank(own, &link.datacenter, origin, home.members.me().node) == 0;
            for link in self.outgoing.values_mut() {
                let mut origins = home.catalog.heads().map(|head| head.origin).chain(home.catalog.marks());
                if origins.any(|origin| is_first(&own, link, origin) && !is_first(&self.own, link, origin)) {
                    link.take_over();
                }
            }
            self.own = own;
            self.speak_ns = Some(now.ns);
        }
        self.pace.follow(now, home.catalog);
        if let left_out @ 1.. = std::mem::take(&mut self.pace.left_out) {
            *self.refused.entry("flaps_full").or_default() += left_out;
        }
        self.announced.retain(|node, _| self.membership.member(*node).is_some());
        self.namesakes.retain(|node, _| self.membership.member(*node).is_some());
        let strangers: Vec<SocketAddr> =
            self.membership.peers().iter().filter(|peer| !self.announced.contains_key(&peer.node)).map(|peer| peer.addr).collect();
        strangers.into_iter().for_each(|addr| self.introduce(home, addr, false));
        self.give_up_silent(now, imports);
        // What a former life said of a link is not true of this one, though others may have given it back.
        let said = imports.by_lane.values().filter(|import| import.says_it_hears()).map(|import| import.name.clone());
        let unheard: Vec<Datacenter> = said.filter(|name| !self.hears(name)).collect();
        unheard.iter().for_each(|name| self.say_links(now, imports, name));
        self.say_gone(now, imports);
        self.drop_answers(now, imports);
        self.drop_summaries(now, imports);
        self.dial(now, home, rng);
        self.say_life(now, home);
        self.say_summaries(now, home);
        let due: Vec<StreamId> =
            self.outgoing.iter().filter(|(_, link)| link.is_greeted && link.compare_ns <= now.ns).map(|(id, _)| *id).collect();
        if home.is_ready {
            self.compare(now, home, &due);
        }
    }

    fn give_up_silent(&mut self, now: Now, imports: &mut Imports) {
        // In a pool that is cut in half nobody is held down: whoever is lost stays suspected.
        let is_lost = |node: NodeId| self.membership.member(node).is_some_and(|member| member.state == MemberState::Suspect);
        let silence_ms = self.wan.silence_ms;
        let outgoing =
            self.outgoing.iter_mut().filter_map(|(id, link)| link.life.is_over(now, silence_ms, is_lost(link.to)).then_some(*id));
        let incoming = self.incoming.iter_mut().filter_map(|(id, link)| {
            let is_lost = link.from.is_some_and(is_lost);
            link.life.is_over(now, silence_ms, is_lost).then_some(*id)
        });
        let over: Vec<StreamId> = outgoing.chain(incoming).collect();
        over.into_iter().for_each(|id| self.close(now, imports, id));
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
            self.say_hello(home, stream);
        }
    }

    fn say_hello(&mut self, home: &Home<'_>, stream: StreamId) {
        let (datacenter, edition) = (home.name.clone(), self.config.export.edition);
        self.send(stream, Frame::Link(LinkFrame::Hello { datacenter, edition, kin: kin::of(home.catalog) }));
    }

    /// Whether a gateway that named these origins is of the datacenter that is known here by that name.
    fn may_speak(&self, now: Now, home: &Home<'_>, imports: &mut Imports, from: NodeId, name: &Datacenter, kin: &[NodeId]) -> bool {
        let is_held = !self.theirs(home, imports, name).is_empty();
        let linked = self.incoming.values().filter(|link| link.datacenter.as_ref() == Some(name) && link.from != Some(from));
        let linked = linked.map(|link| link.kin.as_slice());
        imports.find(name).is_none_or(|import| kin::may_speak(now, import, is_held, kin, linked))
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
            self.frame_out(now, home, imports, stream, from, frame)
        } else {
            self.frame_in(now, home, imports, stream, from, frame)
        };
        if let Err(why) = taken {
            self.refuse_peer(from, why);
            self.close(now, imports, stream);
        }
    }

    /// Whether a datacenter is heard on some link.
    pub fn hears(&self, name: &Datacenter) -> bool {
        self.incoming.values().any(|link| link.datacenter.as_ref() == Some(name))
    }

    pub fn is_link(&self, stream: StreamId) -> bool {
        self.outgoing.contains_key(&stream) || self.incoming.contains_key(&stream)
    }
}
