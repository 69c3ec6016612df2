//! The membership's timings and limits.

use crate::engine::sabotage::Broken;

/// All durations are milliseconds. `lan` and `wan` are the two settings in use; tests and experiments alter single fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MembershipConfig {
    /// One member is probed every so often, by each agent, in shuffled turns. First contact with a dead member takes 1.6 of these on
    /// average whatever the cluster's size, and its silence is noticed one later.
    pub probe_period_ms: u64,
    /// A direct ping unanswered for so long is tried by way of others. Below `probe_period_ms`.
    pub probe_rtt_ms: u64,
    /// Helpers of an indirect probe, and peers of one round of gossip.
    pub fanout: usize,
    /// A suspicion that as many members as expected confirm becomes Down after this. Grows with the decimal logarithm of the
    /// cluster's size above ten members, by twice of it a decade: who stands still for two seconds stays a member of a hundred.
    pub suspicion_min_ms: u64,
    /// A suspicion that nobody confirms becomes Down after `suspicion_min_ms` times this.
    pub suspicion_stretch: u64,
    /// Confirmations beside the first accusation that shorten a suspicion all the way.
    pub confirmations_wanted: usize,
    /// Nobody is declared down unheard: before a verdict the suspect is pinged so often ...
    pub looks: u8,
    /// ... and given so long to answer each time. A part of `suspicion_min_ms`.
    pub look_wait_ms: u64,
    /// News waits so long for company before it is gossiped the first time ...
    pub gossip_delay_ms: u64,
    /// ... and rounds never follow each other closer than this: in a storm, packets are full instead of many.
    pub gossip_period_ms: u64,
    /// Own timers later than this mean that this agent stood still: verdicts wait until it has caught up.
    pub stall_ms: u64,
    /// An agent of three or more that heard nobody for so long holds that it is deaf, not the others dead.
    pub silence_ms: u64,
    /// How unwell an agent can become: its probes take up to this plus one times as long. Zero: it never doubts its health.
    pub unwell_max: u64,
    /// Who was held down comes back after so much unbroken contact, and waits much longer each time it follows soon on the last ...
    pub return_wait_ms: u64,
    /// ... up to this.
    pub return_wait_max_ms: u64,
    /// Verdicts due during or right after a stall or silence come so much later, once a suspicion.
    pub postpone_ms: u64,
    /// How far back the cut-off viewer compares (protocol section 1).
    pub cutoff_window_ms: u64,
    /// First pause between announcements to seeds that are no members yet; doubles up to `join_max_ms`.
    pub join_min_ms: u64,
    pub join_max_ms: u64,
    /// An announcement each to one seed, one member held down, one remembered address: for ever and in every state.
    pub heal_period_ms: u64,
    /// Members that went down less than `heal_recent_ms` ago are announced to this often; stretched with the cluster's size, up to
    /// `heal_period_ms`.
    pub heal_recent_period_ms: u64,
    pub heal_recent_ms: u64,
    /// Down members are remembered so long, beyond the reaping of their records.
    pub remember_down_ms: u64,
    /// At most so many of them; the oldest give way.
    pub down_max: usize,
    /// Members in all. Further ones are not taken in, and counted.
    pub members_max: usize,
    /// Seeds, and remembered addresses, that are kept.
    pub addresses_max: usize,
    /// The largest packet handed out, in bytes, before sealing.
    pub packet_bytes_max: usize,
    pub broken: Broken,
}

/// What sealing (110 bytes) and roots (20) leave of a datagram of 1,200.
const PACKET_BYTES_MAX: usize = 1_060;
const HOUR_MS: u64 = 3_600_000;

impl MembershipConfig {
    /// One datacenter: round trips of milliseconds. A killed agent is gone from ten views in 1.5 s on average.
    pub fn lan() -> Self {
        Self {
            probe_period_ms: 300,
            probe_rtt_ms: 100,
            fanout: 3,
            suspicion_min_ms: 900,
            suspicion_stretch: 3,
            confirmations_wanted: 2,
            looks: 2,
            look_wait_ms: 100,
            gossip_delay_ms: 5,
            gossip_period_ms: 200,
            stall_ms: 250,
            silence_ms: 1_000,
            unwell_max: 6,
            return_wait_ms: 250,
            return_wait_max_ms: 30_000,
            postpone_ms: 1_000,
            cutoff_window_ms: 60_000,
            join_min_ms: 1_000,
            join_max_ms: 15_000,
            heal_period_ms: 60_000,
            heal_recent_period_ms: 5_000,
            heal_recent_ms: 15 * 60_000,
            // Reaping takes 72 h and its mark is accepted for six days more.
            remember_down_ms: 9 * 24 * HOUR_MS,
            down_max: 8_192,
            members_max: 65_536,
            addresses_max: 256,
            packet_bytes_max: PACKET_BYTES_MAX,
            broken: Broken::default(),
        }
    }

    /// Gateways of datacenters: round trips of up to half a second and more loss.
    pub fn wan() -> Self {
        let lan = Self::lan();
        Self {
            probe_period_ms: 2_000,
            probe_rtt_ms: 800,
            suspicion_min_ms: 4_000,
            look_wait_ms: 700,
            gossip_delay_ms: 20,
            gossip_period_ms: 250,
            stall_ms: 1_000,
            silence_ms: 6_000,
            postpone_ms: 4_000,
            join_min_ms: 2_000,
            // Gateways are few, and with those that went down a whole datacenter may come back: never seldom, for as long as they are known.
            heal_recent_ms: lan.remember_down_ms,
            ..lan
        }
    }

    /// How long a suspicion lasts at least and at most among `alive` members.
    pub(super) fn suspicion_bounds_ns(&self, alive: usize) -> (u64, u64) {
        let decades = (alive.max(10) as f64 / 10.0).log10();
        let min = self.suspicion_min_ms as f64 * (1.0 + decades * 2.0);
        let min = (min * 1e6) as u64;
        (min, min * self.suspicion_stretch)
    }

    /// How often one update is passed on: 4 x ceil(log10(n + 1)). foca's own rounding goes down and leaves stragglers.
    pub(super) fn transmissions(members: usize) -> u8 {
        // ceil(log10(n + 1)) is how many decimal digits n has.
        let digits = members.max(1).ilog10() as u8 + 1;
        4 * digits
    }
}
