//! Streams between agents as the driver sees them: numbers, bytes, ends. Each is a TCP connection with a task that pumps it.
//!
//! All buffers are bounded: what comes waits in the connection until the engine has taken what came before; what leaves is bounded a
//! stream, and a stream whose peer does not read is closed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use crate::engine::io::{Input, Output, StreamId};

/// Streams that peers opened, at once; more are closed unheard.
const ACCEPTED_MAX: usize = 128;
/// Events that wait for the engine, of all streams together; each holds at most one read.
const EVENTS_MAX: usize = 64;
const READ_BYTES: usize = 64 << 10;
/// Pieces and bytes handed out to one stream and not written yet.
const PIECES_MAX: usize = 1_024;
const UNWRITTEN_BYTES_MAX: usize = 16 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A stream on which nothing moves, either way, for so long is over.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// After our last byte: how long the peer may take to read it.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);

/// What happens on streams, on its way to the engine.
#[derive(Debug)]
enum Event {
    Accepted {
        pool: Pool,
        connection: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
    },
    Connected {
        stream: StreamId,
    },
    Bytes {
        stream: StreamId,
        bytes: Bytes,
    },
    /// So many bytes of this stream were written in all.
    Written {
        stream: StreamId,
        total: u64,
    },
    Closed {
        stream: StreamId,
    },
}

/// Whose streams a listener takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// Agents of the same datacenter.
    Local,
    /// Gateways of other datacenters.
    Gateways,
}

/// The driver's side of all streams.
pub struct Streams {
    open: HashMap<StreamId, Open>,
    events: mpsc::Receiver<Event>,
    sender: mpsc::Sender<Event>,
    /// Where connections are pumped: not on the engine's thread.
    runtime: tokio::runtime::Handle,
    accepted: u64,
    /// Streams that were closed because their peer did not read.
    pub stalled: u64,
}

/// What the driver keeps of an open stream.
struct Open {
    pieces: mpsc::Sender<Bytes>,
    handed: u64,
    written: u64,
}

impl Streams {
    /// Accepts from now on, with tasks on `runtime`.
    ///
    /// # Errors
    /// The listener cannot be watched.
    pub fn new(listener: std::net::TcpListener, runtime: tokio::runtime::Handle) -> std::io::Result<Streams> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let streams = Streams { open: HashMap::new(), events, sender, runtime, accepted: 0, stalled: 0 };
        streams.listen(listener, Pool::Local)?;
        Ok(streams)
    }

    /// Accepts at a further listener.
    ///
    /// # Errors
    /// As [`Streams::new`].
    pub fn listen(&self, listener: std::net::TcpListener, pool: Pool) -> std::io::Result<()> {
        let _here = self.runtime.enter();
        tokio::spawn(accept(TcpListener::from_std(listener)?, pool, self.sender.clone()));
        Ok(())
    }

    /// The next input for the engine.
    pub async fn next(&mut self) -> Input {
        loop {
            let event = self.events.recv().await.expect("this side holds a sender as well");
            if let Some(input) = self.input(event) {
                return input;
            }
        }
    }

    /// The next input that is there already.
    pub fn try_next(&mut self) -> Option<Input> {
        loop {
            let event = self.events.try_recv().ok()?;
            if let Some(input) = self.input(event) {
                return Some(input);
            }
        }
    }

    /// Carries out what the engine wants of a stream; other outputs come back.
    pub fn output(&mut self, output: Output) -> Option<Output> {
        match output {
            // Sealed by the engine with the gateways' key. All datacenters have that one: which of them a peer is of, it says itself.
            Output::OpenStream { stream, to } | Output::OpenWanStream { stream, to, .. } => self.connect(stream, to),
            Output::StreamBytes { stream, bytes } => self.write(stream, bytes),
            Output::CloseStream { stream } => {
                // The task writes what it was handed before, then ends.
                self.open.remove(&stream);
            }
            other => return Some(other),
        }
        None
    }

    fn input(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Accepted { pool, connection, peer, permit } => {
                self.accepted += 1;
                // Even numbers are the driver's.
                let stream = StreamId(self.accepted * 2);
                let pump = self.pump(stream);
                self.runtime.spawn(async move {
                    pump.run(connection).await;
                    drop(permit);
                });
                Some(match pool {
                    Pool::Local => Input::StreamAccepted { stream, peer },
                    Pool::Gateways => Input::WanStreamAccepted { stream, peer, datacenter: None },
                })
            }
            Event::Connected { stream } => self.open.contains_key(&stream).then_some(Input::StreamConnected { stream }),
            Event::Bytes { stream, bytes } => self.open.contains_key(&stream).then_some(Input::StreamBytes { stream, bytes }),
            Event::Written { stream, total } => {
                let open = self.open.get_mut(&stream)?;
                open.written = total;
                (open.written == open.handed).then_some(Input::StreamDrained { stream })
            }
            Event::Closed { stream } => self.open.remove(&stream).map(|_| Input::StreamClosed { stream }),
        }
    }

    fn connect(&mut self, stream: StreamId, to: SocketAddr) {
        let pump = self.pump(stream);
        self.runtime.spawn(async move {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await {
                Ok(Ok(connection)) => {
                    if pump.events.send(Event::Connected { stream }).await.is_ok() {
                        pump.run(connection).await;
                    }
                }
                Ok(Err(why)) => pump.failed(&to, &why).await,
                Err(why) => pump.failed(&to, &why).await,
            }
        });
    }

    fn pump(&mut self, stream: StreamId) -> Pump {
        let (pieces, queue) = mpsc::channel(PIECES_MAX);
        self.open.insert(stream, Open { pieces, handed: 0, written: 0 });
        Pump { stream, queue, events: self.sender.clone() }
    }

    fn write(&mut self, stream: StreamId, bytes: Bytes) {
        let Some(open) = self.open.get_mut(&stream) else { return };
        open.handed += bytes.len() as u64;
        let is_too_much = open.handed - open.written > UNWRITTEN_BYTES_MAX as u64;
        if is_too_much || open.pieces.try_send(bytes).is_err() {
            // Its pump ends for want of pieces; the engine hears of it like of any other end.
            tracing::debug!(stream = stream.0, "a peer does not read what it asked for");
            self.stalled += 1;
            open.pieces = mpsc::channel(1).0;
        }
    }
}

