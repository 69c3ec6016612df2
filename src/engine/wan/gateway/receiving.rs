//! What a gateway takes in from other datacenters, and what it says of that to the agents of its own.

use super::super::crossing::root_of;
use super::super::fetching::Arriving;
use super::super::imports::{Imports, LinkSeen, author_of};
use super::super::kin;
use super::super::link::{Incoming, weight};
use super::super::summaries::Taken;
use super::{FRAME_ITEMS, Gateway, Home, WANTS_MAX};
use crate::engine::catalog::{Heard, ORIGINS_MAX};
use crate::engine::io::StreamId;
use crate::engine::spread::sketch::{ShortOrigin, Size, Sketch, by_short_name};
use crate::engine::spread::{Context, unpack_batches, unpack_records};
use crate::engine::wire::packet::{Advert, Frame, LinkFrame, Want};
use crate::model::names::{Datacenter, NodeId, ServiceKey};
use crate::model::record::Lineage;
use crate::model::time::Now;
use crate::view::LinkState;
use std::collections::BTreeSet;
use std::net::SocketAddr;

impl Gateway {
    /// What another datacenter's gateway sends.
    pub(super) fn frame_in(
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
        link.life.heard(now);
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
        if let Frame::Link(LinkFrame::Hello { datacenter, kin, .. }) = frame {
            return self.greet(now, home, imports, stream, link, (datacenter, kin));
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
                    if batch.flags.reaped.is_none() {
                        is_news |= link.hear_known(batch.origin);
                        import.is_known_again(now, batch.origin);
                    }
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
                is_news |= link.hear_known(head.origin);
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                import.is_known_again(now, head.origin);
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
                if let (Some(staged), Some(import)) = (staged.filter(|_| count == records), imports.find(&name)) {
                    let origin = staged.origin();
                    if import.catalog.finish(now, staged).advanced {
                        import.spread.imported(now, origin);
                    }
                }
            }
            Frame::Link(LinkFrame::Down { origins, is_down }) => {
                link.hear_down(origins, is_down)?;
                is_news = true;
            }
            Frame::Link(LinkFrame::Summaries { is_whole, is_end, packed }) => {
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                match link.summaries.take(now.ns, is_whole, is_end, &packed)? {
                    Taken::Nothing => {}
                    Taken::Changes(changes) if self.told_by.get(&name) == Some(&stream) => import.say_summaries(now, changes)?,
                    Taken::Changes(_) => {}
                    Taken::Anew => {
                        self.told_by.remove(&name);
                        is_news = true;
                    }
                }
            }
            Frame::Link(LinkFrame::Fetched { namespace, service, is_end, packed }) => {
                let service = ServiceKey { namespace, service };
                let Some(arrived) = Arriving::take(&mut link.answer, &service, is_end, &packed)? else { return Ok(false) };
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                if self.fetching.take(now, &(name, service.clone()), arrived.bytes) {
                    import.say_answer(now, &service, arrived.parts);
                }
            }
            Frame::Link(LinkFrame::Heads(heads)) => {
                let Some(import) = imports.find(&name) else { return Err("link_forgotten") };
                for head in &heads {
                    if link.told.len() < ORIGINS_MAX {
                        link.told.insert(head.origin);
                    }
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
                let told = std::mem::take(&mut link.told);
                let held = self.theirs(home, imports, &name).into_iter().map(|advert| advert.origin);
                link.hear_unknown(now, held.filter(|origin| !told.contains(origin)));
                is_news = true;
            }
            Frame::Link(LinkFrame::Unknown(origins)) => {
                let named: Vec<ShortOrigin> = origins.into_iter().map(ShortOrigin).collect();
                let held = by_short_name(&self.key, link.salt, &named, self.theirs(home, imports, &name));
                link.hear_unknown(now, held.into_iter().map(|advert| advert.origin));
                is_news = true;
            }
            Frame::Link(LinkFrame::Compare { root, backlog, is_asking }) => {
                is_time = true;
                let adverts = self.theirs(home, imports, &name);
                if root_of(adverts.iter().copied()) == root {
                    link.hear_unknown(now, []);
                    if is_asking {
                        self.send(stream, Frame::Link(LinkFrame::Same { root }));
                    }
                } else {
                    link.salt = root;
                    self.send_sketch(stream, &adverts, root);
                }
                link.is_fresh = backlog == 0;
                link.backlog = backlog;
                // With it the round trip is looked at; what is no news is not said again.
                is_news = true;
            }
            _ => return Err("link_nonsense"),
        }
        if let Some(word) = link.take(bytes, is_time) {
            self.send(stream, word);
        }
        Ok(is_news)
    }

    /// Somebody here looks up a service that is known by its summary alone: it is fetched, if that is due.
    pub fn fetch(&mut self, now: Now, imports: &mut Imports, name: &Datacenter, service: ServiceKey) {
        let links = self.incoming.iter().filter(|(_, link)| link.datacenter.as_ref() == Some(name));
        let Some(stream) = links.max_by_key(|(_, link)| link.summaries.whole().is_some()).map(|(stream, _)| *stream) else { return };
        if !imports.find(name).is_some_and(|import| import.is_summarized(&service)) {
            return self.refuse("fetch_unknown");
        }
        if self.fetching.look_up(now, (name.clone(), service.clone())) {
            let ServiceKey { namespace, service } = service;
            self.send(stream, Frame::Link(LinkFrame::Fetch { namespace, service }));
        }
    }

