//! Where the rooms of the datacenters meet the rest of the engine: the WAN's packets and streams, parts and streams that are about another
//! datacenter's origins, and what readers see of it. What all of it means is [`super::wan`]'s.

use super::config::EngineConfig;
use super::io::{Output, StreamId};
use super::mail;
use super::membership::{self, Membership};
use super::proof::Passage;
use super::spread::{self, Context, Peer};
use super::wan::gateway::{Effect, Gateway, Home};
use super::wan::imports::{Imports, MENTION_MS, Making};
use super::wire::packet::{Frame, Lane, Mention, Part, Roots};
use super::wire::seal::Sealer;
use super::{Engine, catalog, ring, seed_from};
use crate::model::command::{Refusal, Reply};
use crate::model::names::{Datacenter, NodeId, ServiceKey};
use crate::model::node::Liveness;
use crate::model::time::Now;
use crate::view::LinkState;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use siphasher::sip::SipHasher13;
use std::hash::Hasher as _;
use std::net::SocketAddr;

/// Mentions of datacenters in one part: names may be long.
const MENTIONS_A_PART: usize = 6;
/// A page of the pool's members in one part.
const POOL_PAGE_BYTES: usize = 900;

impl Engine {
    /// A gateway's place in the pool, as this agent takes it at its start or under a new id.
    pub(super) fn open_gateway(&mut self, now: Now) {
        let Some(config) = self.config.gateway.clone() else { return };
        let me = self.membership.me();
        let wan_me = membership::Me { addr: config.advertise, ..me };
        let sealer = Sealer::new(&config.label, ring(&config.keys, &[]), me.node, self.rng.next_u64());
        let mut pool = Membership::new(config.membership.clone(), wan_me, seed_from(&mut self.rng), now);
        if let Some(before) = self.gateway.take() {
            pool.remember(before.membership.peers().iter().map(|peer| peer.addr).collect());
        }
        self.gateway = Some(Gateway::new(config, self.config.wan.clone(), sealer, pool, now));
    }

