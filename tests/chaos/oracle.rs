//! What a client may expect to find after what it was told.
//!
//! One client writes, one request after the other, so for each key the last acknowledged write is the truth, whichever agents
//! took the writes and whatever lay between them. A write without an answer may take effect at any later time (it may still
//! wait in the socket of a paused agent): its key may end either way, and the client leaves it alone from then on.

use std::collections::BTreeMap;

/// Service and id.
pub type Key = (String, String);
/// The number of the write that made what is registered; `None`: nothing is.
pub type State = Option<u64>;

#[derive(Debug, Default)]
pub struct Oracle {
    keys: BTreeMap<Key, Expected>,
}

#[derive(Debug, Default)]
struct Expected {
    told: State,
    maybe: Option<State>,
    /// What was done, for whoever has to find out why it is wrong.
    story: Vec<String>,
}

impl Oracle {
    pub fn note(&mut self, key: &Key, what: String) {
        self.keys.entry(key.clone()).or_default().story.push(what);
    }

    pub fn acknowledge(&mut self, key: &Key, state: State) {
        self.keys.entry(key.clone()).or_default().told = state;
    }

    /// The write may happen now, later, or never.
    pub fn doubt(&mut self, key: &Key, state: State) {
        self.keys.entry(key.clone()).or_default().maybe = Some(state);
    }

    /// Keys that hold an instance for certain, in order.
    pub fn certain(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|(_, expected)| expected.maybe.is_none() && expected.told.is_some()).map(|(key, _)| key)
    }

    /// Whether the key holds an instance for certain.
    pub fn holds(&self, key: &Key) -> bool {
        self.keys.get(key).is_some_and(|expected| expected.maybe.is_none() && expected.told.is_some())
    }

    pub fn told(&self, key: &Key) -> State {
        self.keys.get(key).and_then(|expected| expected.told)
    }

    pub fn doubtful(&self) -> usize {
        self.keys.values().filter(|expected| expected.maybe.is_some()).count()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// What is wrong with what the agents show; nothing when all is as the client was told.
    pub fn judge(&self, shown: &BTreeMap<String, BTreeMap<Key, u64>>) -> Vec<String> {
        let mut wrong = Vec::new();
        for (agent, instances) in shown {
            for (key, number) in instances {
                if !self.keys.contains_key(key) {
                    wrong.push(format!("{agent} shows {key:?} = {number}, which nobody wrote"));
                }
            }
            for (key, expected) in &self.keys {
                let state = instances.get(key).copied();
                if state != expected.told && expected.maybe != Some(state) {
                    wrong.push(format!("{agent} shows {key:?} = {state:?}, but the client was told {expected:#?}"));
                }
            }
        }
        for key in self.keys.iter().filter(|(_, expected)| expected.maybe.is_some()).map(|(key, _)| key) {
            let states: BTreeMap<&String, State> = shown.iter().map(|(agent, all)| (agent, all.get(key).copied())).collect();
            let mut distinct: Vec<&State> = states.values().collect();
            distinct.dedup();
            if distinct.len() > 1 {
                wrong.push(format!("the agents disagree on {key:?}: {states:?}"));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        (String::from("web"), id.to_owned())
    }

    fn shown(agents: &[(&str, &[(&str, u64)])]) -> BTreeMap<String, BTreeMap<Key, u64>> {
        let instances = |list: &[(&str, u64)]| list.iter().map(|(id, number)| (key(id), *number)).collect();
        agents.iter().map(|(agent, list)| (String::from(*agent), instances(list))).collect()
    }

    fn told(writes: &[(&str, State)]) -> Oracle {
        let mut oracle = Oracle::default();
        writes.iter().for_each(|(id, state)| oracle.acknowledge(&key(id), *state));
        oracle
    }

    #[test]
    fn what_was_told_last_is_right() {
        let oracle = told(&[("x", Some(1)), ("x", Some(2)), ("y", Some(3)), ("y", None)]);
        assert_eq!(oracle.judge(&shown(&[("a", &[("x", 2)]), ("b", &[("x", 2)])])), [""; 0]);
    }

    #[test]
    fn a_lost_a_stale_a_resurrected_and_an_invented_instance_are_wrong() {
        let oracle = told(&[("x", Some(1)), ("x", Some(2)), ("y", Some(3)), ("y", None)]);
        for bad in [&[][..], &[("x", 1)], &[("x", 2), ("y", 3)], &[("x", 2), ("z", 9)]] {
            assert_eq!(oracle.judge(&shown(&[("a", &[("x", 2)]), ("b", bad)])).len(), 1, "{bad:?}");
        }
    }

    #[test]
    fn a_doubtful_write_may_have_happened_or_not_but_the_same_everywhere() {
        let mut oracle = told(&[("x", Some(1))]);
        oracle.doubt(&key("x"), None);
        assert_eq!(oracle.judge(&shown(&[("a", &[("x", 1)]), ("b", &[("x", 1)])])), [""; 0]);
        assert_eq!(oracle.judge(&shown(&[("a", &[]), ("b", &[])])), [""; 0]);
        assert_eq!(oracle.judge(&shown(&[("a", &[]), ("b", &[("x", 1)])])).len(), 1, "they disagree");
        assert!(!oracle.judge(&shown(&[("a", &[("x", 7)]), ("b", &[("x", 7)])])).is_empty(), "neither of the two");
        assert_eq!(oracle.certain().count(), 0);
    }
}
