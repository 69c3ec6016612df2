//! Faults: what befalls hosts and the network, each with a beginning, a scope and a dwell.

use crate::world::disk::DiskFate;
use crate::world::network::Ailment;
use crate::world::{Freeze, HostId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

mod draw;
mod layout;

pub use draw::draw;
pub use layout::Layout;

/// The kinds of fault: what a run can be told to leave out, and what a sweep must have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    Loss,
    Duplicate,
    Reorder,
    Corrupt,
    /// Two halves that hear nothing of each other.
    Split,
    /// One side does not hear the other, which hears it.
    OneWay,
    /// Some pairs do not reach each other, all have common peers.
    Partial,
    /// One host's link is down.
    Isolate,
    /// A link that goes down and up again and again.
    Flap,
    /// One host's link loses or delays.
    BadLink,
    Crash,
    LostTail,
    RolledBack,
    Wiped,
    /// A third of all hosts at once.
    MassRestart,
    Freeze,
    FreezePackets,
    ClockOff,
    ClockJump,
    DiskFull,
    Leave,
    /// Back under another address.
    Readdress,
    /// Bytes that nobody sent, and old packets again.
    Noise,
    /// Everything between two hosts is lost for moments.
    Burst,
    /// One host's link carries little; what does not fit in its queue is lost.
    Narrow,
    /// Larger datagrams do not pass one host's link.
    SmallMtu,
    /// One host is cut off, and half of the others are really dead.
    HalfDead,
    /// Two halves start apart and meet later.
    LateMeeting,
    /// All hosts are down, and start again.
    ColdStart,
    /// One host after another restarts with another version.
    Rolling,
    /// A host starts on a copy of another one's disk.
    Twin,
    /// Registrations by the hundred at one host.
    Flood,
    /// Packets of another cluster, or under another key.
    Stranger,
    /// Nothing goes from a datacenter to another, one way or both.
    WanCut,
    /// Datagrams and segments between datacenters are lost.
    WanLoss,
    /// A gateway dies; the next one, when it is back.
    GatewayCrash,
    /// All gateways of a datacenter come back as others, under other addresses, while nobody hears them.
    GatewaysReplaced,
    /// A datacenter is in two halves, each with a gateway.
    SplitGateways,
    /// A datacenter exports what it kept to itself.
    Widen,
    /// A host dies and never comes back.
    Death,
    /// A member claims heads that nobody wrote, or that the living were given up.
    Liar,
    /// A newer version of the program wrote to a host's disk what this one does not know.
    Newer,
}

