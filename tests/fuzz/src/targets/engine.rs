//! A whole engine, to which a script of packets, frames, commands and waits happens, from three peers that hold its key.

use std::{collections::BTreeMap, mem::discriminant, net::SocketAddr};

use bytes::{Bytes, BytesMut};
use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use tidings::{
    engine::{
        Engine,
        config::{EngineConfig, NodeConfig},
        io::{Input, Output, Restored, StreamId, Token},
        mail,
        wire::{
            frame::{FrameReader, put_frame},
            keyring::{Key, Keyring},
            packet::{DATAGRAM_BYTES_MAX, Part},
            seal::Sealer,
            stream::StreamSeal,
        },
    },
    model::{
        command::Command,
        names::{Datacenter, NodeName},
        time::Now,
    },
};

use super::{Trace, script};

/// A body with one part, as golden files have it.
const PART: u8 = 0;
/// A body as it was sent.
const BODY: u8 = 1;
const DATAGRAM: u8 = 2;
const FRAME: u8 = 3;
const STREAM_BYTES: u8 = 4;
const CLOSE: u8 = 5;
const WAIT: u8 = 6;
const COMMAND: u8 = 7;
const OPERATIONS: u8 = 8;

const PEERS: u8 = 3;
const KEY: [u8; 32] = [7; 32];

/// Outputs and turns of one step before it counts as a loop.
const OUTPUTS_MAX: usize = 20_000;
const TURNS_MAX: usize = 20_000;

/// A script of what happens to an agent.
pub fn engine(bytes: &[u8], trace: &mut Trace) {
    let mut world = World::new();
    world.settle(trace);
    for (operation, operand) in script::steps(bytes) {
        let peer = 1 + operation / OPERATIONS % PEERS;
        match operation % OPERATIONS {
            PART => world.body(peer, &with_length(operand)),
            BODY => world.body(peer, operand),
            DATAGRAM => world.handle(Input::Datagram { from: addr(peer), bytes: Bytes::copy_from_slice(operand) }),
            FRAME => world.frame(peer, operand, trace),
            STREAM_BYTES => world.stream_bytes(peer, Bytes::copy_from_slice(operand)),
            CLOSE => world.close(peer),
            WAIT => world.wait(script::number(operand, 3_600_000), trace),
            COMMAND => {
                if let Ok(command) = postcard::from_bytes::<Command>(operand) {
                    world.handle(Input::Command { token: Token(1), command });
                }
            }
            _ => unreachable!("a remainder of {OPERATIONS}"),
        }
        world.settle(trace);
    }
    world.wait(100, trace);
}

/// Scripts in which one golden part, frame or command happens to an agent that has met its peers; and how it met them.
pub fn recorded(parts: &[Vec<u8>], frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let met = meeting();
    let mut scripts = vec![met.clone()];
    let mut conversation = met.clone();
    let mut add = |operation, operand: &[u8]| {
        let mut one = met.clone();
        script::put(&mut one, operation, operand);
        script::put(&mut one, WAIT, &[50]);
        scripts.push(one);
    };
    for frame in frames {
        add(FRAME, frame);
        script::put(&mut conversation, FRAME, frame);
    }
    for part in parts {
        add(PART, part);
        if let Ok(Part::Ask { command, .. }) = postcard::from_bytes(part) {
            add(COMMAND, &postcard::to_stdvec(&command).expect("plain data encodes"));
        }
    }
    scripts.push(conversation);
    scripts
}

/// What the first agent hears in the first second, while it and its peers meet.
fn meeting() -> Vec<u8> {
    const STEP_MS: u64 = 50;
    const STEPS: u64 = 20;
    let mut tap = Sealer::new(&config(0).label, Some(ring()), tidings::model::names::NodeId(0), 0);
    let mut now = Now { ns: 0, wall_ms: WALL_MS };
    let mut engines: Vec<Engine> = (0..=PEERS).map(|peer| start(peer, now)).collect();
    let mut script = Vec::new();
    for engine in &mut engines[1..] {
        engine.handle(now, Input::Command { token: Token(0), command: Command::Join(vec![addr(0)]) });
    }
    for _ in 0..STEPS {
        // A datagram that answers another may be answered in the same step; no more than a few times.
        for _ in 0..4 {
            let mut mail: Vec<(u8, SocketAddr, Bytes)> = Vec::new();
            for (from, engine) in (0_u8..).zip(&mut engines) {
                while let Some(output) = engine.poll() {
                    match output {
                        Output::Datagram { to, bytes } => mail.push((from, to, bytes)),
                        Output::Persist { mark, .. } => engine.handle(now, Input::Durable { mark }),
                        Output::OpenStream { stream, .. } => engine.handle(now, Input::StreamClosed { stream }),
                        _ => {}
                    }
                }
            }
            for (from, to, bytes) in mail {
                let Some(index) = (0..=PEERS).find(|peer| addr(*peer) == to) else { continue };
                if index == 0 {
                    let opened = tap.open(&bytes).expect("peers seal with the same key");
                    script::put(&mut script, BODY + OPERATIONS * (from - 1), &opened.body);
                }
                engines[usize::from(index)].handle(now, Input::Datagram { from: addr(from), bytes });
            }
        }
        script::put(&mut script, WAIT, &[STEP_MS as u8]);
        now = later(now, STEP_MS);
        engines.iter_mut().for_each(|engine| engine.handle(now, Input::Tick));
    }
    script
}

