//! What this agent keeps of other datacenters: a catalog of each, spread among the members here like the own one, and apart from it.
//!
//! ```text
//!   gateway ── batches ──► catalog of "east" ──► view of "east"
//!                              ▲    │
//!              Part::Lane ─────┘    └──► spread of "east" ──► other agents here
//! ```
//!
//! Which datacenters there are, agents tell each other when their second roots differ. Each gateway says how its link stands
//! ([`LinkWord`]) and which origins it holds down; every agent folds what gateways that live here say: an origin is down only if all say
//! so that hear the datacenter, and the datacenter is stale when nobody hears it. In the same way an origin is dropped that its own
//! datacenter has forgotten: not by one gateway's word, and only after it was unknown there for long.

use super::answers::Answers;
use super::config::WanConfig;
use super::summaries::SERVICES_MAX;
use crate::engine::catalog::config::CatalogConfig;
use crate::engine::catalog::{Catalog, Host, Word};
use crate::engine::membership::{MemberState, Membership};
use crate::engine::spread::{Spread, SpreadConfig};
use crate::engine::wire::packet::{Advert, Lane, Mention};
use crate::model::names::{Datacenter, NodeId, NodeName, ServiceKey};
use crate::model::node::{Liveness, NodeInfo};
use crate::model::record::{Key, Kind, Scope};
use crate::model::summary::{Summary, summary_in, summary_key};
use crate::model::text::Text;
use crate::model::time::Now;
use crate::view::{DatacenterView, LinkState, LinkView, Summarized, View};
use serde::{Deserialize, Serialize};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::net::SocketAddr;
use std::sync::Arc;

/// Changes of another datacenter's view that come together are shown together, in milliseconds.
const SHOW_MS: u64 = 5;
/// Agents mention the datacenters they know to a peer that knows others at most so often, in milliseconds.
pub const MENTION_MS: u64 = 1_000;
/// That a datacenter was forgotten is remembered so long, in milliseconds: nobody still tells of it by then.
const FORGOTTEN_MS: u64 = 3_600_000;
/// What a gateway says under this name is its [`LinkWord`]; under the other, the id of an origin that is down.
const LINK: &str = "link";
const DOWN: &str = "down";
/// Under this, the id of an origin that its own datacenter has forgotten.
const GONE: &str = "gone";
/// Under this, whether its summaries are what its link says now ([`SourceWord`]).
const SOURCE: &str = "summaries";
/// That an origin is gone is said for so long, in milliseconds: until then all here that are reached have dropped it.
const GONE_MS: u64 = 3_600_000;

/// How a gateway here hears another datacenter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkWord {
    /// 0 fresh, 1 lagging, 2 stale.
    state: u8,
    /// Since when it is what it is, in Unix milliseconds.
    since_ms: u64,
    rtt_us: Option<u32>,
    peers: Vec<(NodeId, SocketAddr)>,
    /// Somebody over there said on this link who is down: until then its silence on it means nothing.
    knows_life: bool,
    /// Origins over there whose changes wait to be sent, about: the next power of two, so that not each of them is news.
    backlog: u32,
}

/// Where a gateway's summaries of another datacenter come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SourceWord {
    /// All of them came on a link that it holds: they are true now. Else they are what a former link said.
    is_current: bool,
    /// Since when it is so, in Unix milliseconds.
    since_ms: u64,
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

/// One other datacenter as it is kept here.
pub struct Import {
    pub name: Datacenter,
    pub lane: Lane,
    pub catalog: Catalog,
    pub spread: Spread,
    published: Arc<View>,
    /// What readers see, until they see the next: also while that is being made.
    shown: Option<Arc<DatacenterView>>,
    /// It is not what is true now.
    is_outdated: bool,
    show_at: Option<u64>,
    revision: u64,
    /// What gateways say, or who of them lives, changed.
    is_unjudged: bool,
    state: LinkState,
    stale_since_ms: Option<u64>,
    links: Vec<LinkView>,
    /// When somebody last heard it.
    heard_ns: u64,
    /// Its share of the second root.
    term: u64,
    /// Somebody is said to be down or gone: whoever comes is looked at.
    has_words: bool,
    /// What this agent, as a gateway, says to be gone, and since when, in milliseconds.
    gone: BTreeMap<NodeId, u64>,
    /// Whose summaries count.
    source: Option<NodeId>,
    is_source_new: bool,
    summaries: Arc<[Summarized]>,
    pub(super) answers: Answers,
}

