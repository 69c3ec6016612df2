//! When to come back: a member that was held down returns only after it has had contact for a while, after longer each time, and after
//! longer than its last stay: who was well for 20 s, then lost, and is well again for 20 s, has shown nothing yet.
//!
//! One that stands still and goes on, again and again, would be welcomed and buried by everybody each time. It is the one that can tell:
//! a machine that is heard for a blink between two stalls stays out, one that lost its link once is back at once. A new process is not
//! bound by this; it returns with a generation of its own.

use super::config::MembershipConfig;

/// Each wait that follows soon on another is so many times as long ...
const GROWTH: u64 = 20;
/// ... and as long as the stay since, and this share of it.
const STAY_SHARE: u64 = 2;
/// Contact is broken by so much silence: by six knocks without an answer. A fellow that is out answers none, and some are lost.
const SILENCE_NS: u64 = 6 * KNOCK_NS_MAX;
/// Somebody is asked for a sign of life several times during a wait, within these.
const KNOCK_NS_MIN: u64 = 100_000_000;
const KNOCK_NS_MAX: u64 = 250_000_000;
/// Returns further apart than this have nothing to do with each other.
const MEMORY_NS: u64 = 120_000_000_000;

#[derive(Debug, Default)]
pub(super) struct Probation {
    wait_ns: u64,
    wait_ns_max: u64,
    /// In a row.
    returns: u32,
    returned: u64,
    /// From the last return to the end of contact, if that was not long ago.
    stay_ns: u64,
    heard: u64,
    /// When it last did: before the silence that broke it.
    contact_ended: u64,
    /// Out since then.
    out: Option<Out>,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    until: u64,
    knock_at: u64,
    knock_ns: u64,
}

/// What one that is out does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Return,
    Knock,
}

impl Probation {
    pub fn new(config: &MembershipConfig) -> Self {
        Self { wait_ns: config.return_wait_ms * 1_000_000, wait_ns_max: config.return_wait_max_ms * 1_000_000, ..Self::default() }
    }

    /// Somebody spoke to us.
    pub fn heard(&mut self, now_ns: u64) {
        let last = std::mem::replace(&mut self.heard, now_ns);
        if now_ns >= last + SILENCE_NS {
            self.contact_ended = last;
            self.begin_wait(now_ns);
        }
    }

    pub fn is_out(&self) -> bool {
        self.out.is_some()
    }

    /// We learned that the others hold us down.
    pub fn put_out(&mut self, now_ns: u64) {
        if now_ns >= self.returned + MEMORY_NS {
            self.returns = 0;
        }
        if self.out.is_none() {
            let ended = if self.contact_ended > self.returned { self.contact_ended } else { now_ns };
            self.stay_ns = if self.returns == 0 { 0 } else { ended - self.returned };
            let knock_ns = (self.wait() / 4).clamp(KNOCK_NS_MIN, KNOCK_NS_MAX);
            self.out = Some(Out { until: 0, knock_at: now_ns, knock_ns });
            self.begin_wait(now_ns);
        }
    }

    fn wait(&self) -> u64 {
        let grown = self.wait_ns.saturating_mul(GROWTH.saturating_pow(self.returns));
        grown.max(self.stay_ns + self.stay_ns / STAY_SHARE).min(self.wait_ns_max)
    }

    fn begin_wait(&mut self, now_ns: u64) {
        let until = now_ns + self.wait();
        if let Some(out) = &mut self.out {
            out.until = until;
        }
    }

    pub fn deadline(&self) -> Option<u64> {
        self.out.map(|out| out.knock_at)
    }

    pub fn step(&mut self, now_ns: u64) -> Option<Step> {
        let out = self.out.as_mut().filter(|out| out.knock_at <= now_ns)?;
        // The last knock was answered.
        let is_in_contact = now_ns < self.heard + out.knock_ns * 3 / 2;
        if out.until <= now_ns && is_in_contact {
            return Some(Step::Return);
        }
        out.knock_at = now_ns + out.knock_ns;
        Some(Step::Knock)
    }

    /// We are back, under whatever identity.
    pub fn returned(&mut self, now_ns: u64) {
        if self.out.take().is_some() {
            self.returns = self.returns.saturating_add(1);
            self.returned = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// One that hears somebody every 50 ms, except while `is_silent`; how long after `from` it comes back.
    fn returns_after(probation: &mut Probation, from: u64, is_silent: impl Fn(u64) -> bool) -> Option<u64> {
        for after in (0..60_000).step_by(50) {
            let now = from + after * MS;
            if !is_silent(after) {
                probation.heard(now);
            }
            if after == 0 {
                probation.put_out(now);
            }
            while probation.deadline().is_some_and(|at| at <= now) {
                if probation.step(now) == Some(Step::Return) {
                    probation.returned(now);
                    return Some(after);
                }
            }
        }
        None
    }

    #[test]
    fn the_first_return_is_quick_and_the_next_ones_take_longer_each_time() {
        let mut probation = Probation::new(&MembershipConfig::lan());
        let waits: Vec<_> = [100, 102, 108].map(|at| returns_after(&mut probation, at * 1_000 * MS, |_| false)).to_vec();
        assert_eq!(waits, vec![Some(300), Some(5_000), Some(30_000)]);
        assert_eq!(returns_after(&mut probation, 1_000_000 * MS, |_| false), Some(300), "after two quiet minutes");
    }

    #[test]
    fn a_stay_that_ended_has_to_be_outlasted() {
        let mut probation = Probation::new(&MembershipConfig::lan());
        let is_deaf = |at: u64| at % 20_000 >= 10_000;
        assert_eq!(returns_after(&mut probation, 100_000 * MS, |_| false), Some(300));
        // Heard until 110 s, then again from 120 s on, for 10 s at a time: as long as the stay that ended.
        for ms in (100_350..110_000).step_by(50) {
            probation.heard(ms * MS);
        }
        assert_eq!(returns_after(&mut probation, 120_000 * MS, is_deaf), None);
        assert_eq!(returns_after(&mut probation, 180_000 * MS, |_| false), Some(14_500), "half as long again as 9.65 s");
    }

    #[test]
    fn a_blink_of_contact_between_long_silences_is_none() {
        let mut probation = Probation::new(&MembershipConfig::lan());
        assert_eq!(returns_after(&mut probation, 100_000 * MS, |after| after % 8_000 >= 100), None);
    }

    #[test]
    fn who_hears_all_the_time_and_is_not_heard_waits_too() {
        let mut probation = Probation::new(&MembershipConfig::lan());
        for ms in (0..100_000).step_by(50) {
            probation.heard(ms * MS);
        }
        assert_eq!(returns_after(&mut probation, 100_000 * MS, |_| false), Some(300));
        assert_eq!(returns_after(&mut probation, 102_000 * MS, |_| false), Some(5_000));
    }
}