struct World {
    engine: Engine,
    now: Now,
    rng: ChaCha12Rng,
    /// By the peer's number.
    sealers: BTreeMap<u8, Sealer>,
    streams: Vec<Stream>,
    accepted: u64,
}

/// A stream as its other end sees it.
struct Stream {
    id: StreamId,
    peer: u8,
    /// None until the engine has spoken on a stream it opened.
    seal: Option<StreamSeal>,
    reader: FrameReader,
}

impl World {
    fn new() -> Self {
        let now = Now { ns: 0, wall_ms: WALL_MS };
        let sealer = |peer| (peer, Sealer::new(&config(0).label, Some(ring()), start(peer, now).me().node, 9));
        Self {
            engine: start(0, now),
            now,
            rng: ChaCha12Rng::seed_from_u64(1),
            sealers: (1..=PEERS).map(sealer).collect(),
            streams: Vec::new(),
            accepted: 0,
        }
    }

    fn handle(&mut self, input: Input) {
        self.engine.handle(self.now, input);
    }

    fn sealer(&mut self, peer: u8) -> &mut Sealer {
        self.sealers.get_mut(&peer).expect("each peer has one")
    }

    fn body(&mut self, peer: u8, body: &[u8]) {
        let body = &body[..body.len().min(mail::PART_BYTES_MAX)];
        let mut rng = self.rng.clone();
        let bytes = self.sealer(peer).seal(&mut rng, body);
        self.rng = rng;
        self.handle(Input::Datagram { from: addr(peer), bytes });
    }

    /// Says a frame on the newest stream with the peer, or on one that the peer opens for it.
    fn frame(&mut self, peer: u8, body: &[u8], trace: &mut Trace) {
        if !self.streams.iter().any(|stream| stream.peer == peer && stream.seal.is_some()) {
            self.accepted += 2;
            let id = StreamId(self.accepted);
            let mut rng = self.rng.clone();
            let seal = Some(StreamSeal::open(self.sealer(peer), &mut rng));
            self.rng = rng;
            self.streams.push(Stream { id, peer, seal, reader: FrameReader::default() });
            self.handle(Input::StreamAccepted { stream: id, peer: addr(peer) });
            self.settle(trace);
        }
        let stream = self.streams.iter_mut().rev().find(|stream| stream.peer == peer && stream.seal.is_some());
        // The engine may have closed it at once.
        let Some(Stream { seal: Some(seal), .. }) = stream else { return };
        let sealed = seal.seal(&self.sealers[&peer], &mut self.rng, body, false);
        let mut bytes = BytesMut::new();
        put_frame(&mut bytes, &sealed);
        self.stream_bytes(peer, bytes.freeze());
    }

    fn stream_bytes(&mut self, peer: u8, bytes: Bytes) {
        let stream = self.streams.iter().rev().find(|stream| stream.peer == peer).map(|stream| stream.id);
        if let Some(stream) = stream {
            self.handle(Input::StreamBytes { stream, bytes });
        }
    }

    fn close(&mut self, peer: u8) {
        if let Some(at) = self.streams.iter().rposition(|stream| stream.peer == peer) {
            let stream = self.streams.remove(at).id;
            self.handle(Input::StreamClosed { stream });
        }
    }

    /// Lets time pass, with a turn at each deadline on the way.
    fn wait(&mut self, ms: u64, trace: &mut Trace) {
        let end = later(self.now, ms);
        for _ in 0..TURNS_MAX {
            let Some(due) = self.engine.deadline().filter(|due| *due <= end.ns) else { break };
            let ns = due.max(self.now.ns);
            self.now = Now { ns, wall_ms: WALL_MS + ns / 1_000_000 };
            self.handle(Input::Tick);
            self.settle(trace);
        }
        self.now = end;
    }

