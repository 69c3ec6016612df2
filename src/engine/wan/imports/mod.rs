//! What this agent keeps of other datacenters: a catalog of each, spread among the members here like the own one, and apart from it.
//!
//! ```text
//!   gateway ── batches ──► catalog of "east" ──► view of "east"
//!                              ▲    │
//!              Part::Lane ─────┘    └──► spread of "east" ──► other agents here
//! ```
//!
//! Which datacenters there are, agents tell each other when their second roots differ. Each gateway says how its link stands
//! ([`words`]) and which origins it holds down; every agent folds what gateways that live here say: an origin is down only if all say
//! so that hear the datacenter, and the datacenter is stale when nobody hears it. In the same way an origin is dropped that its own
//! datacenter has forgotten: not by one gateway's word, and only after it was unknown there for long.

use super::answers::Answers;
use super::config::WanConfig;
use crate::engine::catalog::config::CatalogConfig;
use crate::engine::catalog::{Catalog, Host};
use crate::engine::sabotage::Broken;
use crate::engine::spread::{Spread, SpreadConfig};
use crate::engine::wire::packet::{Advert, Lane, Mention};
use crate::model::names::{Datacenter, NodeId, NodeName, ServiceKey};
use crate::model::node::{Liveness, NodeInfo};
use crate::model::record::Kind;
use crate::model::time::Now;
use crate::view::{DatacenterView, LinkState, LinkView, Summarized, View};
use siphasher::sip128::{Hasher128 as _, SipHasher24};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::Hasher as _;
use std::sync::Arc;

mod judging;
mod words;

pub use words::LinkSeen;

/// Changes of another datacenter's view that come together are shown together, in milliseconds.
const SHOW_MS: u64 = 5;
/// Agents mention the datacenters they know to a peer that knows others at most so often, in milliseconds.
pub const MENTION_MS: u64 = 1_000;
/// That a datacenter was forgotten is remembered so long, in milliseconds: nobody still tells of it by then.
const FORGOTTEN_MS: u64 = 3_600_000;
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
    broken: Broken,
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
            broken: making.catalog.broken,
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

    /// Whether a service is known by its summary.
    pub fn is_summarized(&self, service: &ServiceKey) -> bool {
        self.summaries.binary_search_by(|one| one.key.cmp(service)).is_ok()
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
