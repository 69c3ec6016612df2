//! Rules of the protocol that can be broken on purpose, one at a time: the simulator must find every one of them.
//!
//! Compiled only with the feature `sabotage`, which nothing that ships turns on. Each rule is broken in one place, marked by its name.

use super::config::EngineConfig;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// A head moves on over a gap.
    HeadOverGap,
    /// A snapshot removes what is newer than it is.
    SnapshotRemovesNewer,
    /// Tombstones are forgotten by age alone, and no floor is raised.
    TombstonesByAge,
    /// Deaths that others tell of are believed.
    HearsayBelieved,
    /// A start goes on in the epoch of the last life.
    EpochKept,
    /// Renewals are written, and so gossiped.
    RenewalsTravel,
    /// The higher origin counts, whatever the claims say.
    ClaimsIgnored,
    /// A new epoch is taken on top of whatever is held.
    BaseUnchecked,
    /// Writes are acknowledged before they are durable.
    AnswerBeforeDurable,
}

impl Rule {
    pub const ALL: [Rule; 9] = [
        Rule::HeadOverGap,
        Rule::SnapshotRemovesNewer,
        Rule::TombstonesByAge,
        Rule::HearsayBelieved,
        Rule::EpochKept,
        Rule::RenewalsTravel,
        Rule::ClaimsIgnored,
        Rule::BaseUnchecked,
        Rule::AnswerBeforeDurable,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Rule::HeadOverGap => "head-over-gap",
            Rule::SnapshotRemovesNewer => "snapshot-removes-newer",
            Rule::TombstonesByAge => "tombstones-by-age",
            Rule::HearsayBelieved => "hearsay-believed",
            Rule::EpochKept => "epoch-kept",
            Rule::RenewalsTravel => "renewals-travel",
            Rule::ClaimsIgnored => "claims-ignored",
            Rule::BaseUnchecked => "base-unchecked",
            Rule::AnswerBeforeDurable => "answer-before-durable",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.name() == name)
    }
}

impl EngineConfig {
    /// Breaks a rule in all rooms that keep it.
    pub fn break_rule(&mut self, rule: Rule) {
        self.sabotage = Some(rule);
        self.catalog.sabotage = Some(rule);
        self.membership.sabotage = Some(rule);
    }
}