    /// Does what the engine wants, and takes the turns that are due, until it wants nothing more; that comes to an end.
    fn settle(&mut self, trace: &mut Trace) {
        let mut outputs = 0;
        let mut turns = 0;
        loop {
            while let Some(output) = self.engine.poll() {
                outputs += 1;
                assert!(outputs < OUTPUTS_MAX, "one step has no end of outputs");
                trace.see(("output", discriminant(&output)));
                self.output(output, trace);
            }
            if self.engine.deadline().is_none_or(|due| due > self.now.ns) {
                break;
            }
            turns += 1;
            assert!(turns < TURNS_MAX, "a deadline that does not pass");
            self.handle(Input::Tick);
        }
        for reason in self.engine.counters().dropped.keys() {
            trace.see(("dropped", reason));
        }
        trace.see(("ready", self.engine.is_ready(), self.engine.membership().alive()));
    }

    fn output(&mut self, output: Output, trace: &mut Trace) {
        match output {
            Output::Datagram { bytes, .. } => assert!(bytes.len() <= DATAGRAM_BYTES_MAX, "a datagram of {} bytes", bytes.len()),
            Output::OpenStream { stream, to } => match (1..=PEERS).find(|peer| addr(*peer) == to) {
                Some(peer) => {
                    self.streams.push(Stream { id: stream, peer, seal: None, reader: FrameReader::default() });
                    self.handle(Input::StreamConnected { stream });
                }
                None => self.handle(Input::StreamClosed { stream }),
            },
            Output::StreamBytes { stream, bytes } => {
                self.heard(stream, &bytes, trace);
                self.handle(Input::StreamDrained { stream });
            }
            Output::CloseStream { stream } => {
                self.streams.retain(|open| open.id != stream);
                self.handle(Input::StreamClosed { stream });
            }
            Output::Persist { mark, .. } => self.handle(Input::Durable { mark }),
            Output::Reply { outcome, .. } => trace.see(("reply", outcome.is_ok())),
            Output::View(_) | Output::Stopped | Output::WanDatagram { .. } | Output::OpenWanStream { .. } => {}
        }
    }

    /// What the engine says on a stream is in order and whole.
    fn heard(&mut self, id: StreamId, bytes: &[u8], trace: &mut Trace) {
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.id == id) else { return };
        let sealer = self.sealers.get_mut(&stream.peer).expect("each peer has one");
        stream.reader.push(bytes);
        while let Some(frame) = stream.reader.pop().expect("an engine writes frames of good length") {
            let said = match &mut stream.seal {
                Some(seal) => seal.take(sealer, &frame).expect("an engine speaks in order"),
                None => {
                    let (seal, first) = StreamSeal::accept(sealer, &frame).expect("an engine opens streams well");
                    stream.seal = Some(seal);
                    first
                }
            };
            super::frame_body(&said.body, trace);
        }
    }
}

pub const WALL_MS: u64 = 1_790_000_000_000;

fn start(index: u8, now: Now) -> Engine {
    Engine::new(config(index), Restored::default(), [index + 1; 32], now)
}

pub fn config(index: u8) -> EngineConfig {
    let node = NodeConfig {
        name: NodeName::new(&format!("n{index}")).expect("a plain name"),
        datacenter: Datacenter::new("dc1").expect("a plain name"),
        zone: None,
        advertise: addr(index),
        http_port: None,
        dns_port: None,
        version: "1".into(),
        metadata: Vec::new(),
    };
    EngineConfig { keys: vec![KEY], ..EngineConfig::lan(node) }
}

fn ring() -> Keyring {
    Keyring::new(Key::from_bytes(KEY))
}

fn addr(index: u8) -> SocketAddr {
    ([10, 0, 0, index + 1], 7_976).into()
}

fn later(now: Now, ms: u64) -> Now {
    Now { ns: now.after_ms(ms), wall_ms: now.wall_ms + ms }
}

/// A body of one part: its length, a varint, before it.
fn with_length(part: &[u8]) -> Vec<u8> {
    let length = part.len().min(mail::PART_BYTES_MAX);
    let mut body = if length < 0x80 { vec![length as u8] } else { vec![length as u8 | 0x80, (length >> 7) as u8] };
    body.extend_from_slice(&part[..length]);
    body
}
