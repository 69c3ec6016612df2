//! The world with a machine that answers what it hears.

use super::host::RECEIVE_BUFFER_DATAGRAMS_MAX;
use super::*;
use std::collections::VecDeque;
use tidings::engine::io::{Mark, StoreOp, StreamId};
use tidings::model::command::Command;

/// Sends back every datagram that begins with `?`, writes back every stream, persists every command and answers when it is durable,
/// and ticks once a second.
#[derive(Default)]
struct Echo {
    outputs: VecDeque<Output>,
    heard: Vec<String>,
    asked: Vec<Token>,
    marks: u64,
    next_tick: u64,
    ticks: Vec<u64>,
}

impl Machine for Echo {
    type Config = ();

    fn start((): &(), boot: Boot) -> Self {
        Self { next_tick: boot.now.ns + 1_000_000_000, ..Self::default() }
    }

    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Datagram { from, bytes } => {
                self.heard.push(format!("datagram {}", String::from_utf8_lossy(&bytes)));
                if bytes.starts_with(b"?") {
                    self.outputs.push_back(Output::Datagram { to: from, bytes: bytes.slice(1..) });
                }
            }
            Input::StreamBytes { stream, bytes } => {
                self.heard.push(format!("{} B on {}", bytes.len(), stream.0));
                if stream.0 % 2 == 0 {
                    self.outputs.push_back(Output::StreamBytes { stream, bytes });
                    self.outputs.push_back(Output::CloseStream { stream });
                }
            }
            Input::StreamConnected { stream } => self.heard.push(format!("{} stands", stream.0)),
            Input::StreamClosed { stream } => self.heard.push(format!("{} ends", stream.0)),
            Input::StreamAccepted { .. } | Input::StreamDrained { .. } | Input::NotDurable { .. } => {}
            Input::WanDatagram { .. } | Input::WanStreamAccepted { .. } => {}
            Input::Command { token, .. } => {
                self.marks += 1;
                self.asked.push(token);
                self.outputs.push_back(Output::Persist { mark: Mark(self.marks), ops: vec![StoreOp::Revision(self.marks)] });
            }
            Input::Durable { mark } => {
                let token = self.asked[mark.0 as usize - 1];
                self.outputs.push_back(Output::Reply { token, outcome: Ok(Reply::Done) });
            }
            Input::Tick => {
                if now.ns >= self.next_tick {
                    self.ticks.push(now.ns / 1_000_000);
                    self.next_tick = now.ns + 1_000_000_000;
                }
            }
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<u64> {
        Some(self.next_tick)
    }
}

const A: HostId = HostId(0);
const B: HostId = HostId(1);

fn two() -> World<Echo> {
    let mut world = World::new(3, Conditions::LAN);
    for host in [A, B] {
        assert_eq!(world.add_host(0, Clock::default(), ()), host);
        world.start(host);
    }
    world
}

fn run(world: &mut World<Echo>, ms: u64) {
    let end = world.now() + ms * 1_000_000;
    while world.next_at().is_some_and(|at| at <= end) {
        world.step();
    }
    world.idle_until(end);
}

fn say(world: &mut World<Echo>, from: HostId, output: Output) {
    world.hosts[from.index()].process.as_mut().expect("it runs").machine.outputs.push_back(output);
    world.drain(from);
}

fn heard(world: &World<Echo>, host: HostId) -> &[String] {
    &world.machine(host).expect("it runs").heard
}

#[test]
fn a_datagram_crosses_and_comes_back_and_none_crosses_a_cut() {
    let mut world = two();
    let to = world.host(B).address;
    say(&mut world, A, Output::Datagram { to, bytes: Bytes::from_static(b"?x") });
    run(&mut world, 10);
    assert_eq!(heard(&world, A), ["datagram x"]);
    world.network.cut(&[B], &[A]);
    say(&mut world, A, Output::Datagram { to, bytes: Bytes::from_static(b"?y") });
    run(&mut world, 10);
    assert_eq!((heard(&world, A).len(), heard(&world, B).len()), (1, 2), "the answer is lost, the question is not");
}

#[test]
fn a_stream_connects_carries_in_order_and_ends_behind_its_bytes() {
    let mut world = two();
    let (to, stream) = (world.host(B).address, StreamId(1));
    say(&mut world, A, Output::OpenStream { stream, to });
    run(&mut world, 10);
    say(&mut world, A, Output::StreamBytes { stream, bytes: Bytes::from(vec![0; 600_000]) });
    run(&mut world, 100);
    let lines = heard(&world, A);
    assert_eq!((lines[0].as_str(), lines.last().map(String::as_str)), ("1 stands", Some("1 ends")));
    assert_eq!(lines[1], "65536 B on 1", "the echo of the first piece; then the echo hangs up");
    assert_eq!(world.streams(), 0, "what is over is forgotten");
}