/// What was shown of a datacenter before this agent took another id.
struct Former {
    shown: Arc<DatacenterView>,
    /// When that was.
    since_ns: u64,
    /// Since when the datacenter is heard again: its records take their time to come.
    heard_ns: Option<u64>,
}

/// All of them.
#[derive(Default)]
pub struct Imports {
    pub by_lane: BTreeMap<Lane, Import>,
    forgotten: BTreeMap<Datacenter, (u64, u64)>,
    /// What was shown of each before this agent took another id, until all of it has been heard anew.
    former: BTreeMap<Datacenter, Former>,
    root: u64,
    numbers: u16,
    /// Some of what readers see of them changed.
    pub is_news: bool,
    pub refused: u64,
}

/// How long what was shown before stays once a datacenter is heard under a new id of this agent: a few exchanges at home, in milliseconds.
const RENEWED_MS: u64 = 15_000;

/// What an import is made with.
pub struct Making<'a> {
    pub catalog: &'a CatalogConfig,
    pub spread: &'a SpreadConfig,
    pub label: &'a str,
    pub me: NodeId,
    pub is_gateway: bool,
    pub seed: [u8; 32],
}

impl Imports {
    /// Begins anew, under another id of this agent. What was shown stays, as not heard any more.
    pub fn begin_anew(&mut self, now: Now) {
        let kept = std::mem::take(self);
        for shown in kept.views() {
            let Ok(name) = Datacenter::new(&shown.name) else { continue };
            let stale_since_ms = Some(shown.stale_since_ms.unwrap_or(now.wall_ms));
            let silent =
                DatacenterView { state: LinkState::Stale, stale_since_ms, revision: shown.revision + 1, ..DatacenterView::clone(&shown) };
            self.former.insert(name, Former { shown: Arc::new(silent), since_ns: now.ns, heard_ns: None });
        }
        (self.forgotten, self.numbers) = (kept.forgotten, kept.numbers);
        self.is_news = true;
    }

    pub fn lane_of(name: &Datacenter) -> Lane {
        (hash(name, NodeId(0)).0 as u32).to_le_bytes()
    }

    pub fn find(&mut self, name: &Datacenter) -> Option<&mut Import> {
        self.by_lane.get_mut(&Self::lane_of(name)).filter(|import| import.name == *name)
    }

    /// The import of that name, made where there is none; none where there are too many, or it was forgotten.
    pub fn ensure(&mut self, now: Now, name: &Datacenter, is_heard: bool, wan: &WanConfig, making: &Making<'_>) -> Option<&mut Import> {
        let lane = Self::lane_of(name);
        if is_heard {
            self.forgotten.remove(name);
        }
        let is_known = self.by_lane.contains_key(&lane);
        if !is_known && (self.by_lane.len() >= wan.datacenters_max || self.is_forgotten(now, name).is_some()) {
            self.refused += 1;
            return None;
        }
        if !is_known {
            // Streams of former imports are not taken for a later one's.
            self.numbers = self.numbers % 0x7ffe + 1;
            let number = self.numbers;
            self.by_lane.insert(lane, Import::new(name.clone(), lane, number, making, now));
            self.is_news = true;
        }
        self.find(name)
    }

    /// When a datacenter was forgotten that should not come back by others' memory, in Unix milliseconds.
    pub fn is_forgotten(&self, now: Now, name: &Datacenter) -> Option<u64> {
        self.forgotten.get(name).filter(|(until_ns, _)| *until_ns > now.ns).map(|(_, at_ms)| *at_ms)
    }

