//! What the engine, its rooms and its driver count, as one sample.

use super::{Sample, Value};
use crate::agent::driver;
use crate::engine::{Engine, catalog, membership, spread};
use crate::view::View;

/// Adds one counter a field of a room's counters; the help says what the field's own words say.
macro_rules! counters {
    ($sample:ident, $room:literal, $counters:expr, { $($field:ident: $help:literal),* $(,)? }) => {
        $( $sample.push(Value::counter(concat!("tidings_", $room, "_", stringify!($field)), $help, $counters.$field)); )*
    };
}

/// The values of this moment.
pub fn sample(engine: &Engine, driver: &driver::Counters, streams_stalled: u64, view: &View) -> Sample {
    let mut sample = Sample::new();
    gauges(&mut sample, engine, view);
    levels(&mut sample, engine);
    gossip(&mut sample, engine);
    counters!(sample, "driver", driver, {
        turns: "Turns of the engine's loop",
        stalls: "Times the loop was not run in time",
        datagrams_unsent: "Datagrams the kernel did not take",
    });
    sample.push(Value::counter("tidings_driver_streams_stalled", "Streams closed because their peer did not read", streams_stalled));
    membership(&mut sample, &engine.membership().counters);
    catalog(&mut sample, &engine.catalog().counters);
    spread(&mut sample, &engine.spread().counters);
    sample
}

fn gauges(sample: &mut Sample, engine: &Engine, view: &View) {
    sample.push(Value::gauge("tidings_agent_ready", "Whether the agent has caught up with its datacenter", u64::from(engine.is_ready())));
    sample.push(Value::gauge("tidings_membership_alive", "Members held alive, this agent included", engine.membership().alive() as u64));
    sample.push(Value::gauge("tidings_membership_known", "Members known, in whatever state", view.members.len() as u64));
    sample.push(Value::gauge("tidings_view_services", "Services that have instances", view.service_count() as u64));
    sample.push(Value::gauge("tidings_view_instances", "Instances, available or not", view.instance_count()));
    sample.push(Value::gauge("tidings_view_revision", "The revision readers see", view.revision));
}

/// What has a limit, and how far it is from it.
fn levels(sample: &mut Sample, engine: &Engine) {
    for level in engine.levels() {
        sample.push(Value::gauge("tidings_engine_held", "What a queue or table holds", level.held as u64).labelled("table", level.name));
    }
    for level in engine.levels() {
        sample.push(Value::gauge("tidings_engine_limit", "What it may hold", level.limit as u64).labelled("table", level.name));
    }
}

fn gossip(sample: &mut Sample, engine: &Engine) {
    let counters = engine.counters();
    counters!(sample, "gossip", counters, {
        datagrams_in: "Datagrams received",
        datagram_bytes_in: "Bytes of datagrams received, without headers of IP and UDP",
        datagrams_out: "Datagrams sent",
        datagram_bytes_out: "Bytes of datagrams sent, without headers of IP and UDP",
        frames_in: "Frames received over streams",
        frames_out: "Frames sent over streams",
        views: "Views published",
    });
    for (reason, count) in &counters.dropped {
        sample.push(Value::counter("tidings_gossip_dropped", "What came and was not taken, by reason", *count).labelled("reason", reason));
    }
}

fn membership(sample: &mut Sample, counters: &membership::Counters) {
    counters!(sample, "membership", counters, {
        packets_sent: "Packets of SWIM sent",
        bytes_sent: "Bytes of SWIM sent",
        packets_received: "Packets of SWIM received",
        bytes_received: "Bytes of SWIM received",
        probes_failed: "Probes that nobody answered in time",
        probes_forgiven: "Failed probes forgiven because this agent stood still or was deaf",
        suspicions: "Suspicions, own and heard of",
        suspicions_refuted: "Own suspicions that turned out wrong",
        verdicts: "Down verdicts given here",
        verdicts_withdrawn: "Verdicts taken back at contact",
        verdicts_postponed: "Verdicts put off because of a stall or silence",
        refutations: "Times this agent contradicted a suspicion of itself",
        renewals: "Times this agent took a new generation",
        stalls: "Times this agent stood still",
        digests_differed: "Times members differed from a peer's for so long that state was exchanged",
        internal_errors: "Calls that cannot fail and did: bugs",
    });
    let dropped = [
        ("malformed", counters.dropped_malformed),
        ("misdirected", counters.dropped_misdirected),
        ("outdated_sender", counters.dropped_outdated_sender),
        ("reflected", counters.dropped_reflected),
        ("after_leaving", counters.dropped_after_leaving),
        ("refused", counters.dropped_refused),
        ("members_full", counters.dropped_members_full),
        ("coordinate", counters.coordinates_refused),
        ("forgotten_early", counters.forgotten_early),
        ("addresses_full", counters.dropped_addresses_full),
    ];
    for (reason, count) in dropped {
        sample.push(
            Value::counter("tidings_membership_dropped", "What membership did not take or keep, by reason", count)
                .labelled("reason", reason),
        );
    }
}