#[test]
fn what_is_written_before_the_connection_stands_arrives_whole() {
    let mut world = two();
    let (to, stream) = (world.host(B).address, StreamId(1));
    say(&mut world, A, Output::OpenStream { stream, to });
    for _ in 0..5 {
        say(&mut world, A, Output::StreamBytes { stream, bytes: Bytes::from_static(b"early") });
    }
    run(&mut world, 100);
    assert_eq!(heard(&world, B).iter().filter(|line| *line == "5 B on 2").count(), 1, "the echo hangs up after the first");
    world.network.cut(&[A], &[B]);
    let stream = StreamId(3);
    say(&mut world, A, Output::OpenStream { stream, to });
    say(&mut world, A, Output::StreamBytes { stream, bytes: Bytes::from_static(b"late") });
    run(&mut world, 2_500);
    world.network.mend(&[A], &[B]);
    run(&mut world, 2_500);
    assert_eq!(heard(&world, B).last().map(String::as_str), Some("4 B on 4"));
}

#[test]
fn a_stream_to_a_dead_process_is_refused_and_one_across_a_cut_breaks_after_a_while() {
    let mut world = two();
    let (to, stream) = (world.host(B).address, StreamId(1));
    world.kill(B);
    say(&mut world, A, Output::OpenStream { stream, to });
    run(&mut world, 10);
    assert_eq!(heard(&world, A), ["1 ends"]);
    world.start(B);
    let stream = StreamId(3);
    say(&mut world, A, Output::OpenStream { stream, to });
    run(&mut world, 10);
    world.network.cut(&[A], &[B]);
    say(&mut world, A, Output::StreamBytes { stream, bytes: Bytes::from_static(b"lost") });
    run(&mut world, 4_000);
    assert_eq!(heard(&world, A).last().map(String::as_str), Some("3 stands"));
    run(&mut world, 3_000);
    assert_eq!(heard(&world, B), ["2 ends"]);
}

#[test]
fn a_killed_process_hangs_up_and_never_hears_what_was_meant_for_the_last_one() {
    let mut world = two();
    let (to, stream) = (world.host(B).address, StreamId(1));
    say(&mut world, A, Output::OpenStream { stream, to });
    run(&mut world, 10);
    let _ = world.command(B, Token(1), Command::ListKeys);
    world.kill(B);
    world.start(B);
    run(&mut world, 500);
    assert_eq!(heard(&world, A), ["1 stands", "1 ends"]);
    assert!(heard(&world, B).is_empty());
    let replied = std::iter::from_fn(|| world.note()).any(|note| matches!(note, Note::Reply { .. }));
    assert!(!replied, "the write died with its process");
}

#[test]
fn a_frozen_process_finds_its_datagrams_before_its_timers() {
    let mut world = two();
    run(&mut world, 1_500);
    world.freeze(B, Freeze::Whole);
    let to = world.host(B).address;
    for _ in 0..300 {
        say(&mut world, A, Output::Datagram { to, bytes: Bytes::from_static(b"x") });
    }
    run(&mut world, 5_000);
    assert_eq!(heard(&world, B).len(), 0);
    assert_eq!(world.machine(B).unwrap().ticks, [1_000]);
    world.thaw(B);
    run(&mut world, 1);
    assert_eq!(heard(&world, B).len(), RECEIVE_BUFFER_DATAGRAMS_MAX);
    assert_eq!(world.host(B).traffic.overflowed, 300 - RECEIVE_BUFFER_DATAGRAMS_MAX as u64);
    assert_eq!(world.machine(B).unwrap().ticks, [1_000, 6_500]);
}

#[test]
fn deadlines_follow_the_hosts_own_clock() {
    let mut world = two();
    world.host_mut(A).clock.drift_ppm = 100_000;
    run(&mut world, 10_200);
    assert_eq!(world.machine(A).unwrap().ticks.len(), 11);
    assert_eq!(world.machine(B).unwrap().ticks.len(), 10);
}

#[test]
fn equal_seeds_give_equal_hashes_and_others_do_not() {
    let hash = |seed, lines| {
        let mut world = World::<Echo>::new(seed, Conditions { loss: 0.2, duplicate: 0.1, ..Conditions::LAN });
        for host in [A, B] {
            let _ = world.add_host(0, Clock::default(), ());
            world.start(host);
        }
        for _ in 0..lines {
            let to = world.host(B).address;
            say(&mut world, A, Output::Datagram { to, bytes: Bytes::from_static(b"?x") });
            let _ = world.command(A, Token(1), Command::ListKeys);
            run(&mut world, 20);
        }
        world.hash()
    };
    assert_eq!(hash(1, 50), hash(1, 50));
    assert_ne!(hash(1, 50), hash(2, 50));
    assert_ne!(hash(1, 50), hash(1, 49));
}
