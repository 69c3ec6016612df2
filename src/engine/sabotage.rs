//! Rules of the protocol that can be broken on purpose, one at a time: the simulator must find every one of them.
//!
//! Each rule is broken where it is kept, by a question to [`Broken`]. Only with the feature `sabotage`, which nothing that ships turns on,
//! can the answer be yes: without it [`Broken`] is empty, and the compiler drops question and defect.
//!
//! Several are the defects of Go Micro's gossip registry, the closest ancestor of this one: no repair after the join, words without
//! versions, leases that merge for ever, services that outlive their dead agent, records too large to travel.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A head moves on over a gap.
    HeadOverGap,
    /// A snapshot takes the place of what is newer than it is.
    SnapshotRemovesNewer,
    /// Tombstones are forgotten by age alone, and no floor is raised.
    TombstonesByAge,
    /// A start goes on in the epoch of the last life.
    EpochKept,
    /// A new epoch is taken on top of whatever is held.
    BaseUnchecked,
    /// Of an origin's words on a key, the last to arrive counts.
    LastToArrive,
    /// Renewals are written, and so gossiped.
    RenewalsTravel,
    /// The higher origin counts, whatever the claims say.
    ClaimsIgnored,
    /// A delete hides no lower claim of another origin.
    DeletesOwnOnly,
    /// Leases never run out.
    LeasesSurvive,
    /// The instances of a dead agent go on being handed out.
    DeathHidesNothing,
    /// Readers are not shown that something was removed.
    RemovalsUnseen,
    /// A mark of reaping is taken of an origin that is alive.
    ReapsTheLiving,
    /// Deaths that others tell of are believed.
    HearsayBelieved,
    /// A suspicion runs on after its suspect contradicted.
    RefutationIgnored,
    /// Who contradicted a suspicion is told that it is dead, as foca's stale timer does.
    StaleTurnUndead,
    /// Who is cut off gives verdicts on all others.
    CutOffUnseen,
    /// Nobody looks for the lost once the last member is gone, as with foca's own announcements.
    HealingByFoca,
    /// Two processes go on under one node id.
    TwinsTolerated,
    /// Differing roots are not looked into.
    NoRepair,
    /// Agents with equal roots compare their heads all the same.
    RestlessRepair,
    /// What is too large for a datagram is not offered over a stream.
    LargeStaysHome,
    /// Agents that are not ready speak as if they were.
    NotReadySpeaks,
    /// In clear, what was garbled on the way is taken for what was sent.
    ChecksumIgnored,
    /// What is known of another datacenter goes when nobody hears it any more.
    SilenceForgets,
    /// Readers are not told that another datacenter is not heard.
    AgeUntold,
    /// Writes are acknowledged before they are durable.
    AnswerBeforeDurable,
    /// Writes are acknowledged before readers see them.
    AnswerBeforeView,
}

impl Rule {
    pub const ALL: [Rule; 28] = [
        Rule::HeadOverGap,
        Rule::SnapshotRemovesNewer,
        Rule::TombstonesByAge,
        Rule::EpochKept,
        Rule::BaseUnchecked,
        Rule::LastToArrive,
        Rule::RenewalsTravel,
        Rule::ClaimsIgnored,
        Rule::DeletesOwnOnly,
        Rule::LeasesSurvive,
        Rule::DeathHidesNothing,
        Rule::RemovalsUnseen,
        Rule::ReapsTheLiving,
        Rule::HearsayBelieved,
        Rule::RefutationIgnored,
        Rule::StaleTurnUndead,
        Rule::CutOffUnseen,
        Rule::HealingByFoca,
        Rule::TwinsTolerated,
        Rule::NoRepair,
        Rule::RestlessRepair,
        Rule::LargeStaysHome,
        Rule::NotReadySpeaks,
        Rule::ChecksumIgnored,
        Rule::SilenceForgets,
        Rule::AgeUntold,
        Rule::AnswerBeforeDurable,
        Rule::AnswerBeforeView,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::HeadOverGap => "head-over-gap",
            Rule::SnapshotRemovesNewer => "snapshot-removes-newer",
            Rule::TombstonesByAge => "tombstones-by-age",
            Rule::EpochKept => "epoch-kept",
            Rule::BaseUnchecked => "base-unchecked",
            Rule::LastToArrive => "last-to-arrive",
            Rule::RenewalsTravel => "renewals-travel",
            Rule::ClaimsIgnored => "claims-ignored",
            Rule::DeletesOwnOnly => "deletes-own-only",
            Rule::LeasesSurvive => "leases-survive",
            Rule::DeathHidesNothing => "death-hides-nothing",
            Rule::RemovalsUnseen => "removals-unseen",
            Rule::ReapsTheLiving => "reaps-the-living",
            Rule::HearsayBelieved => "hearsay-believed",
            Rule::RefutationIgnored => "refutation-ignored",
            Rule::StaleTurnUndead => "stale-turn-undead",
            Rule::CutOffUnseen => "cut-off-unseen",
            Rule::HealingByFoca => "healing-by-foca",
            Rule::TwinsTolerated => "twins-tolerated",
            Rule::NoRepair => "no-repair",
            Rule::RestlessRepair => "restless-repair",
            Rule::LargeStaysHome => "large-stays-home",
            Rule::NotReadySpeaks => "not-ready-speaks",
            Rule::ChecksumIgnored => "checksum-ignored",
            Rule::SilenceForgets => "silence-forgets",
            Rule::AgeUntold => "age-untold",
            Rule::AnswerBeforeDurable => "answer-before-durable",
            Rule::AnswerBeforeView => "answer-before-view",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

/// The rule that is broken, if any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Broken {
    #[cfg(feature = "sabotage")]
    rule: Option<Rule>,
}

impl Broken {
    #[cfg(feature = "sabotage")]
    pub fn by(rule: Rule) -> Self {
        Self { rule: Some(rule) }
    }

    /// Whether this rule is the broken one.
    #[inline]
    pub fn is(self, rule: Rule) -> bool {
        #[cfg(feature = "sabotage")]
        return self.rule == Some(rule);
        #[cfg(not(feature = "sabotage"))]
        {
            let _ = rule;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_lead_back_and_nothing_is_broken_unless_asked() {
        for rule in Rule::ALL {
            assert_eq!(Rule::from_name(rule.name()), Some(rule));
            assert!(!Broken::default().is(rule));
        }
    }
}