    /// Drops all that is known of a datacenter.
    pub fn forget(&mut self, now: Now, name: &Datacenter, at_ms: u64) {
        if let Some(import) = self.find(name).map(|import| import.lane).and_then(|lane| self.by_lane.remove(&lane)) {
            self.root = self.root.wrapping_sub(import.term);
            self.is_news = true;
        }
        self.is_news |= self.former.remove(name).is_some();
        self.forgotten.retain(|_, (until_ns, _)| *until_ns > now.ns);
        self.forgotten.insert(name.clone(), (now.after_ms(FORGOTTEN_MS), at_ms));
    }

    /// The second root.
    pub fn root(&self) -> u64 {
        self.root
    }

    pub fn mentions(&self) -> Vec<Mention> {
        let mention = |import: &Import| Mention {
            datacenter: import.name.clone(),
            root: import.catalog.root(),
            is_heard: import.state != LinkState::Stale,
        };
        self.by_lane.values().map(mention).collect()
    }

    /// A head of an import moved.
    pub fn moved(&mut self, now: Now, lane: Lane, origin: NodeId) {
        let Some(import) = self.by_lane.get_mut(&lane) else { return };
        // Of an import that holds nothing yet nobody needs to know.
        let root = import.catalog.root();
        let term = if root == 0 { 0 } else { root ^ hash(&import.name, NodeId(1)).0 as u64 };
        self.root = self.root.wrapping_sub(std::mem::replace(&mut import.term, term)).wrapping_add(term);
        import.is_source_new |= import.source == Some(origin);
        import.answer_moved(origin);
        // While it was given up, nobody asked whether an origin lives.
        import.is_unjudged |= import.has_words
            || import.catalog.liveness_of(origin, now) == Some(Liveness::Down)
            || import.catalog.said(origin, Kind::LINK).next().is_some()
            || import.catalog.head(origin).is_some_and(|head| head.seq == 0);
    }

    pub fn deadline(&self) -> Option<u64> {
        let of = |import: &Import| {
            let judge = import.is_unjudged.then_some(0);
            [judge, import.catalog.deadline(), import.spread.deadline(), import.show_at].into_iter().flatten().min()
        };
        self.by_lane.values().filter_map(of).min()
    }

    /// Lets all that changed be judged again: members here came or went.
    pub fn members_changed(&mut self) {
        self.by_lane.values_mut().for_each(|import| import.is_unjudged = true);
    }

    /// What an agent here says of itself changed: it may be a gateway now, or none any more.
    pub fn agent_moved(&mut self, agent: NodeId) {
        for import in self.by_lane.values_mut() {
            import.is_unjudged |= import.catalog.head(author_of(&import.name, agent)).is_some();
        }
    }

    /// Datacenters that nobody has heard for too long.
    pub fn expired(&self, now: Now, wan: &WanConfig) -> Vec<Datacenter> {
        let is_over =
            |import: &&Import| import.state == LinkState::Stale && now.ns.saturating_sub(import.heard_ns) > wan.retention_ms * 1_000_000;
        let former = self.former.iter().filter(|(_, former)| now.ns.saturating_sub(former.since_ns) > wan.retention_ms * 1_000_000);
        let imports = self.by_lane.values().filter(is_over).map(|import| import.name.clone());
        imports.chain(former.map(|(name, _)| name.clone())).collect()
    }

    pub fn views(&self) -> Vec<Arc<DatacenterView>> {
        let former = self.former.iter().map(|(name, former)| (name, &former.shown));
        let shown = self.by_lane.values().filter_map(|import| Some((&import.name, import.shown.as_ref()?)));
        let shown = shown.filter(|(name, _)| !self.former.contains_key(*name));
        let by_name: BTreeMap<&Datacenter, &Arc<DatacenterView>> = former.chain(shown).collect();
        by_name.into_values().map(Arc::clone).collect()
    }

    /// Publishes what changed of any. Says whether readers see something new.
    pub fn show(&mut self, now: Now) -> bool {
        let mut is_news = std::mem::take(&mut self.is_news);
        for import in self.by_lane.values_mut() {
            is_news |= import.show(now);
            let is_fresh = import.shown.as_ref().is_some_and(|shown| shown.state == LinkState::Fresh);
            if let Some(former) = self.former.get_mut(&import.name) {
                former.heard_ns = former.heard_ns.or(Some(now.ns)).filter(|_| is_fresh);
            }
        }
        let before = self.former.len();
        self.former.retain(|_, former| former.heard_ns.is_none_or(|heard_ns| now.ns < heard_ns + RENEWED_MS * 1_000_000));
        is_news | (self.former.len() < before)
    }

