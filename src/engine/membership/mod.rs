//! Who is alive: SWIM by foca, with verdicts, health awareness, cold join and healing of our own (protocol section 1).
//!
//! Sans-io and deterministic: time and randomness are handed in, packets and events come out of [`Membership::poll`]. No foca type is seen
//! outside this room. Sealing, streams and the store are left to others.
//!
//! Reading order: [`table`] (what is known, and the rule that merges updates), [`inbound`] (what a packet does), [`verdict`] (from a
//! failed probe to Down), [`rejoin`] (what happens when the cluster thinks that *we* are down), [`healing`] (finding each other).
//!
//! ```text
//!   packet --> inbound --+--> table --(only news)--> foca --> outbox --> dispatch --> Send
//!   time  --> timers ----+      |                     ^
//!                               +--> events           +-- probes, gossip
//!                               +--> suspicions, cut-off viewer
//! ```

mod awareness;
mod codec;
mod config;
mod coordinates;
mod counters;
mod cutoff;
mod dispatch;
mod healing;
mod identity;
mod inbound;
mod probation;
mod rejoin;
mod rollcall;
mod state;
mod suspicion;
mod swim;
mod table;
#[cfg(test)]
mod tests;
mod timeout;
mod verdict;
mod vivaldi;

pub use self::config::MembershipConfig;
pub use self::counters::Counters;
pub use self::identity::Me;
pub use self::inbound::PacketRefused;
pub use self::table::{Member, MemberState, Peer};

use self::awareness::Awareness;
use self::codec::{SwimCodec, Update};
use self::coordinates::Coordinates;
use self::cutoff::CutOff;
use self::healing::Healing;
use self::identity::Identity;
use self::probation::Probation;
use self::rejoin::Rival;
use self::rollcall::RollCall;
use self::suspicion::Suspicions;
use self::swim::{Swim, SwimTimer};
use self::table::Table;
use crate::engine::levels::Level;
use crate::engine::queue;
use crate::model::coordinate::Coordinate;
use crate::model::names::NodeId;
use crate::model::time::Now;
use bytes::Bytes;
use foca::State;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

/// What the membership wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A packet, to be sealed and sent, and our coordinate before it where there is room.
    Send {
        to: SocketAddr,
        body: Bytes,
        coordinate: Option<Coordinate>,
    },
    Event(Event),
}

/// A change of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A member came, or came back.
    Up(NodeId),
    Suspected(NodeId),
    /// Its suspicion expired while we take ourselves for the one that is cut off: it is lost to us, whatever it is to others.
    Lost(NodeId),
    /// A suspicion was refuted.
    Cleared(NodeId),
    Down(NodeId),
    /// It said goodbye.
    Left(NodeId),
    /// It is reached at another address.
    Moved {
        node: NodeId,
        from: SocketAddr,
        to: SocketAddr,
    },
    /// It is a new process, or a new life of the old one, at the same address.
    Renewed(NodeId),
    /// The others held us down; we are back with a new generation: see [`Membership::me`].
    Rejoined,
    /// Another process has our node id and keeps it: we are `new` from now on.
    LostTwin {
        new: NodeId,
    },
    /// Whether we take ourselves for the one that is cut off.
    CutOff(bool),
    /// First contact after having none, after a cut, or the two pictures go on differing: exchange [`Membership::state_pages`] with this member over a stream. Comes again,
    /// a few times, until [`Membership::apply_state`] is called.
    NeedState {
        node: NodeId,
        addr: SocketAddr,
    },
    /// `by` is alive where `old` was: a wiped disk. `old` is down for good and its records can go at once.
    TakenOver {
        old: NodeId,
        by: NodeId,
    },
}

/// The members of one pool, as one agent sees them.
pub struct Membership {
    config: MembershipConfig,
    me: Me,
    /// Our own, as foca counts it.
    incarnation: u16,
    swim: Swim,
    rng: ChaCha12Rng,
    table: Table,
    suspicions: Suspicions,
    awareness: Awareness,
    cutoff: CutOff,
    healing: Healing,
    /// Down only by what others told, unknown otherwise: being asked, and believed dead when they do not answer.
    rumours: state::Rumours,
    /// foca's timers, in the order in which they are due.
    timers: BTreeMap<(u64, u64), SwimTimer>,
    timer_count: u64,
    gossip_at: Option<u64>,
    gossiped_ns: Option<u64>,
    tick_at: u64,
    coordinates: Coordinates,
    probe: Option<dispatch::Probe>,
    /// Own probes that failed since one was answered.
    misses: u32,
    /// How often foca passes an update on at the moment.
    transmissions: u8,
    /// The highest generation heard of our own node id.
    generation_heard: u32,
    rival: Option<Rival>,
    renewed_ns: Option<u64>,
    probation: Probation,
    first_contact_ns: Option<u64>,
    state_wanted: Option<StateWanted>,
    /// No exchange because of differing digests before.
    exchange_at: u64,
    /// Until then somebody else knows of more losses than we do.
    behind_until: u64,
    /// No reminder of losses before.
    remind_lost_at: u64,
    /// No search for the lost before.
    seek_at: u64,
    /// No reminder of the latest changes before.
    remind_at: u64,
    exchange_pause_ns: u64,
    roll_call: RollCall,
    /// Whose packet is being handled.
    contact: Option<NodeId>,
    /// Members at whose address somebody else was met.
    doubted: Vec<Update>,
    is_cut_off: bool,
    /// Somebody bears a later identity of ours: we outbid it.
    is_outdated: bool,
    /// The others hold us down, and foca knows it.
    is_defunct: bool,
    has_left: bool,
    effects: VecDeque<Effect>,
    pub counters: Counters,
}

