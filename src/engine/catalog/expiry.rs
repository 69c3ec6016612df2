//! What runs out: leases, the time checks have to speak, and the time that is left after it. A record for each transition, none for
//! anything else.

use super::checks::Checked;
use super::leases::{Begin, Timer};
use super::{Catalog, Urgency};
use crate::engine::sabotage::Rule;
use crate::model::command::LeaseId;
use crate::model::instance::{Instance, Lease};
use crate::model::record::{Kind, Uid};
use crate::model::time::Now;

/// Timers of one turn.
const TURN: usize = 1_000;

impl Catalog {
    pub(super) fn end_lease(&mut self, now: Now, id: LeaseId) -> bool {
        let Some(uids) = self.leases.end(id) else { return false };
        for uid in uids {
            self.expire_instance(now, uid);
        }
        true
    }

    /// Sets the timers of an own instance that is not newly registered.
    pub(super) fn resume_lease(&mut self, now: Now, uid: Uid) {
        let Some(content) = self.own_content(uid).cloned() else { return };
        if let Ok((key, instance)) = content.decode::<Instance<'_>>()
            && key.kind == Kind::INSTANCE
        {
            self.keep(now, uid, &key.scope, &instance, Begin::Restarted);
        }
    }

    /// Carries out what ran out, as far as one turn goes.
    pub(super) fn expire(&mut self, now: Now) {
        for _ in 0..TURN {
            let Some(timer) = self.leases.pop(now) else { return };
            match timer {
                Timer::Instance(_) if self.config.broken.is(Rule::LeasesSurvive) => {}
                Timer::Instance(uid) => self.expire_instance(now, uid),
                Timer::Check(uid, at) => self.silence_check(now, uid, at),
                Timer::Critical(uid) => self.remove_critical(now, uid),
                Timer::Open(id) => {
                    self.end_lease(now, id);
                }
            }
        }
    }

    /// Ends an own instance whose time has come.
    pub(super) fn remove_own(&mut self, now: Now, uid: Uid) {
        let claim = self.table.find(self.own_ix, uid).map_or(0, |ix| self.table.slot(ix).claim);
        self.write_tombstone(now, uid, Kind::INSTANCE, claim);
        self.leases.drop_instance(uid);
        self.drop_streaks(uid);
    }

    /// An instance's lease ran out, or the time it had left after that.
    fn expire_instance(&mut self, now: Now, uid: Uid) {
        let Some(content) = self.own_content(uid).cloned() else { return self.leases.drop_instance(uid) };
        let Ok((key, mut instance)) = content.decode::<Instance<'_>>() else { return };
        let (Lease::Ttl { remove_after_ms, .. } | Lease::Held { remove_after_ms }) = instance.lease else { return };
        self.counters.expired += 1;
        if instance.is_expired || remove_after_ms == 0 {
            return self.remove_own(now, uid);
        }
        instance.is_expired = true;
        // A flag more is no byte more.
        let _ = self.rewrite(now, uid, &key, Checked::Instance(Box::new(instance.clone())), Urgency::Removal);
        self.leases.keep(now, uid, &instance, Begin::Registered(None));
    }
}
