//! Epochs, seqs and claims that nobody issues.

use super::*;
use crate::engine::catalog::apply::Applied;
use crate::model::record::{AsOf, Base, Batch, Epoch, HeadFlags, OWN_NUMBER_MAX};

#[test]
fn a_history_that_leaves_no_number_for_the_next_write_is_not_believed() {
    let mut world = World::new(2);
    world.introduce();
    for (origin, to) in [(node(0), OWN_NUMBER_MAX + 1), (node(0), Seq::MAX), (node(1), Seq::MAX)] {
        let (base, flags) = (Base::default(), HeadFlags::default());
        let batch = Batch { origin, epoch: Epoch::MAX, base, from: 0, to, flags, as_of: AsOf::Newest { sum: 0 }, records: Vec::new() };
        assert_eq!(world.agents[0].catalog.apply(world.now, batch), Applied::default());
    }
    assert_eq!(world.register(0, "web", "1", 80), WriteResult::Created);
}