    /// Whether some datacenter's origin goes by that id here.
    pub fn has_origin(&self, origin: NodeId, except: &Datacenter) -> bool {
        self.by_lane.values().any(|import| import.name != *except && import.catalog.head(origin).is_some())
    }
}

impl Import {
    fn new(name: Datacenter, lane: Lane, number: u16, making: &Making<'_>, now: Now) -> Self {
        let author = author_of(&name, making.me);
        let nonce = u16::from_le_bytes([making.seed[0], making.seed[1]]);
        let catalog = Catalog::import(making.catalog, stand_in(&name), author, nonce, making.is_gateway, now);
        let label = format!("{}/{name}", making.label);
        let spread = Spread::of_datacenter(making.spread.clone(), &label, making.me, author, number, making.seed, now);
        Self {
            name,
            lane,
            catalog,
            spread,
            published: Arc::new(View::default()),
            shown: None,
            is_outdated: true,
            show_at: Some(now.ns),
            revision: 0,
            is_unjudged: true,
            state: LinkState::Stale,
            stale_since_ms: Some(now.wall_ms),
            links: Vec::new(),
            heard_ns: now.ns,
            term: 0,
            has_words: false,
            gone: BTreeMap::new(),
            source: None,
            is_source_new: false,
            summaries: Arc::new([]),
            answers: Answers::default(),
        }
    }

    pub fn state(&self) -> LinkState {
        self.state
    }

    /// Whether nobody here has heard it for so long.
    pub fn is_silent(&self, now: Now, ms: u64) -> bool {
        self.state == LinkState::Stale && now.ns.saturating_sub(self.heard_ns) >= ms * 1_000_000
    }

    /// Gateways here that hear it.
    pub fn heard_by(&self) -> Vec<NodeId> {
        self.links.iter().filter(|link| link.state != LinkState::Stale).map(|link| link.gateway).collect()
    }