/// The full membership of some member is still to be fetched.
#[derive(Debug)]
struct StateWanted {
    not_before: u64,
    tries: u8,
}

/// How often [`Event::NeedState`] is repeated.
const STATE_TRIES: u8 = 5;
const STATE_RETRY_NS: u64 = 5_000_000_000;

impl Membership {
    /// An agent that knows nobody yet. `seed` should be random in production.
    pub fn new(config: MembershipConfig, me: Me, seed: [u8; 32], now: Now) -> Self {
        let mut rng = ChaCha12Rng::from_seed(seed);
        let me = Me { boot: me.boot & identity::BOOT_MASK, ..me };
        let transmissions = MembershipConfig::transmissions(1);
        let swim_config = swim::swim_config(&config, transmissions);
        let swim = Swim::new(Identity::from(me), swim_config, ChaCha12Rng::from_rng(&mut rng), SwimCodec);
        let heal_jitter = rng.random_range(500..1_000);
        Self {
            healing: Healing::new(now.ns, &config, heal_jitter),
            awareness: Awareness::new(now.ns, &config),
            probation: Probation::new(&config),
            config,
            me,
            incarnation: 0,
            swim,
            rng,
            table: Table::default(),
            suspicions: Suspicions::default(),
            cutoff: CutOff::default(),
            rumours: state::Rumours::default(),
            timers: BTreeMap::new(),
            timer_count: 0,
            gossip_at: None,
            gossiped_ns: None,
            tick_at: now.after_ms(timeout::TICK_MS),
            coordinates: Coordinates::default(),
            probe: None,
            misses: 0,
            transmissions,
            generation_heard: me.generation,
            rival: None,
            renewed_ns: None,
            first_contact_ns: None,
            state_wanted: Some(StateWanted { not_before: 0, tries: STATE_TRIES }),
            exchange_at: 0,
            remind_at: 0,
            behind_until: 0,
            remind_lost_at: 0,
            seek_at: 0,
            exchange_pause_ns: inbound::EXCHANGE_PAUSE_MIN_NS,
            roll_call: RollCall::default(),
            contact: None,
            doubted: Vec::new(),
            is_cut_off: false,
            is_outdated: false,
            is_defunct: false,
            has_left: false,
            effects: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Announces us to whoever listens there, a few times until it is a member.
    pub fn join(&mut self, now: Now, addr: SocketAddr) {
        self.healing.join(addr, &self.config, &mut self.counters);
        self.join_due(now);
    }

    /// Whether nobody was ever met and there is nobody to look for.
    pub fn is_on_its_own(&self) -> bool {
        self.members().next().is_none() && self.healing.knows_nowhere(self.me().addr)
    }

    /// Where to look for members as long as they are none; replaces the list. To be called again whenever names resolve differently.
    pub fn set_seeds(&mut self, seeds: Vec<SocketAddr>) {
        self.healing.set_seeds(seeds, &self.config, &mut self.counters);
    }

    /// Addresses of members from former lives; replaces the list.
    pub fn remember(&mut self, addrs: Vec<SocketAddr>) {
        self.healing.remember(addrs, &self.config, &mut self.counters);
    }

    /// Forgets a down member. Returns whether it did.
    pub fn forget(&mut self, node: NodeId) -> bool {
        let Some(member) = self.table.find(node).filter(|member| !member.is_up()) else { return false };
        let timer = SwimTimer::RemoveDown(member.identity());
        self.table.remove(node);
        self.cutoff.settled(node);
        self.swim_call(Now::default(), |swim, outbox| swim.handle_timer(timer, outbox));
        true
    }

    pub fn me(&self) -> Me {
        self.me
    }

    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.table.find(node)
    }

    /// All others that are known, down ones included, by node id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.table.iter()
    }

    /// Members that are not down, this one included.
    pub fn alive(&self) -> usize {
        self.table.peers().len() + 1
    }

    /// The others that are not down, in no particular order: to sample from.
    pub fn peers(&self) -> &[Peer] {
        self.table.peers()
    }

    /// Whether we take ourselves for the one that is cut off (protocol section 1).
    pub fn is_cut_off(&self) -> bool {
        self.is_cut_off
    }

    /// Local health: 0 is well, 6 the worst.
    pub fn health_score(&self) -> u64 {
        self.awareness.score()
    }

    /// What is to be sent or known, until there is none.
    pub fn poll(&mut self) -> Option<Effect> {
        queue::take_first(&mut self.effects)
    }

    /// How full the tables here are.
    pub fn levels(&self) -> [Level; 2] {
        [
            Level::new("membership_members", self.table.len(), self.config.members_max),
            Level::new("membership_hearsay", self.rumours.len(), state::HEARSAY_MAX),
        ]
    }

    fn event(&mut self, event: Event) {
        self.effects.push_back(Effect::Event(event));
    }

    fn identity(&self) -> Identity {
        self.me.into()
    }

    /// Ourselves, as others are told.
    fn own_update(&self) -> Update {
        Update::new(self.identity(), self.incarnation, State::Alive)
    }

    /// Whether nobody is held alive.
    fn is_lonely(&self) -> bool {
        self.table.alive() == 0
    }

    /// A factor of around 1,000, so that agents that started together drift apart.
    fn jitter(&mut self) -> u64 {
        self.rng.random_range(800..1_200)
    }

    /// foca's list and ours must never differ: whoever finds a difference found a bug.
    #[cfg(test)]
    fn assert_mirrors_foca(&self) {
        let mut theirs: Vec<Update> = self.swim.iter_membership_state().cloned().collect();
        theirs.sort_by_key(|update| update.id().node);
        let ours: Vec<Update> = self.table.iter().map(|member| member.update()).collect();
        assert_eq!(ours, theirs);
    }
}
