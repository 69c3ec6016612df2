//! Queues between the rooms: a storm fills them, and its room is given back when they are empty again.

use std::collections::VecDeque;

/// Room that an empty queue keeps.
const KEPT: usize = 64;
/// Room beyond this is given back.
const KEPT_MAX: usize = 4 * KEPT;

/// The first of a queue.
pub(super) fn take_first<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if first.is_none() && queue.capacity() > KEPT_MAX {
        queue.shrink_to(KEPT);
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_storm_is_given_back_once_all_is_taken() {
        let mut queue: VecDeque<u64> = (0..100_000).collect();
        while queue.len() > 1 {
            take_first(&mut queue);
        }
        assert!(queue.capacity() >= 100_000, "not while it is in use");
        assert_eq!((take_first(&mut queue), take_first(&mut queue)), (Some(99_999), None));
        assert!(queue.capacity() <= KEPT_MAX, "{}", queue.capacity());
    }
}
