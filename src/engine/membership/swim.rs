//! foca at arm's length: what it asks of its runtime is collected here and judged by the membership afterwards.

use super::codec::{SwimCodec, Update};
use super::config::MembershipConfig;
use super::identity::Identity;
use bytes::BytesMut;
use foca::{Config, Foca, Header, Message, NoCustomBroadcast, Notification, Timer};
use rand_chacha::ChaCha12Rng;
use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

pub(super) type Swim = Foca<Identity, SwimCodec, ChaCha12Rng, NoCustomBroadcast>;
pub(super) type SwimTimer = Timer<Identity>;

/// What foca asked for in one call.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pub sends: Vec<Sent>,
    pub timers: Vec<(SwimTimer, Duration)>,
    /// Nobody answered the probe of this member.
    pub probe_failed: Option<Identity>,
    /// foca holds itself down now.
    pub is_defunct: bool,
}

#[derive(Debug)]
pub(super) struct Sent {
    pub to: Identity,
    pub packet: BytesMut,
    /// Comes right after the packet.
    pub header: Option<Header<Identity>>,
}

impl foca::Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::DataSent(header) => {
                if let Some(sent) = self.sends.last_mut() {
                    sent.header = Some(header.clone());
                }
            }
            Notification::ProbeFailed(_, member) => self.probe_failed = Some(*member),
            Notification::Defunct => self.is_defunct = true,
            // Changes of members are known before foca hears of them.
            Notification::MemberUp(_)
            | Notification::MemberDown(_)
            | Notification::Rename(..)
            | Notification::Active
            | Notification::Idle
            | Notification::Rejoin(_)
            | Notification::DataReceived(_) => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.sends.push(Sent { to, packet: BytesMut::from(data), header: None });
    }

    fn submit_after(&mut self, event: SwimTimer, after: Duration) {
        self.timers.push((event, after));
    }
}

/// Accusations that ride on one packet.
pub(super) const ACCUSATIONS_MAX: usize = 4;
/// Room that is left in foca's packets for an update and the remarks that we attach ourselves: accusations and a digest.
const ATTACHED_BYTES_MAX: usize =
    super::codec::UPDATE_BYTES_MAX + (ACCUSATIONS_MAX + 1) * super::codec::REMARK_BYTES_MAX + READDRESSED_BYTES_MAX + 2;
/// An IPv6 address where an IPv4 one stood.
const READDRESSED_BYTES_MAX: usize = 12;

/// foca's settings: its own healing, announcing and forgetting are off, since ours replace them.
pub(super) fn swim_config(config: &MembershipConfig, transmissions: u8) -> Config {
    let at_least_one = |n: usize| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
    Config {
        probe_period: Duration::from_millis(config.probe_period_ms),
        probe_rtt: Duration::from_millis(config.probe_rtt_ms),
        num_indirect_probes: at_least_one(config.fanout),
        max_transmissions: NonZeroU8::new(transmissions).unwrap_or(NonZeroU8::MIN),
        // Swallowed: the table of suspicions keeps its own time.
        suspect_to_down_after: Duration::from_secs(1),
        remove_down_after: None,
        max_packet_size: at_least_one(config.packet_bytes_max.saturating_sub(ATTACHED_BYTES_MAX)),
        // Answered by the membership, which knows whether the verdict stands.
        notify_down_members: false,
        periodic_announce: None,
        periodic_announce_to_down_members: None,
        periodic_gossip: None,
    }
}

/// An Ack as the member itself would send it: ends a probe whose failure would prove nothing.
pub(super) fn forged_ack(target: &Update, me: Identity, number: u8) -> Header<Identity> {
    Header { src: *target.id(), src_incarnation: target.incarnation(), dst: me, message: Message::Ack(number) }
}
