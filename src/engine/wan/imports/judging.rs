//! What an agent makes of the words of all gateways here: how another datacenter is heard, who is down there, who is gone, and whose
//! summaries count.

use super::words::GONE;
use super::{Import, author_of};
use crate::engine::catalog::Word;
use crate::engine::membership::{MemberState, Membership};
use crate::engine::sabotage::Rule;
use crate::model::names::{NodeId, ServiceKey};
use crate::model::node::Liveness;
use crate::model::summary::Summary;
use crate::model::time::Now;
use crate::view::{LinkState, LinkView, Summarized};
use std::collections::{BTreeMap, BTreeSet};

impl Import {
    /// Folds what the gateways that live here say. What an agent said while it was one does not count when it is none any more; nor does
    /// how one that is lost behind a cut heard the datacenter: it stays suspected for as long as the cut lasts, and its word would not age.
    pub fn judge(&mut self, now: Now, members: &Membership, is_gateway: impl Fn(NodeId) -> bool, is_lost: impl Fn(NodeId) -> bool) {
        if !std::mem::take(&mut self.is_unjudged) {
            return;
        }
        let alive = members.members().filter(|member| member.state != MemberState::Down && !is_lost(member.node)).map(|member| member.node);
        let here: Vec<NodeId> = std::iter::once(members.me().node).chain(alive).collect();
        let mut links = Vec::new();
        let mut downs: Vec<BTreeSet<NodeId>> = Vec::new();
        let mut gone: Vec<BTreeSet<NodeId>> = Vec::new();
        let mut stale_since_ms = None;
        for gateway in here.into_iter().filter(|node| is_gateway(*node)) {
            let author = author_of(&self.name, gateway);
            let Some(word) = self.word_of(author) else { continue };
            let state = LinkState::ALL.get(usize::from(word.state)).copied().unwrap_or(LinkState::Stale);
            if state == LinkState::Stale {
                stale_since_ms = stale_since_ms.max(Some(word.since_ms));
            } else if word.knows_life {
                downs.push(self.down_of(author));
                gone.push(self.named_by(author, GONE));
            }
            links.push(LinkView { gateway, peers: word.peers, state, rtt_us: word.rtt_us, backlog: word.backlog });
        }
        let state = links.iter().map(|link| link.state).min().unwrap_or(LinkState::Stale);
        self.settle_state(now, state, stale_since_ms, links);
        self.has_words = gone.iter().any(|gone| !gone.is_empty());
        self.settle_downs(now, &downs);
        self.settle_gone(&gone);
        self.settle_source(now, members, &is_gateway);
        let others = members.members().map(|member| (member.node, member.state != MemberState::Down));
        let known = std::iter::once((members.me().node, true)).chain(others);
        self.settle_answerers(known.filter(|(node, _)| is_gateway(*node)));
    }

    /// Of the gateways here whose summaries are true now, those of the one count that has had them for the longest; where there is none,
    /// those of the one that had them last, also if it is down.
    fn settle_source(&mut self, now: Now, members: &Membership, is_gateway: impl Fn(NodeId) -> bool) {
        let me = members.me().node;
        let others = members.members().map(|member| (member.node, member.state != MemberState::Down));
        let best = std::iter::once((me, true))
            .chain(others)
            .filter(|(node, _)| is_gateway(*node))
            .filter_map(|(node, is_alive)| {
                let author = author_of(&self.name, node);
                let word = self.source_word_of(author)?;
                let is_current = word.is_current && is_alive;
                let order = if is_current { u64::MAX - word.since_ms } else { word.since_ms };
                Some((is_current, order, author))
            })
            .max();
        let source = best.map(|(_, _, author)| author);
        self.is_source_new |= source != self.source;
        self.source = source;
        let mine = author_of(&self.name, me);
        let is_spare = best.is_some_and(|(is_current, _, author)| is_current && author != mine);
        if is_spare && self.source_word_of(mine).is_some_and(|word| !word.is_current) {
            // Another gateway says them now.
            self.say_all_summaries(now, BTreeMap::new());
        }
    }

    /// Whether readers see other summaries from now on.
    pub(super) fn settle_summaries(&mut self, revision: u64) -> bool {
        if !std::mem::take(&mut self.is_source_new) {
            return false;
        }
        let table: BTreeMap<ServiceKey, Summary> = self.source.into_iter().flat_map(|source| self.summaries_of(source)).collect();
        let mut former = self.summaries.iter().peekable();
        let mut since = |key: &ServiceKey, summary: &Summary| {
            while former.next_if(|former| former.key < *key).is_some() {}
            former.next_if(|former| former.key == *key && former.summary == *summary).map_or(revision, |former| former.revision)
        };
        let seen: Vec<Summarized> =
            table.into_iter().map(|(key, summary)| Summarized { revision: since(&key, &summary), key, summary }).collect();
        let is_news = *seen != *self.summaries;
        self.summaries = seen.into();
        is_news
    }

    /// Gone is what is gone for all that hear the datacenter.
    fn settle_gone(&mut self, gone: &[BTreeSet<NodeId>]) {
        let Some((first, others)) = gone.split_first() else { return };
        for origin in first.iter().filter(|origin| others.iter().all(|gone| gone.contains(origin))) {
            self.catalog.drop_origin(*origin);
        }
    }

    fn settle_state(&mut self, now: Now, state: LinkState, said_stale_ms: Option<u64>, links: Vec<LinkView>) {
        let before = (self.state, self.stale_since_ms);
        if state == LinkState::Stale && self.broken.is(Rule::AgeUntold) {
            return;
        }
        if state == LinkState::Stale && self.state != state && self.broken.is(Rule::SilenceForgets) {
            let origins: Vec<NodeId> = self.catalog.heads().map(|head| head.origin).collect();
            origins.into_iter().for_each(|origin| self.catalog.drop_origin(origin));
        }
        if state != LinkState::Stale {
            (self.heard_ns, self.stale_since_ms) = (now.ns, None);
        } else if self.state != LinkState::Stale {
            // Who heard it says since when not, or is gone itself.
            self.heard_ns = now.ns;
            self.stale_since_ms = Some(said_stale_ms.unwrap_or(now.wall_ms).min(now.wall_ms));
        } else if let Some(said) = said_stale_ms {
            self.stale_since_ms = Some(self.stale_since_ms.map_or(said, |known| known.min(said)));
        }
        self.state = state;
        if before != (self.state, self.stale_since_ms) || self.links != links {
            self.links = links;
            self.is_outdated = true;
            self.show_at = Some(now.ns);
        }
    }

    /// Down is who is down for all that hear the datacenter; while nobody does, everybody stays what he was.
    fn settle_downs(&mut self, now: Now, downs: &[BTreeSet<NodeId>]) {
        let Some((first, others)) = downs.split_first() else { return };
        self.has_words |= downs.iter().any(|down| !down.is_empty());
        let origins: Vec<NodeId> = self.catalog.heads().map(|head| head.origin).collect();
        for origin in origins {
            let is_down = first.contains(&origin) && others.iter().all(|down| down.contains(&origin));
            let was_down = self.catalog.liveness_of(origin, now) == Some(Liveness::Down);
            if is_down != was_down {
                self.catalog.on_member(now, origin, if is_down { Word::Down } else { Word::Alive });
            }
        }
    }
}
