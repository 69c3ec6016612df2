//! What an agent says of another datacenter as a gateway that is linked with it, and how its words are read: records of its own in the
//! import's catalog, under the names below.

use super::{Import, author_of};
use crate::engine::wan::summaries::SERVICES_MAX;
use crate::model::names::{NodeId, ServiceKey};
use crate::model::record::{Key, Kind, Scope};
use crate::model::summary::{Summary, summary_in, summary_key};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::LinkState;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What a gateway says under this name is its [`LinkWord`]; under the other, the id of an origin that is down.
const LINK: &str = "link";
const DOWN: &str = "down";
/// Under this, the id of an origin that its own datacenter has forgotten.
pub(super) const GONE: &str = "gone";
/// Under this, whether its summaries are what its link says now ([`SourceWord`]).
const SOURCE: &str = "summaries";
/// That an origin is gone is said for so long, in milliseconds: until then all here that are reached have dropped it.
const GONE_MS: u64 = 3_600_000;

/// How a gateway here hears another datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LinkWord {
    /// 0 fresh, 1 lagging, 2 stale.
    pub(super) state: u8,
    /// Since when it is what it is, in Unix milliseconds.
    pub(super) since_ms: u64,
    pub(super) rtt_us: Option<u32>,
    pub(super) peers: Vec<(NodeId, SocketAddr)>,
    /// Somebody over there said on this link who is down: until then its silence on it means nothing.
    pub(super) knows_life: bool,
    /// Origins over there whose changes wait to be sent, about: the next power of two, so that not each of them is news.
    pub(super) backlog: u32,
}

/// Where a gateway's summaries of another datacenter come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceWord {
    /// All of them came on a link that it holds: they are true now. Else they are what a former link said.
    pub(super) is_current: bool,
    /// Since when it is so, in Unix milliseconds.
    pub(super) since_ms: u64,
}

/// What a gateway finds of its links with a datacenter.
pub struct LinkSeen {
    pub state: LinkState,
    pub rtt_us: Option<u32>,
    pub peers: Vec<(NodeId, SocketAddr)>,
    pub knows_life: bool,
    pub backlog: u32,
}

/// A round trip is said anew once it is so far from what was said, in percent of that.
const RTT_MOVED_PERCENT: u64 = 25;

impl Import {
    /// A gateway says how its link stands.
    pub fn say_link(&mut self, now: Now, seen: LinkSeen) {
        let LinkSeen { state, rtt_us, peers, knows_life, backlog } = seen;
        let state = state as u8;
        let before = self.word_of(author_of(&self.name, self.spread.me()));
        let since_ms = before.as_ref().filter(|word| word.state == state).map_or(now.wall_ms, |word| word.since_ms);
        let said_us = before.as_ref().and_then(|word| word.rtt_us);
        let rtt_us = said_us.filter(|said| rtt_us.is_none_or(|seen| !has_moved(*said, seen))).or(rtt_us);
        let backlog = if backlog == 0 { 0 } else { backlog.checked_next_power_of_two().unwrap_or(u32::MAX) };
        self.catalog.say(now, &link_key(LINK, ""), &LinkWord { state, since_ms, rtt_us, peers, knows_life, backlog });
    }

    /// A gateway says these summaries and no others.
    pub fn say_all_summaries(&mut self, now: Now, table: BTreeMap<ServiceKey, Summary>) {
        let me = author_of(&self.name, self.spread.me());
        let former: Vec<ServiceKey> =
            self.summaries_of(me).map(|(service, _)| service).filter(|service| !table.contains_key(service)).collect();
        former.iter().for_each(|service| self.catalog.unsay(now, &summary_key(service)));
        table.iter().for_each(|(service, summary)| self.catalog.say(now, &summary_key(service), summary));
    }

    /// How many of them a gateway says.
    pub fn summaries_said(&self) -> usize {
        self.catalog.said(author_of(&self.name, self.spread.me()), Kind::SUMMARY).count()
    }