/// Takes connections as they come, as many as may be open.
async fn accept(listener: TcpListener, pool: Pool, events: mpsc::Sender<Event>) {
    let places = Arc::new(Semaphore::new(ACCEPTED_MAX));
    loop {
        let (connection, peer) = tokio::select! {
            () = events.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(why) => {
                    // Out of descriptors, or the peer was faster: the next one may do.
                    tracing::debug!(%why, "a stream could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let Ok(permit) = Arc::clone(&places).try_acquire_owned() else {
            tracing::debug!(%peer, "too many streams: one more is closed unheard");
            continue;
        };
        if events.send(Event::Accepted { pool, connection, peer, permit }).await.is_err() {
            return;
        }
    }
}

/// Moves the bytes of one connection.
struct Pump {
    stream: StreamId,
    queue: mpsc::Receiver<Bytes>,
    events: mpsc::Sender<Event>,
}

impl Pump {
    async fn failed(self, to: &SocketAddr, why: &(dyn std::error::Error + Sync)) {
        tracing::debug!(%to, %why, "a stream could not be opened");
        // The driver is gone only when the agent stops.
        let _ = self.events.send(Event::Closed { stream: self.stream }).await;
    }

    async fn run(mut self, mut connection: TcpStream) {
        let stream = self.stream;
        // Small frames go at once; a refusal costs delay, no more.
        let _ = connection.set_nodelay(true);
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut total = 0;
        loop {
            tokio::select! {
                piece = self.queue.recv() => {
                    let Some(piece) = piece else {
                        finish(connection).await;
                        break;
                    };
                    let written = timeout(IDLE_TIMEOUT, write_while_reading(&mut connection, &piece, &mut buffer, stream, &self.events)).await;
                    if !matches!(written, Ok(Ok(()))) {
                        break;
                    }
                    total += piece.len() as u64;
                    if self.queue.is_empty() && self.events.send(Event::Written { stream, total }).await.is_err() {
                        return;
                    }
                }
                read = connection.read_buf(&mut buffer) => {
                    let is_open = matches!(read, Ok(count) if count > 0);
                    if !is_open || self.events.send(Event::Bytes { stream, bytes: taken(&mut buffer) }).await.is_err() {
                        break;
                    }
                }
                () = tokio::time::sleep(IDLE_TIMEOUT) => break,
            }
        }
        let _ = self.events.send(Event::Closed { stream }).await;
    }
}

/// Writes a piece and goes on reading meanwhile: two agents that write to each other must not wait for each other.
async fn write_while_reading(
    connection: &mut TcpStream,
    piece: &[u8],
    buffer: &mut BytesMut,
    stream: StreamId,
    events: &mpsc::Sender<Event>,
) -> std::io::Result<()> {
    let (mut reader, mut writer) = connection.split();
    let write = writer.write_all(piece);
    tokio::pin!(write);
    loop {
        tokio::select! {
            done = &mut write => return done,
            read = reader.read_buf(buffer) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let event = Event::Bytes { stream, bytes: taken(buffer) };
                events.send(event).await.map_err(|_| std::io::ErrorKind::BrokenPipe)?;
            }
        }
    }
}

fn taken(buffer: &mut BytesMut) -> Bytes {
    let bytes = buffer.split().freeze();
    buffer.reserve(READ_BYTES);
    bytes
}

/// Says that nothing follows, and gives the peer time to read: closing at once would throw away what is on its way.
async fn finish(mut connection: TcpStream) {
    if connection.shutdown().await.is_err() {
        return;
    }
    let mut rest = vec![0; 4_096];
    let until_end = async { while matches!(connection.read(&mut rest).await, Ok(count) if count > 0) {} };
    // It ends or it does not: the connection is dropped either way.
    let _ = timeout(LINGER_TIMEOUT, until_end).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams() -> (Streams, SocketAddr) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (Streams::new(listener, tokio::runtime::Handle::current()).unwrap(), address)
    }

    async fn next(streams: &mut Streams) -> Input {
        timeout(Duration::from_secs(5), streams.next()).await.expect("something happens")
    }

    #[tokio::test]
    async fn bytes_cross_and_a_close_comes_after_them() {
        let (mut a, _) = streams();
        let (mut b, address) = streams();
        assert!(a.output(Output::OpenStream { stream: StreamId(1), to: address }).is_none());
        assert!(matches!(next(&mut a).await, Input::StreamConnected { stream: StreamId(1) }));
        let Input::StreamAccepted { stream, .. } = next(&mut b).await else { panic!("a stream is accepted") };
        assert_eq!(stream.0 % 2, 0);
        let piece = Bytes::from(vec![7; 3 << 20]);
        a.output(Output::StreamBytes { stream: StreamId(1), bytes: piece.clone() });
        a.output(Output::StreamBytes { stream: StreamId(1), bytes: Bytes::from_static(b"end") });
        a.output(Output::CloseStream { stream: StreamId(1) });
        let mut came = Vec::new();
        loop {
            match next(&mut b).await {
                Input::StreamBytes { bytes, .. } => came.extend_from_slice(&bytes),
                Input::StreamClosed { stream: closed } => break assert_eq!(closed, stream),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(came.len(), piece.len() + 3);
        assert!(came.ends_with(b"end"));
    }

    #[tokio::test]
    async fn drained_is_said_once_all_is_written_and_both_may_write_at_once() {
        let (mut a, _) = streams();
        let (mut b, address) = streams();
        a.output(Output::OpenStream { stream: StreamId(1), to: address });
        assert!(matches!(next(&mut a).await, Input::StreamConnected { .. }));
        let Input::StreamAccepted { stream, .. } = next(&mut b).await else { panic!("a stream is accepted") };
        // More than the kernel's buffers hold, both ways.
        let (mut left, mut right) = (8_u32, 8_u32);
        let piece = Bytes::from(vec![1; 1 << 20]);
        for _ in 0..8 {
            a.output(Output::StreamBytes { stream: StreamId(1), bytes: piece.clone() });
            b.output(Output::StreamBytes { stream, bytes: piece.clone() });
        }
        let (mut a_came, mut b_came) = (0, 0);
        let (mut a_drained, mut b_drained) = (false, false);
        while !(a_drained && b_drained && a_came == 8 << 20 && b_came == 8 << 20) {
            tokio::select! {
                input = a.next() => match input {
                    Input::StreamBytes { bytes, .. } => a_came += bytes.len(),
                    Input::StreamDrained { .. } => { a_drained = true; left -= 8 }
                    other => panic!("{other:?}"),
                },
                input = b.next() => match input {
                    Input::StreamBytes { bytes, .. } => b_came += bytes.len(),
                    Input::StreamDrained { .. } => { b_drained = true; right -= 8 }
                    other => panic!("{other:?}"),
                },
                () = tokio::time::sleep(Duration::from_secs(10)) => panic!("stuck at {a_came} and {b_came}"),
            }
        }
        assert_eq!((left, right), (0, 0), "drained once each");
    }

    #[tokio::test]
    async fn a_stream_that_cannot_be_opened_is_closed() {
        let (mut a, _) = streams();
        let nobody = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
        a.output(Output::OpenStream { stream: StreamId(1), to: nobody });
        assert!(matches!(next(&mut a).await, Input::StreamClosed { stream: StreamId(1) }));
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_costs_a_bounded_buffer() {
        let (mut a, _) = streams();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        a.output(Output::OpenStream { stream: StreamId(1), to: listener.local_addr().unwrap() });
        assert!(matches!(next(&mut a).await, Input::StreamConnected { .. }));
        let _deaf = listener.accept().await.unwrap();
        for _ in 0..=UNWRITTEN_BYTES_MAX >> 20 {
            a.output(Output::StreamBytes { stream: StreamId(1), bytes: Bytes::from(vec![0; 1 << 20]) });
        }
        assert_eq!(a.stalled, 1);
    }
}