    /// Drops answers that nobody looks up any more, that are too much, or that a former life of this agent fetched.
    pub(super) fn drop_answers(&mut self, now: Now, imports: &mut Imports) {
        let heard: BTreeSet<Datacenter> = self.incoming.values().filter_map(|link| link.datacenter.clone()).collect();
        self.fetching.drop_unused(now, |name| heard.contains(name));
        for name in heard {
            let Some(import) = imports.find(&name) else { continue };
            let kept = |service: &ServiceKey| self.fetching.holds(&(name.clone(), service.clone()));
            let over: Vec<ServiceKey> = import.answered().into_iter().filter(|service| !kept(service)).collect();
            over.iter().for_each(|service| import.drop_answer(now, service));
        }
    }

    /// Takes back the summaries that a former life of this agent said and others gave back since: the present link says nothing of them.
    pub(super) fn drop_summaries(&mut self, now: Now, imports: &mut Imports) {
        for (name, stream) in &self.told_by {
            let told = self.incoming.get(stream).and_then(|link| link.summaries.whole());
            let (Some((_, table)), Some(import)) = (told, imports.find(name)) else { continue };
            if import.summaries_said() > table.len() {
                import.say_all_summaries(now, table.clone());
            }
        }
    }

    fn greet(
        &mut self,
        now: Now,
        home: &Home<'_>,
        imports: &mut Imports,
        stream: StreamId,
        link: &mut Incoming,
        (datacenter, kin): (Datacenter, Vec<NodeId>),
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
        if kin.len() > kin::KIN_MAX {
            return Err("link_nonsense");
        }
        if link.from.is_some_and(|from| !self.may_speak(now, home, imports, from, &datacenter, &kin)) {
            return Err("wan_name_taken");
        }
        if imports.ensure(now, &datacenter, true, &self.wan, &home.making).is_none() {
            return Err("link_datacenters_full");
        }
        (link.datacenter, link.kin) = (Some(datacenter.clone()), kin);
        // Who opens a second one has given the first up.
        let former: Vec<StreamId> = self.incoming.iter().filter(|(_, other)| other.from == link.from).map(|(id, _)| *id).collect();
        former.into_iter().for_each(|id| self.close(now, imports, id));
        self.say_hello(home, stream);
        let adverts = self.theirs(home, imports, &datacenter);
        link.salt = u64::from(now.wall_ms as u32);
        self.send_sketch(stream, &adverts, link.salt);
        Ok(true)
    }

    /// What is held of another datacenter's own origins: not what gateways here say of it.
    pub(super) fn theirs(&self, home: &Home<'_>, imports: &mut Imports, name: &Datacenter) -> Vec<Advert> {
        let members = home.members.members().map(|member| member.node);
        let authors: BTreeSet<NodeId> = std::iter::once(home.members.me().node).chain(members).map(|node| author_of(name, node)).collect();
        imports.find(name).map(|import| import.adverts(&authors)).unwrap_or_default()
    }

    fn send_sketch(&mut self, stream: StreamId, adverts: &[Advert], salt: u64) {
        let sketch = Sketch::build(&self.key, Size::Small, salt, adverts.iter().copied());
        self.send(stream, Frame::Link(LinkFrame::Sketch(sketch.parts(0))));
    }

    /// Says which origins are gone: nobody over there has known anything of them for long, or this agent holds their datacenter's mark
    /// while others here do not.
    pub(super) fn say_gone(&mut self, now: Now, imports: &mut Imports) {
        let names: BTreeSet<Datacenter> = self.incoming.values().filter_map(|link| link.datacenter.clone()).collect();
        for name in names {
            let links = self.incoming.values().filter(|link| link.datacenter.as_ref() == Some(&name));
            let gone = in_all(links.map(|link| link.unknown_for(now, self.wan.unknown_ms)));
            let Some(import) = imports.find(&name) else { continue };
            let contested = import.catalog.contested();
            let is_news = import.say_gone(now, gone.into_iter().chain(contested));
            if is_news {
                self.say_links(now, imports, &name);
            }
        }
    }

    /// Says to all agents here how a datacenter is heard by this gateway, and whom it holds down.
    pub(super) fn say_links(&mut self, now: Now, imports: &mut Imports, name: &Datacenter) {
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
        let downs: Vec<BTreeSet<NodeId>> = links.iter().filter_map(|link| link.not_vouched_for()).collect();
        let knows_life = !downs.is_empty();
        if knows_life {
            let mut down = in_all(downs.into_iter());
            down.extend(import.catalog.contested());
            // Whom its own datacenter gave up after it went down stays down for those here who do not know the mark yet.
            let said = import.said_down();
            down.extend(import.catalog.marks().into_iter().filter(|origin| said.contains(origin)));
            import.say_down(now, &down);
        }
        // After it, so that nobody takes the one for true without the other.
        let backlog = links.iter().fold(0, |sum: u32, link| sum.saturating_add(link.backlog));
        import.say_link(now, LinkSeen { state, rtt_us, peers, knows_life, backlog });
        // Of several that say summaries the last that said all counts; when it yields, or is gone, what another says is true again.
        let heard = self.incoming.iter().filter(|(_, link)| link.datacenter.as_ref() == Some(name));
        let told = heard.filter_map(|(id, link)| link.summaries.whole().map(|(at_ns, table)| (at_ns, *id, table)));
        let told = told.max_by_key(|(at_ns, id, _)| (*at_ns, *id));
        import.say_source(now, told.is_some());
        match told {
            Some((_, id, table)) if self.told_by.get(name) != Some(&id) => {
                import.say_all_summaries(now, table.clone());
                self.told_by.insert(name.clone(), id);
            }
            Some(_) => {}
            None => _ = self.told_by.remove(name),
        }
    }
}

/// What is in each of the sets.
fn in_all(sets: impl Iterator<Item = BTreeSet<NodeId>>) -> BTreeSet<NodeId> {
    sets.reduce(|all, set| &all & &set).unwrap_or_default()
}