    /// A gateway says what changed of them.
    ///
    /// # Errors
    /// There are more than a datacenter may have.
    pub fn say_summaries(&mut self, now: Now, changes: Vec<(ServiceKey, Option<Summary>)>) -> Result<(), &'static str> {
        for (service, summary) in changes {
            match summary {
                Some(summary) => self.catalog.say(now, &summary_key(&service), &summary),
                None => self.catalog.unsay(now, &summary_key(&service)),
            }
        }
        if self.summaries_said() > SERVICES_MAX { Err("link_summaries_size") } else { Ok(()) }
    }

    /// A gateway says whether its summaries are what a link says now.
    pub fn say_source(&mut self, now: Now, is_current: bool) {
        let before = self.source_word_of(author_of(&self.name, self.spread.me()));
        if before.map_or(is_current, |before| before.is_current != is_current) {
            self.catalog.say(now, &link_key(SOURCE, ""), &SourceWord { is_current, since_ms: now.wall_ms });
        }
    }

    pub(super) fn source_word_of(&self, author: NodeId) -> Option<SourceWord> {
        let words = self.catalog.said(author, Kind::LINK).filter_map(|content| content.decode::<SourceWord>().ok());
        words.filter(|(key, _)| *key.name == *SOURCE).map(|(_, word)| word).next()
    }

    pub(super) fn summaries_of(&self, author: NodeId) -> impl Iterator<Item = (ServiceKey, Summary)> {
        self.catalog.said(author, Kind::SUMMARY).filter_map(summary_in)
    }

    /// A gateway says whom it holds down: exactly these.
    pub fn say_down(&mut self, now: Now, down: &BTreeSet<NodeId>) {
        let said = self.said_down();
        for origin in said.difference(down) {
            self.catalog.unsay(now, &link_key(DOWN, &origin.to_string()));
        }
        for origin in down.difference(&said) {
            self.catalog.say(now, &link_key(DOWN, &origin.to_string()), &());
        }
    }

    /// A gateway says that these origins are gone; former words of that stand for an hour. Says whether one is new.
    pub fn say_gone(&mut self, now: Now, gone: impl Iterator<Item = NodeId>) -> bool {
        let mut is_news = false;
        for origin in gone {
            if self.gone.insert(origin, now.ms()).is_none() {
                tracing::info!(datacenter = %self.name, ?origin, "its own datacenter has forgotten it: what was known of it is dropped");
                is_news = true;
            }
            self.catalog.say(now, &link_key(GONE, &origin.to_string()), &());
        }
        let over: Vec<NodeId> = self.gone.iter().filter(|(_, at_ms)| now.ms() > *at_ms + GONE_MS).map(|(origin, _)| *origin).collect();
        over.into_iter().for_each(|origin| self.is_known_again(now, origin));
        is_news
    }

    /// A gateway takes that back, if it said so.
    pub fn is_known_again(&mut self, now: Now, origin: NodeId) {
        if self.gone.remove(&origin).is_some() {
            self.catalog.unsay(now, &link_key(GONE, &origin.to_string()));
        }
    }

    /// Whether this gateway says that it hears the datacenter, or that a link of its own says summaries. Words of a former life come back
    /// one by one: either may stand without the other.
    pub fn says_it_hears(&self) -> bool {
        let me = author_of(&self.name, self.spread.me());
        let is_linked = self.word_of(me).is_some_and(|word| word.state != LinkState::Stale as u8);
        is_linked || self.source_word_of(me).is_some_and(|word| word.is_current)
    }

    pub(super) fn word_of(&self, author: NodeId) -> Option<LinkWord> {
        self.catalog
            .said(author, Kind::LINK)
            .filter_map(|content| content.decode::<LinkWord>().ok())
            .find(|(key, _)| *key.name == *LINK)
            .map(|(_, word)| word)
    }

    /// Whom this gateway holds down, as it last said.
    pub fn said_down(&self) -> BTreeSet<NodeId> {
        self.down_of(author_of(&self.name, self.spread.me()))
    }

    pub(super) fn down_of(&self, author: NodeId) -> BTreeSet<NodeId> {
        self.named_by(author, DOWN)
    }

    /// The origins of which a gateway says this.
    pub(super) fn named_by(&self, author: NodeId, what: &str) -> BTreeSet<NodeId> {
        let keys = self.catalog.said(author, Kind::LINK).filter_map(|content| content.key().ok()).filter(|key| *key.name == *what);
        keys.filter_map(|key| key.id.parse().ok()).collect()
    }
}

fn has_moved(said_us: u32, seen_us: u32) -> bool {
    u64::from(said_us.abs_diff(seen_us)) * 100 > u64::from(said_us) * RTT_MOVED_PERCENT
}

fn link_key<'a>(name: &'a str, id: &'a str) -> Key<'a> {
    Key { kind: Kind::LINK, scope: Scope::Agent, namespace: Text::default(), name: name.into(), id: id.into() }
}
