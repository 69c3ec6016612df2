//! What a gateway says to other datacenters: links that are opened, changes, who is down, what both sides compare.

use super::super::config::Export;
use super::super::crossing::{Crossing, root_of};
use super::super::fetching;
use super::super::imports::Imports;
use super::super::link::{Of, Outgoing};
use super::super::summaries;
use super::{Dial, Effect, FRAME_ITEMS, Gateway, Home, LANE, TICK_MS};
use crate::engine::io::StreamId;
use crate::engine::membership::MemberState;
use crate::engine::spread::LANE_SHIFT;
use crate::engine::spread::sketch::{Gathering, Theirs, by_short_name};
use crate::engine::wire::packet::{Advert, Frame, LinkFrame, SketchCells};
use crate::model::names::{Datacenter, NodeId, ServiceKey};
use crate::model::node::Liveness;
use crate::model::time::Now;
use rand::RngExt as _;
use rand_chacha::ChaCha12Rng;
use siphasher::sip::SipHasher24;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::net::SocketAddr;

/// Summaries fall to one gateway as if they were this origin's.
const SUMMARIES: NodeId = NodeId(0);

impl Gateway {
    /// Opens a link to each datacenter that has none.
    pub(super) fn dial(&mut self, now: Now, home: &Home<'_>, rng: &mut ChaCha12Rng) {
        if !home.is_ready {
            // It has nothing to say yet, and does not know whom of its own datacenter to name.
            return;
        }
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
    pub(super) fn say_life(&mut self, now: Now, home: &Home<'_>) {
        // What may not be said now is said when it may.
        if !self.is_life_new || home.members.is_cut_off() || !home.is_ready {
            return;
        }
        self.is_life_new = false;
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

    /// Says what is to be known of services that do not cross in full, where it falls to this gateway.
    pub(super) fn say_summaries(&mut self, now: Now, home: &Home<'_>) {
        if !home.is_ready || home.members.is_cut_off() {
            // What it sees is not how its datacenter is.
            return self.outgoing.values_mut().for_each(Outgoing::yield_summaries);
        }
        let changed = summaries::changes(&self.summaries.follow(home.catalog.view(), &self.config.export));
        if let left_out @ 1.. = std::mem::take(&mut self.summaries.left_out) {
            *self.refused.entry("summaries_full").or_default() += left_out;
        }
        let me = home.members.me().node;
        self.speak_ns = Some(now.ns);
        for link in self.outgoing.values_mut().filter(|link| link.is_greeted) {
            if rank(&self.own, &link.datacenter, SUMMARIES, me) == 0 {
                link.say_summaries(|| self.summaries.whole(), changed.clone());
            } else {
                link.yield_summaries();
            }
        }
    }

    pub(super) fn speak(&mut self, now: Now, home: &Home<'_>) {
        if !home.is_ready {
            // Who does not know enough exports nothing.
            self.speak_ns = Some(now.after_ms(TICK_MS));
            return;
        }
        self.say_on_links(home, Of::All);
        let window = self.wan.window_bytes;
        let is_news = |link: &Outgoing| link.sketches > 0 && !link.is_caught_up && link.backlog(window) == 0;
        let caught_up: Vec<StreamId> = self.outgoing.iter().filter(|(_, link)| is_news(link)).map(|(id, _)| *id).collect();
        for id in &caught_up {
            if let Some(link) = self.outgoing.get_mut(id) {
                link.is_caught_up = true;
            }
        }
        self.compare(now, home, &caught_up);
    }

    /// Says what takes something out of lists, without what gathers.
    pub(super) fn speak_hurried(&mut self, home: &Home<'_>) {
        if home.is_ready {
            self.say_on_links(home, Of::Hurried);
        }
    }

    /// Hands on what each link has to say now.
    fn say_on_links(&mut self, home: &Home<'_>, of: Of) {
        let crossing = Crossing { catalog: home.catalog, policy: &self.config.export, pace: &self.pace };
        let (me, window) = (home.members.me().node, self.wan.window_bytes);
        let mut said = Vec::new();
        for (id, link) in self.outgoing.iter_mut().filter(|(_, link)| link.is_due(window)) {
            let datacenter = link.datacenter.clone();
            let frames = link.speak(of, &crossing, |origin| rank(&self.own, &datacenter, origin, me) == 0, window);
            said.extend(frames.into_iter().map(|frame| (*id, frame)));
        }
        said.into_iter().for_each(|(id, frame)| self.send(id, frame));
    }

    /// Says on these links the sum over all that crosses: the other side answers with what it has instead, or, if it is asked, that it has the
    /// same.
    pub(super) fn compare(&mut self, now: Now, home: &Home<'_>, links: &[StreamId]) {
        if links.is_empty() {
            return;
        }
        let heads = Crossing { catalog: home.catalog, policy: &self.config.export, pace: &self.pace }.heads();
        let root = root_of(heads.iter().map(Advert::from));
        for id in links {
            let Some(link) = self.outgoing.get_mut(id) else { continue };
            let is_asking = link.asks_with(root, &heads);
            link.compare_ns = now.after_ms(self.wan.reconcile_ms);
            let backlog = link.backlog(self.wan.window_bytes);
            // Who is told of a backlog is told when it is gone.
            link.is_caught_up &= backlog == 0;
            self.send(*id, Frame::Link(LinkFrame::Compare { root, backlog, is_asking }));
        }
    }

    /// What the receiver of our changes says.
    pub(super) fn frame_out(
        &mut self,
        now: Now,
        home: &Home<'_>,
        imports: &mut Imports,
        stream: StreamId,
        from: NodeId,
        frame: Frame,
    ) -> Result<(), &'static str> {
        if self.outgoing.get(&stream).is_none_or(|link| link.to != from) {
            return Err("link_stranger");
        }
        if let Frame::Link(LinkFrame::Hello { datacenter, kin, .. }) = &frame
            && !self.may_speak(now, home, imports, from, datacenter, kin)
        {
            // What is said here is not for another datacenter of that name.
            return Err("wan_name_taken");
        }
        let Some(link) = self.outgoing.get_mut(&stream) else { return Ok(()) };
        link.life.heard(now);
        match frame {
            Frame::Link(LinkFrame::Hello { datacenter, .. }) if datacenter == link.datacenter && !link.is_greeted => {
                link.is_greeted = true;
                link.touch_all(home.catalog.marks());
                self.dials.remove(&datacenter);
                self.is_life_new = true;
                self.tick_ns = now.ns;
            }
            Frame::Link(LinkFrame::Sketch(parts)) if link.is_greeted => self.take_sketch(home, stream, parts)?,
            Frame::Link(LinkFrame::Same { root }) if link.is_greeted => link.has_asked(root),
            Frame::Wants(wants) if link.is_greeted => link.wants(&wants),
            Frame::WantsEnd => {}
            Frame::Link(LinkFrame::Taken { bytes }) => link.taken(bytes),
            Frame::Link(LinkFrame::Fetch { namespace, service }) if link.is_greeted => {
                let service = ServiceKey { namespace, service };
                let is_told = self.config.export.of(service.namespace.as_str(), service.service.as_str()) == Export::Summary;
                let known = home.catalog.view().service(service.namespace.as_str(), service.service.as_str());
                let frames = fetching::frames(&service, known.filter(|_| is_told).map(|known| &**known));
                let refusal = match frames.filter(|_| home.is_ready) {
                    None => Some("answer_impossible"),
                    Some(frames) => link.answer(frames).err().map(|_| "answers_full"),
                };
                refusal.into_iter().for_each(|why| self.refuse(why));
            }
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
        let crossing = Crossing { catalog: home.catalog, policy: &self.config.export, pace: &self.pace };
        let Some(link) = self.outgoing.get_mut(&stream) else { return Ok(()) };
        link.sketches += 1;
        let is_first = link.sketches == 1;
        let heads = crossing.heads();
        link.has(heads.iter().copied());
        let adverts: Vec<Advert> = heads.iter().map(Advert::from).collect();
        let salt = sketch.salt();
        let decoded = sketch.diff(&self.key, adverts.iter().copied());
        if let (Ok(diff), true) = (&decoded, home.is_ready) {
            // A mark is refused as long as its origin is held alive: it is said again as long as the origin is held.
            let marks = home.catalog.marks().into_iter().filter_map(|origin| home.catalog.head(origin)).map(|head| Advert::from(&head));
            by_short_name(&self.key, salt, &diff.unknown, marks).iter().for_each(|mark| link.lacks_mark(mark.origin));
            let unknown = diff.unknown.iter().map(|origin| origin.0).collect();
            self.effects.push_back(Effect::Frame { stream, frame: Frame::Link(LinkFrame::Unknown(unknown)) });
        }
        let Ok(diff) = decoded else {
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
}

/// Where a gateway stands for an origin's shard and a datacenter: 0 is the one that sends.
pub(super) fn rank(own: &[NodeId], datacenter: &Datacenter, origin: NodeId, me: NodeId) -> usize {
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