impl FaultKind {
    pub const ALL: [FaultKind; 42] = [
        FaultKind::Loss,
        FaultKind::Duplicate,
        FaultKind::Reorder,
        FaultKind::Corrupt,
        FaultKind::Split,
        FaultKind::OneWay,
        FaultKind::Partial,
        FaultKind::Isolate,
        FaultKind::Flap,
        FaultKind::BadLink,
        FaultKind::Crash,
        FaultKind::LostTail,
        FaultKind::RolledBack,
        FaultKind::Wiped,
        FaultKind::MassRestart,
        FaultKind::Freeze,
        FaultKind::FreezePackets,
        FaultKind::ClockOff,
        FaultKind::ClockJump,
        FaultKind::DiskFull,
        FaultKind::Leave,
        FaultKind::Readdress,
        FaultKind::Noise,
        FaultKind::Burst,
        FaultKind::Narrow,
        FaultKind::SmallMtu,
        FaultKind::HalfDead,
        FaultKind::LateMeeting,
        FaultKind::ColdStart,
        FaultKind::Rolling,
        FaultKind::Twin,
        FaultKind::Flood,
        FaultKind::Stranger,
        FaultKind::WanCut,
        FaultKind::WanLoss,
        FaultKind::GatewayCrash,
        FaultKind::GatewaysReplaced,
        FaultKind::SplitGateways,
        FaultKind::Widen,
        FaultKind::Death,
        FaultKind::Liar,
        FaultKind::Newer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            FaultKind::Loss => "loss",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Reorder => "reorder",
            FaultKind::Corrupt => "corrupt",
            FaultKind::Split => "split",
            FaultKind::OneWay => "one-way",
            FaultKind::Partial => "partial",
            FaultKind::Isolate => "isolate",
            FaultKind::Flap => "flap",
            FaultKind::BadLink => "bad-link",
            FaultKind::Crash => "crash",
            FaultKind::LostTail => "lost-tail",
            FaultKind::RolledBack => "rolled-back",
            FaultKind::Wiped => "wiped",
            FaultKind::MassRestart => "mass-restart",
            FaultKind::Freeze => "freeze",
            FaultKind::FreezePackets => "freeze-packets",
            FaultKind::ClockOff => "clock-off",
            FaultKind::ClockJump => "clock-jump",
            FaultKind::DiskFull => "disk-full",
            FaultKind::Leave => "leave",
            FaultKind::Readdress => "readdress",
            FaultKind::Noise => "noise",
            FaultKind::Burst => "burst",
            FaultKind::Narrow => "narrow",
            FaultKind::SmallMtu => "small-mtu",
            FaultKind::HalfDead => "half-dead",
            FaultKind::LateMeeting => "late-meeting",
            FaultKind::ColdStart => "cold-start",
            FaultKind::Rolling => "rolling",
            FaultKind::Twin => "twin",
            FaultKind::Flood => "flood",
            FaultKind::Stranger => "stranger",
            FaultKind::WanCut => "wan-cut",
            FaultKind::WanLoss => "wan-loss",
            FaultKind::GatewayCrash => "gateway-crash",
            FaultKind::GatewaysReplaced => "gateways-replaced",
            FaultKind::SplitGateways => "split-gateways",
            FaultKind::Widen => "widen",
            FaultKind::Death => "death",
            FaultKind::Liar => "liar",
            FaultKind::Newer => "newer",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is about several datacenters.
    pub fn is_far(self) -> bool {
        use FaultKind as Kind;
        matches!(self, Kind::WanCut | Kind::WanLoss | Kind::GatewayCrash | Kind::GatewaysReplaced | Kind::SplitGateways | Kind::Widen)
    }

    /// Whether an acknowledged write may be lost, or two clocks disagree on which of two writes came later.
    pub fn blurs_history(self) -> bool {
        matches!(
            self,
            FaultKind::LostTail
                | FaultKind::RolledBack
                | FaultKind::Wiped
                | FaultKind::ClockOff
                | FaultKind::ClockJump
                | FaultKind::Twin
                | FaultKind::GatewaysReplaced
        )
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is done to the world.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stroke {
    /// The whole network's weather for one of its kinds, as a probability.
    Weather(FaultKind, f64),
    Cut {
        from: Vec<HostId>,
        to: Vec<HostId>,
    },
    Mend {
        from: Vec<HostId>,
        to: Vec<HostId>,
    },
    Isolate(HostId),
    Rejoin(HostId),
    Ail(HostId, Ailment),
    Kill(HostId),
    /// Starts a dead host's process on what its disk then holds; older copies are given as an age.
    Start(HostId, Revival),
    Freeze(HostId, Freeze),
    Thaw(HostId),
    ClockJump(HostId, i64),
    DiskFull(HostId, bool),
    Leave(HostId),
    /// Random bytes, or a packet that was sent before, to a host.
    Noise {
        to: HostId,
        draw: u64,
    },
    /// A packet that was sent before, as a cluster of another label or key would have sent it.
    Stranger {
        to: HostId,
        draw: u64,
    },
    /// A dead host's disk becomes a copy of another one's.
    CloneDisk {
        from: HostId,
        to: HostId,
    },
    /// A dead host gets another version of the program.
    Upgrade(HostId, u32),
    /// A dead gateway is told otherwise what stays at home.
    Export {
        host: HostId,
        edition: u16,
        kept: BTreeSet<u32>,
    },
    /// Kills a host's process for good, unless too few would be left.
    Bury(HostId),
    /// A word on somebody's head that is not true, from a member to another.
    Lie {
        from: HostId,
        to: HostId,
        draw: u64,
    },
    /// A dead host's disk gets records as a newer version writes them.
    Newer(HostId),
    /// Registrations by clients that fall silent at once, to a host.
    Flood {
        to: HostId,
        number: u32,
        draw: u64,
    },
}

impl Stroke {
    /// Whom it strikes; nobody in particular, where it is everybody.
    pub fn hosts(&self) -> Vec<HostId> {
        self.clone().hosts_mut().into_iter().map(|host| *host).collect()
    }

    /// The same, to give hosts other numbers.
    pub fn hosts_mut(&mut self) -> Vec<&mut HostId> {
        match self {
            Stroke::Weather(..) => vec![],
            Stroke::Cut { from, to } | Stroke::Mend { from, to } => from.iter_mut().chain(to).collect(),
            Stroke::Isolate(host)
            | Stroke::Rejoin(host)
            | Stroke::Ail(host, _)
            | Stroke::Kill(host)
            | Stroke::Start(host, _)
            | Stroke::Freeze(host, _)
            | Stroke::Thaw(host)
            | Stroke::ClockJump(host, _)
            | Stroke::DiskFull(host, _)
            | Stroke::Leave(host)
            | Stroke::Upgrade(host, _)
            | Stroke::Export { host, .. }
            | Stroke::Bury(host)
            | Stroke::Newer(host)
            | Stroke::Flood { to: host, .. }
            | Stroke::Stranger { to: host, .. }
            | Stroke::Noise { to: host, .. } => vec![host],
            Stroke::CloneDisk { from, to } | Stroke::Lie { from, to, .. } => vec![from, to],
        }
    }
}

impl fmt::Display for Stroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |hosts: &[HostId]| hosts.iter().map(HostId::to_string).collect::<Vec<_>>().join(" ");
        match self {
            Stroke::Weather(kind, probability) => write!(f, "{kind} at {:.1} %", probability * 100.0),
            Stroke::Cut { from, to } => write!(f, "nothing goes from {} to {}", list(from), list(to)),
            Stroke::Mend { from, to } => write!(f, "all goes again from {} to {}", list(from), list(to)),
            Stroke::Isolate(host) => write!(f, "{host}'s link goes down"),
            Stroke::Rejoin(host) => write!(f, "{host}'s link comes up"),
            Stroke::Ail(host, ailment) if *ailment == Ailment::default() => write!(f, "{host}'s link is well"),
            Stroke::Ail(host, ailment) => write!(f, "{host}'s link ails: {ailment:?}"),
            Stroke::Kill(host) => write!(f, "{host} is killed"),
            Stroke::Start(host, revival) => {
                write!(f, "{host} comes back, disk {:?}{}", revival.disk, if revival.is_moved { ", at another address" } else { "" })
            }
            Stroke::Freeze(host, Freeze::Whole) => write!(f, "{host} stands still"),
            Stroke::Freeze(host, Freeze::Packets) => write!(f, "{host} gets no packet in or out"),
            Stroke::Thaw(host) => write!(f, "{host} goes on"),
            Stroke::ClockJump(host, ms) => write!(f, "{host}'s wall clock jumps by {ms} ms"),
            Stroke::DiskFull(host, is_full) => write!(f, "{host}'s disk {}", if *is_full { "is full" } else { "has room again" }),
            Stroke::Leave(host) => write!(f, "{host} leaves"),
            Stroke::Noise { to, .. } => write!(f, "noise comes to {to}"),
            Stroke::Stranger { to, .. } => write!(f, "a stranger's packet comes to {to}"),
            Stroke::CloneDisk { from, to } => write!(f, "{to}'s disk becomes a copy of {from}'s"),
            Stroke::Upgrade(host, version) => write!(f, "{host} gets version {version}"),
            Stroke::Export { host, edition, kept } => write!(f, "{host} exports by edition {edition}, without services {kept:?}"),
            Stroke::Bury(host) => write!(f, "{host} dies"),
            Stroke::Lie { from, to, .. } => write!(f, "{from} lies to {to}"),
            Stroke::Newer(host) => write!(f, "a newer version wrote to {host}'s disk"),
            Stroke::Flood { to, number, .. } => write!(f, "{number} registrations come to {to}"),
        }
    }
}

/// How a host comes back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Revival {
    pub disk: Revived,
    /// Whether it comes back under another address.
    pub is_moved: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Revived {
    Intact,
    LostTail {
        transactions: usize,
    },
    /// A copy of the disk made so long before.
    RolledBack {
        age_ns: u64,
    },
    Wiped,
}

impl Revived {
    pub fn fate(self, now: u64) -> DiskFate {
        match self {
            Revived::Intact => DiskFate::Intact,
            Revived::LostTail { transactions } => DiskFate::LostTail { transactions },
            Revived::RolledBack { age_ns } => DiskFate::RolledBack { to: now.saturating_sub(age_ns) },
            Revived::Wiped => DiskFate::Wiped,
        }
    }
}

/// A stroke on the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    pub at: u64,
    pub kind: FaultKind,
    /// Which of its kind: a fault's beginning and its end have one number.
    pub occurrence: u32,
    pub stroke: Stroke,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_lead_back() {
        for kind in FaultKind::ALL {
            assert_eq!(FaultKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name(), "files and the command line say the same");
        }
    }
}