fn catalog(sample: &mut Sample, counters: &catalog::Counters) {
    counters!(sample, "catalog", counters, {
        batches_known: "Batches that brought nothing",
        batches_malformed: "Batches that contradict themselves",
        origins_unnamed: "Batches of origins that membership never named, beyond those held aside",
        held_forgotten: "Held intervals forgotten for lack of room",
        snapshots: "Snapshots swapped in",
        snapshots_stale: "Snapshots that brought nothing any more",
        sum_mismatches: "Copies that differed from their origin at the same head",
        records_conflicting: "Records under a seq that another key has",
        undecodable: "Records that do not decode: kept, passed on, served to nobody",
        tails_kept: "New lives of an origin refused because more was known here",
        tails_lost: "The same, given up after a minute without an answer",
        adoptions: "Times this agent took back what its disk had lost",
        epochs_taken: "Epochs taken beside the one at the start",
        yielded: "Own records given up to an origin with a later claim",
        claims_ahead: "Records whose claim is ahead of clocks that are right",
        deleted_forgotten: "Deleted keys not remembered for lack of room",
        tombstones_early: "Tombstones forgotten for lack of room although an agent is out of sight",
        reaped: "Origins given up",
        expired: "Leases and TTL checks that ran out",
        taken_over: "Writes taken over from an origin that was gone or silent",
        flaps_damped: "Check results held back because the check flaps",
    });
}

fn spread(sample: &mut Sample, counters: &spread::Counters) {
    counters!(sample, "spread", counters, {
        deltas_sent: "Changes sent in full",
        delta_bytes_sent: "Bytes of changes sent in full",
        deltas_received: "Changes received in full",
        deltas_known: "Of them, those that told nothing new",
        advert_parts_sent: "Datagrams' parts that told of heads",
        advert_bytes_sent: "Bytes that told of heads",
        adverts_ridden: "Heads that went along with packets of the membership",
        want_parts_sent: "Parts that asked for changes",
        want_bytes_sent: "Bytes that asked for changes",
        wants_repeated: "Wants sent again",
        answers_sent: "Changes sent because somebody asked",
        answer_bytes_sent: "Bytes of them",
        repair_parts_sent: "Parts of repair sent",
        repair_bytes_sent: "Bytes of repair sent",
        exchanges: "Exchanges over heads that this agent began",
        exchanges_in_vain: "Of them, those that found nothing",
        sketches_decoded: "Sketches that decoded",
        sketches_undecoded: "Sketches that did not",
        streams_opened: "Streams opened",
        streams_accepted: "Streams accepted",
        streams_completed: "Streams that said all they had to say",
        streams_refused_busy: "Streams sent on to others because there were too many",
        snapshots_sent: "Snapshots sent",
        snapshots_received: "Snapshots received",
    });
    let dropped = &counters.dropped;
    let dropped = [
        ("push_queue_full", dropped.push_queue_full),
        ("push_above_gap", dropped.push_above_gap),
        ("advert_queue_full", dropped.advert_queue_full),
        ("lack_table_full", dropped.lack_table_full),
        ("answer_queue_full", dropped.answer_queue_full),
        ("want_given_up", dropped.want_given_up),
        ("repair_budget", dropped.repair_budget),
        ("base_unknown", dropped.base_unknown),
        ("bad_sketch", dropped.bad_sketch),
        ("stream_nonsense", dropped.stream_nonsense),
        ("stream_idle", dropped.stream_idle),
    ];
    for (reason, count) in dropped {
        sample.push(Value::counter("tidings_spread_dropped", "What spreading left to repair, by reason", count).labelled("reason", reason));
    }
}