    /// The other datacenter's own heads: what both sides of a link compare.
    pub fn adverts(&self, authors: &BTreeSet<NodeId>) -> Vec<Advert> {
        self.catalog.heads().filter(|head| !authors.contains(&head.origin)).map(|head| Advert::from(&head)).collect()
    }

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
        let count = self.catalog.said(author_of(&self.name, self.spread.me()), Kind::SUMMARY).count();
        if count > SERVICES_MAX { Err("link_summaries_size") } else { Ok(()) }
    }

    /// A gateway says whether its summaries are what a link says now.
    pub fn say_source(&mut self, now: Now, is_current: bool) {
        let before = self.source_word_of(author_of(&self.name, self.spread.me()));
        if before.map_or(is_current, |before| before.is_current != is_current) {
            self.catalog.say(now, &link_key(SOURCE, ""), &SourceWord { is_current, since_ms: now.wall_ms });
        }
    }

    fn source_word_of(&self, author: NodeId) -> Option<SourceWord> {
        let words = self.catalog.said(author, Kind::LINK).filter_map(|content| content.decode::<SourceWord>().ok());
        words.filter(|(key, _)| *key.name == *SOURCE).map(|(_, word)| word).next()
    }

    fn summaries_of(&self, author: NodeId) -> impl Iterator<Item = (ServiceKey, Summary)> {
        self.catalog.said(author, Kind::SUMMARY).filter_map(summary_in)
    }

    /// A gateway says whom it holds down: exactly these.
    pub fn say_down(&mut self, now: Now, down: &BTreeSet<NodeId>) {
        let said = self.down_of(author_of(&self.name, self.spread.me()));
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

    /// How this gateway last said that its link stands.
    pub fn said_state(&self) -> Option<LinkState> {
        let word = self.word_of(author_of(&self.name, self.spread.me()))?;
        LinkState::ALL.get(usize::from(word.state)).copied()
    }

    fn word_of(&self, author: NodeId) -> Option<LinkWord> {
        self.catalog
            .said(author, Kind::LINK)
            .filter_map(|content| content.decode::<LinkWord>().ok())
            .find(|(key, _)| *key.name == *LINK)
            .map(|(_, word)| word)
    }

    fn down_of(&self, author: NodeId) -> BTreeSet<NodeId> {
        self.named_by(author, DOWN)
    }

    /// The origins of which a gateway says this.
    fn named_by(&self, author: NodeId, what: &str) -> BTreeSet<NodeId> {
        let keys = self.catalog.said(author, Kind::LINK).filter_map(|content| content.key().ok()).filter(|key| *key.name == *what);
        keys.filter_map(|key| key.id.parse().ok()).collect()
    }

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

    /// Whether a service is known by its summary.
    pub fn is_summarized(&self, service: &ServiceKey) -> bool {
        self.summaries.binary_search_by(|one| one.key.cmp(service)).is_ok()
    }

    /// Whether readers see other summaries from now on.
    fn settle_summaries(&mut self, revision: u64) -> bool {
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

    /// Publishes what changed, a few milliseconds after it did. Says whether readers see something new.
    pub fn show(&mut self, now: Now) -> bool {
        if self.catalog.is_behind() || self.catalog.editor().is_dirty() || self.is_source_new || self.answers.is_news() {
            self.show_at.get_or_insert(now.after_ms(SHOW_MS));
        }
        if self.show_at.is_none_or(|at| at > now.ns) {
            return false;
        }
        self.show_at = None;
        let revision = (now.wall_ms << 10).max(self.revision + 1).max(self.published.revision + 1);
        if self.settle_summaries(revision) {
            self.is_outdated = true;
            self.summaries_changed();
        }
        self.is_outdated |= self.settle_answers(now);
        if let Some(view) = self.catalog.publish(now) {
            (self.published, self.is_outdated) = (view, true);
        }
        if !std::mem::take(&mut self.is_outdated) {
            return false;
        }
        self.revision = revision;
        self.shown = Some(Arc::new(DatacenterView {
            name: self.name.to_string(),
            state: self.state,
            stale_since_ms: self.stale_since_ms,
            rtt_us: self.links.iter().filter_map(|link| link.rtt_us).min(),
            links: self.links.clone(),
            view: Arc::clone(&self.published),
            summaries: Arc::clone(&self.summaries),
            fetched: self.answers.fetched().into(),
            revision: self.revision,
        }));
        true
    }
}

fn has_moved(said_us: u32, seen_us: u32) -> bool {
    u64::from(said_us.abs_diff(seen_us)) * 100 > u64::from(said_us) * RTT_MOVED_PERCENT
}

/// The origin under which an agent here says what it hears of a datacenter.
pub fn author_of(name: &Datacenter, gateway: NodeId) -> NodeId {
    hash(name, gateway)
}

fn hash(name: &Datacenter, node: NodeId) -> NodeId {
    // A fixed key: these are names, equal at all agents, and guard nothing.
    let mut hasher = SipHasher24::new_with_keys(0x7469_6469_6e67_7321, 0x6461_7461_6365_6e74);
    hasher.write(&node.0.to_le_bytes());
    hasher.write(name.as_str().as_bytes());
    NodeId(hasher.finish128().as_u128())
}

/// A catalog is some agent's; another datacenter's is kept by nobody there.
fn stand_in(name: &Datacenter) -> Host {
    let text = |text: &str| text.to_owned().into();
    let info = NodeInfo {
        address: text(""),
        gossip: None,
        http_port: None,
        dns_port: None,
        datacenter: text(name.as_str()),
        zone: None,
        is_gateway: false,
        version: text(""),
        metadata: Vec::new(),
        checks: Vec::new(),
    };
    Host { name: NodeName::new(name.as_str()).expect("a datacenter's name is a name"), info }
}

fn link_key<'a>(name: &'a str, id: &'a str) -> Key<'a> {
    Key { kind: Kind::LINK, scope: Scope::Agent, namespace: Text::default(), name: name.into(), id: id.into() }
}