    /// Calls the gateway, if this agent is one, with the rooms it looks at.
    fn with_gateway<R>(&mut self, call: impl FnOnce(&mut Gateway, &Home<'_>, &mut Imports, &mut ChaCha12Rng) -> R) -> Option<R> {
        let gateway = self.gateway.as_mut()?;
        let seed = seed_from(&mut self.rng);
        let home = Home {
            name: &self.config.node.datacenter,
            catalog: &self.catalog,
            members: &self.membership,
            is_ready: self.spread.is_ready(),
            making: making(&self.config, &self.membership, seed),
        };
        Some(call(gateway, &home, &mut self.imports, &mut self.rng))
    }

    pub(super) fn wan_datagram(&mut self, now: Now, from: SocketAddr, bytes: &[u8]) {
        let Some(gateway) = self.gateway.as_mut() else { return self.counters.drop("wan_unasked") };
        let opened = match gateway.sealer.open(bytes) {
            Ok(opened) => opened,
            Err(refused) => {
                gateway.strangers.knock(from, refused);
                return self.counters.drop(refused.name());
            }
        };
        if !opened.proven {
            gateway.proofs.received(from, bytes.len());
        }
        for part in mail::parts(opened.body) {
            match part {
                Ok(Some(part)) => self.wan_part(now, Peer { node: opened.sender, addr: from }, part),
                Ok(None) => self.counters.drop("part_unknown"),
                Err(_) => self.counters.drop("part_length"),
            }
        }
    }

    fn wan_part(&mut self, now: Now, peer: Peer, part: Part) {
        let Some(gateway) = self.gateway.as_mut() else { return };
        match part {
            Part::Swim(body) => {
                if gateway.membership.handle_packet(now, peer.addr, &body).is_err() {
                    self.counters.drop("swim_packet");
                }
            }
            Part::Members { page, is_answer } => {
                if gateway.membership.apply_state(now, &page).is_err() {
                    self.counters.drop("members_chunk");
                } else if !is_answer {
                    send_pool(gateway, peer.addr, true);
                }
            }
            Part::Gateway { datacenter, is_answer } => {
                self.with_gateway(|gateway, home, _, _| {
                    gateway.announced(now, home, peer.node, datacenter);
                    if !is_answer {
                        gateway.introduce(home, peer.addr, true);
                    }
                });
            }
            Part::Coordinate(coordinate) => gateway.membership.hear_coordinate(now, peer.node, coordinate),
            Part::Challenge(nonce) => gateway.mail.post(peer.addr, &Part::Echo(nonce)),
            Part::Echo(nonce) => {
                for bytes in gateway.proofs.echoed(peer.addr, nonce) {
                    self.out.push_back(Output::WanDatagram { to: peer.addr, bytes });
                }
            }
            _ => self.counters.drop("wan_part"),
        }
    }

    pub(super) fn wan_stream_accepted(&mut self, now: Now, stream: StreamId, peer: SocketAddr, certified: Option<Datacenter>) {
        let has_room = self.gateway.as_mut().is_some_and(|gateway| gateway.accepted(now, stream, peer, certified));
        if !has_room {
            self.out.push_back(Output::CloseStream { stream });
        }
    }

    /// Whether a stream is a link, and with whom.
    fn link_peer(&self, stream: StreamId) -> Option<SocketAddr> {
        self.gateway.as_ref()?.streams.peer(stream)
    }

    /// A stream's news, where it is a link; says whether it was.
    pub(super) fn link_connected(&mut self, stream: StreamId) -> bool {
        let is_link = self.link_peer(stream).is_some();
        if is_link {
            self.with_gateway(|gateway, home, _, _| gateway.connected(home, stream));
        }
        is_link
    }

    pub(super) fn link_closed(&mut self, now: Now, stream: StreamId) -> bool {
        let is_link = self.gateway.as_ref().is_some_and(|gateway| gateway.is_link(stream) || gateway.streams.peer(stream).is_some());
        if is_link {
            self.with_gateway(|gateway, _, imports, _| gateway.closed(now, imports, stream));
        }
        is_link
    }

    pub(super) fn link_bytes(&mut self, now: Now, stream: StreamId, bytes: &[u8]) -> bool {
        if self.link_peer(stream).is_none() {
            return false;
        }
        if let Some(gateway) = self.gateway.as_mut() {
            gateway.streams.push(stream, bytes);
        }
        while let Some(gateway) = self.gateway.as_mut() {
            match gateway.streams.pop(stream, &mut gateway.sealer) {
                Ok(Some(arrived)) => {
                    self.counters.frames_in += 1;
                    self.with_gateway(|gateway, home, imports, _| {
                        gateway.frame(now, home, imports, stream, arrived.sender, arrived.frame);
                    });
                }
                Ok(None) => break,
                Err(broken) => {
                    self.counters.drop(broken.0);
                    self.out.push_back(Output::CloseStream { stream });
                    self.link_closed(now, stream);
                    break;
                }
            }
        }
        true
    }

    /// What is due in the pool of gateways, on links and in what is kept of others.
    pub(super) fn datacenter_timeouts(&mut self, now: Now) {
        self.with_gateway(|gateway, home, imports, rng| gateway.handle_timeout(now, home, imports, rng));
        for import in self.imports.by_lane.values_mut() {
            import.catalog.handle_timeout(now);
            let mut context = Context { catalog: &mut import.catalog, members: &self.membership };
            import.spread.handle_timeout(now, &mut context);
        }
        for name in self.imports.expired(now, &self.config.wan) {
            tracing::info!(datacenter = %name, "nobody has heard it for too long: what was known of it is dropped");
            self.counters.drop("datacenter_expired");
            self.imports.forget(now, &name, now.wall_ms);
            self.spread.set_remote_root(self.imports.root());
        }
    }

    /// One step of what these rooms hand on; false when they are quiet.
    pub(super) fn pump_datacenters(&mut self, now: Now) -> bool {
        if let Some(effect) = self.gateway.as_mut().and_then(|gateway| gateway.membership.poll()) {
            self.pool_effect(now, effect);
            return true;
        }
        if let Some(effect) = self.gateway.as_mut().and_then(Gateway::poll) {
            self.link_effect(effect);
            return true;
        }
        for import in self.imports.by_lane.values_mut() {
            let (me, is_gateway) = (self.membership.me().node, self.config.gateway.is_some());
            let is_gateway = |node| if node == me { is_gateway } else { self.catalog.is_gateway(node) };
            let is_lost = |node| self.catalog.liveness_of(node, now) == Some(Liveness::Unverified);
            import.judge(now, &self.membership, is_gateway, is_lost);
            let lane = import.lane;
            if let Some(effect) = import.catalog.poll() {
                self.import_effect(now, lane, effect);
                return true;
            }
            if let Some(effect) = import.spread.poll() {
                self.lane_effect(now, lane, effect);
                return true;
            }
        }
        false
    }

    fn pool_effect(&mut self, now: Now, effect: membership::Effect) {
        use membership::Event;
        let Some(gateway) = self.gateway.as_mut() else { return };
        match effect {
            membership::Effect::Send { to, body, coordinate } => {
                gateway.mail.post_swim(to, body, coordinate);
            }
            membership::Effect::Event(Event::Up(node) | Event::Moved { node, .. }) => {
                let addr = gateway.membership.member(node).map(|member| member.addr);
                self.with_gateway(|gateway, home, _, _| addr.into_iter().for_each(|addr| gateway.introduce(home, addr, false)));
            }
            membership::Effect::Event(Event::Down(node) | Event::Left(node)) => {
                self.with_gateway(|gateway, _, imports, _| gateway.gone(now, imports, node));
            }
            membership::Effect::Event(Event::NeedState { addr, .. }) => send_pool(gateway, addr, false),
            membership::Effect::Event(_) => {}
        }
    }

    fn link_effect(&mut self, effect: Effect) {
        let Some(gateway) = self.gateway.as_mut() else { return };
        match effect {
            Effect::Open { stream, to, datacenter } => {
                gateway.streams.opened(stream, to, &mut gateway.sealer, &mut self.rng);
                self.out.push_back(Output::OpenWanStream { stream, to, datacenter });
            }
            Effect::Frame { stream, frame } => {
                if let Some(bytes) = gateway.streams.write(stream, &frame, &gateway.sealer, &mut self.rng) {
                    self.counters.frames_out += 1;
                    self.counters.link_bytes_out += bytes.len() as u64;
                    self.out.push_back(Output::StreamBytes { stream, bytes });
                }
            }
            Effect::Close { stream } => self.out.push_back(Output::CloseStream { stream }),
        }
    }

    fn import_effect(&mut self, now: Now, lane: Lane, effect: catalog::Effect) {
        let Some(import) = self.imports.by_lane.get_mut(&lane) else { return };
        let mut context = Context { catalog: &mut import.catalog, members: &self.membership };
        match effect {
            catalog::Effect::Fresh { origin, seq, urgency } => import.spread.offer(now, &mut context, origin, seq, urgency),
            catalog::Effect::HeadMoved(origin) => {
                import.spread.head_moved(now, &mut context, origin);
                self.imports.moved(now, lane, origin);
                self.spread.set_remote_root(self.imports.root());
            }
            // Nothing of it is stored: it comes again with the link.
            catalog::Effect::Store(_) | catalog::Effect::Reply { .. } | catalog::Effect::Forward { .. } => {}
        }
    }

    fn lane_effect(&mut self, now: Now, lane: Lane, effect: spread::Effect) {
        match effect {
            spread::Effect::Send { to, part } => self.mail.post_in_lane(to, lane, &part),
            spread::Effect::OpenStream { stream, to } => {
                self.lanes.insert(stream, lane);
                self.spread_effect(now, spread::Effect::OpenStream { stream, to });
                self.spread_effect(now, spread::Effect::Frame { stream, frame: Frame::Lane(lane) });
            }
            spread::Effect::CloseStream { stream } => {
                self.lanes.remove(&stream);
                self.spread_effect(now, spread::Effect::CloseStream { stream });
            }
            other => self.spread_effect(now, other),
        }
    }

    /// A part about another datacenter's origins.
    pub(super) fn lane_part(&mut self, now: Now, peer: Peer, lane: Lane, part: &[u8]) {
        let Ok(part) = postcard::from_bytes::<Part>(part) else { return self.counters.drop("part_unknown") };
        let Some(import) = self.imports.by_lane.get_mut(&lane) else { return self.counters.drop("lane_unknown") };
        let mut context = Context { catalog: &mut import.catalog, members: &self.membership };
        import.spread.handle_part(now, &mut context, peer, part);
    }

    /// The other spread a stream belongs to, with the rooms it works on.
    pub(super) fn lane_of(&mut self, stream: StreamId) -> Option<(&mut spread::Spread, Context<'_>)> {
        let lane = self.lanes.get(&stream)?;
        let import = self.imports.by_lane.get_mut(lane)?;
        Some((&mut import.spread, Context { catalog: &mut import.catalog, members: &self.membership }))
    }

    /// A stream that a peer opened is about another datacenter's origins. Says whether they are known here.
    pub(super) fn enter_lane(&mut self, now: Now, stream: StreamId, peer: SocketAddr, lane: Lane) -> bool {
        let mut context = Context { catalog: &mut self.catalog, members: &self.membership };
        self.spread.stream_closed(now, &mut context, stream);
        self.lanes.insert(stream, lane);
        let Some((spread, mut context)) = self.lane_of(stream) else { return false };
        spread.stream_accepted(now, &mut context, stream, peer);
        true
    }

    /// Somebody here looks up a service of another datacenter that is known by its summary alone. Of the gateways here that hear the
    /// datacenter the same one is asked by all agents, so that one fetches for all; and the next in turn where nothing comes of it.
    pub(super) fn look_up(&mut self, now: Now, datacenter: &Datacenter, service: ServiceKey) {
        let Some(import) = self.imports.find(datacenter).filter(|import| import.is_summarized(&service)) else { return };
        let name = (datacenter.clone(), service);
        let mut gateways = import.heard_by();
        gateways.sort_by_key(|gateway| fetch_rank(&name, *gateway));
        let Some(turn) = self.lookups.turn(now, &name).filter(|_| !gateways.is_empty()) else { return };
        let gateway = gateways[turn % gateways.len()];
        if gateway == self.membership.me().node {
            self.fetch(now, datacenter, name.1);
        } else if let Some(member) = self.membership.member(gateway) {
            let (datacenter, ServiceKey { namespace, service }) = name;
            self.mail.post(member.addr, &Part::Fetch { datacenter, namespace, service });
        }
    }

    /// An agent here, or this one, asks this gateway for it.
    pub(super) fn fetch(&mut self, now: Now, datacenter: &Datacenter, service: ServiceKey) {
        if self.with_gateway(|gateway, _, imports, _| gateway.fetch(now, imports, datacenter, service)).is_none() {
            self.counters.drop("fetch_no_gateway");
        }
    }

    /// A peer's sum over all other datacenters came.
    pub(super) fn compare_datacenters(&mut self, now: Now, peer: Peer, roots: Roots) {
        if roots.remote != self.imports.root() {
            self.mention(now, peer.addr);
        }
    }

    fn mention(&mut self, now: Now, to: SocketAddr) {
        if now.ns < self.mention_ns {
            return;
        }
        self.mention_ns = now.after_ms(MENTION_MS);
        let mentions = self.imports.mentions();
        if mentions.is_empty() {
            self.mail.post(to, &Part::Datacenters(Vec::new()));
        }
        for mentions in mentions.chunks(MENTIONS_A_PART) {
            self.mail.post(to, &Part::Datacenters(mentions.to_vec()));
        }
    }

    pub(super) fn take_mentions(&mut self, now: Now, peer: Peer, mentions: Vec<Mention>) {
        let lacks = self.imports.by_lane.values().any(|import| !mentions.iter().any(|mention| mention.datacenter == import.name));
        for Mention { datacenter, root, is_heard } in mentions {
            if datacenter == self.config.node.datacenter {
                continue;
            }
            if let Some(at_ms) = self.imports.is_forgotten(now, &datacenter).filter(|_| !is_heard) {
                self.mail.post(peer.addr, &Part::Forgotten { datacenter, at_ms });
                continue;
            }
            let is_new = self.imports.find(&datacenter).is_none();
            let seed = seed_from(&mut self.rng);
            let making = making(&self.config, &self.membership, seed);
            let Some(import) = self.imports.ensure(now, &datacenter, is_heard, &self.config.wan, &making) else { continue };
            let mut context = Context { catalog: &mut import.catalog, members: &self.membership };
            import.spread.handle_roots(now, &mut context, peer, Roots { local: root, remote: 0 });
            if is_new {
                import.spread.exchange_with(now, peer);
            }
        }
        if lacks {
            self.mention(now, peer.addr);
        }
    }

    pub(super) fn take_forgotten(&mut self, now: Now, datacenter: &Datacenter, at_ms: u64) {
        if self.imports.find(datacenter).is_some_and(|import| import.state() == LinkState::Stale) {
            tracing::info!(%datacenter, "what was known of it is dropped on an operator's word");
            self.forget_datacenter(now, datacenter, at_ms);
        }
    }

    fn forget_datacenter(&mut self, now: Now, datacenter: &Datacenter, at_ms: u64) {
        self.imports.forget(now, datacenter, at_ms);
        self.spread.set_remote_root(self.imports.root());
        self.counters.drop("datacenter_forgotten");
    }

    /// An operator's word: everybody here drops what is known of a datacenter.
    pub(super) fn forget_everywhere(&mut self, now: Now, datacenter: &Datacenter) -> Result<Reply, Refusal> {
        let Some(import) = self.imports.find(datacenter) else {
            return Err(Refusal::NotFound { what: format!("datacenter {datacenter}") });
        };
        if import.state() != LinkState::Stale {
            return Err(Refusal::Invalid {
                what: format!("datacenter {datacenter} is heard: only one that is out of contact can be forgotten"),
            });
        }
        self.forget_datacenter(now, datacenter, now.wall_ms);
        let peers: Vec<SocketAddr> = self.membership.peers().iter().map(|peer| peer.addr).collect();
        for to in peers {
            self.mail.post(to, &Part::Forgotten { datacenter: datacenter.clone(), at_ms: now.wall_ms });
        }
        Ok(Reply::Done)
    }

    /// Somebody of the own datacenter came or went.
    pub(super) fn member_of_lanes(&mut self, now: Now, event: membership::Event) {
        for import in self.imports.by_lane.values_mut() {
            let mut context = Context { catalog: &mut import.catalog, members: &self.membership };
            import.spread.on_member(now, &mut context, event);
        }
        self.imports.members_changed();
        if let Some(gateway) = self.gateway.as_mut() {
            gateway.member_changed(now, event);
        }
    }

    /// Under a new id everything said of other datacenters begins anew; what was shown of them stays until they are heard.
    pub(super) fn reopen_datacenters(&mut self, now: Now) {
        self.imports.begin_anew(now);
        self.lanes.clear();
        self.spread.set_remote_root(0);
        self.open_gateway(now);
    }

    /// Hands what changed of other datacenters to the view.
    pub(super) fn show_datacenters(&mut self, now: Now) {
        if self.imports.show(now) {
            let views = self.imports.views();
            self.catalog.editor().set_datacenters(views);
        }
    }

    pub(super) fn send_wan_mail(&mut self, now: Now) {
        let Some(gateway) = self.gateway.as_mut() else { return };
        for (why, times) in std::mem::take(&mut gateway.refused) {
            *self.counters.dropped.entry(why).or_default() += times;
        }
        for (to, body) in gateway.mail.take().collect::<Vec<_>>() {
            let bytes = gateway.sealer.seal(&mut self.rng, &body);
            let passage = match gateway.sealer.keyring() {
                Some(_) => Passage::Send(bytes),
                None => gateway.proofs.pass(now, to, bytes, &mut self.rng),
            };
            let bytes = match passage {
                Passage::Send(bytes) => bytes,
                Passage::Challenge(nonce) => gateway.sealer.seal(&mut self.rng, &mail::body_of(&Part::Challenge(nonce))),
                Passage::Wait => continue,
            };
            self.counters.wan_bytes_out += bytes.len() as u64;
            self.out.push_back(Output::WanDatagram { to, bytes });
        }
    }

    /// This agent's place among gateways, if it is one.
    pub fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    pub fn imports(&self) -> &Imports {
        &self.imports
    }
}

/// What another datacenter's catalog is made with here.
fn making<'a>(config: &'a EngineConfig, members: &Membership, seed: [u8; 32]) -> Making<'a> {
    let EngineConfig { catalog, spread, label, .. } = config;
    Making { catalog, spread, label, me: members.me().node, is_gateway: config.gateway.is_some(), seed }
}

/// All gateways of the pool, to one of them.
fn send_pool(gateway: &mut Gateway, to: SocketAddr, is_answer: bool) {
    for page in gateway.membership.state_pages(POOL_PAGE_BYTES) {
        gateway.mail.post(to, &Part::Members { page, is_answer });
    }
}

/// Spreads what is fetched over the gateways, alike at all agents.
fn fetch_rank((datacenter, service): &(Datacenter, ServiceKey), gateway: NodeId) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x7469_6469_6e67_7321, 0x6665_7463_6820_6f66);
    hasher.write(&gateway.0.to_le_bytes());
    for part in [datacenter.as_str(), service.namespace.as_str(), service.service.as_str()] {
        hasher.write(part.as_bytes());
        hasher.write_u8(0);
    }
    hasher.finish()
}
