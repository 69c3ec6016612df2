//! Each scenario is a test.

use super::all;

fn play(name: &str) {
    crate::log::listen(None);
    let scenario = all().into_iter().find(|scenario| scenario.name == name).expect("the scenario is listed");
    if let Err(failure) = scenario.play() {
        panic!("{failure}");
    }
}

macro_rules! scenarios {
    ($($(#[$attribute:meta])* $test:ident = $name:literal),* $(,)?) => {
        $(#[test]
        $(#[$attribute])*
        fn $test() {
            play($name);
        })*

        #[test]
        fn every_scenario_is_a_test() {
            let listed: std::collections::BTreeSet<_> = all().iter().map(|scenario| scenario.name).collect();
            assert_eq!(listed, std::collections::BTreeSet::from([$($name),*]));
        }
    };
}

scenarios! {
    move_delete_return = "move-delete-return",
    unseen_word_returns = "unseen-word-returns",
    long_split_heal = "long-split-heal",
    kill_between_send_and_fsync = "kill-between-send-and-fsync",
    old_disk_overtakes = "old-disk-overtakes",
    delta_during_snapshot = "delta-during-snapshot",
    beats_round_robin = "beats-round-robin",
    same_id_two_agents = "same-id-two-agents",
    two_nodes_cut_60s = "two-nodes-cut-60s",
    one_of_ten_cut_60s = "one-of-ten-cut-60s",
    all_cold_mutual_seeds = "all-cold-mutual-seeds",
    one_of_three_dies = "one-of-three-dies",
    rack_dies = "rack-dies",
    wiped_disk_same_address = "wiped-disk-same-address",
    #[ignore = "minutes long without optimisation: cargo run -p tidings-sim --release -- scenario joiner-meets-300-dead"]
    joiner_meets_300_dead = "joiner-meets-300-dead",
    clone = "clone",
    fast_clock_then_move = "fast-clock-then-move",
    wan_split_gateways = "wan-split-gateways",
    wan_gateways_replaced = "wan-gateways-replaced",
    wan_cut_beyond_retention = "wan-cut-beyond-retention",
    slow_bulk_over_ten_minutes = "slow-bulk-over-ten-minutes",
}
