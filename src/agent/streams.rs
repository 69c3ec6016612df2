//! Streams between agents as the driver sees them: numbers, bytes, ends. Each is a TCP connection with a task that pumps it.
//!
//! All buffers are bounded: what comes waits in the connection until the engine has taken what came before; what leaves is bounded a
//! stream, and a stream whose peer does not read is closed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

use super::links::LinkTls;
use crate::engine::io::{Input, Output, StreamId};
use crate::model::names::Datacenter;

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

/// TCP, bare or with TLS around it.
trait Duplex: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Unpin> Duplex for T {}
type Connection = Box<dyn Duplex>;

/// What happens on streams, on its way to the engine.
#[derive(Debug)]
enum Event {
    Accepted {
        pool: Pool,
        connection: Connection,
        peer: SocketAddr,
        certified: Option<Datacenter>,
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
enum Pool {
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
    /// Certificates of links with other datacenters' gateways; none: they are sealed by the engine's key alone.
    links: Option<LinkTls>,
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
    pub fn new(listener: std::net::TcpListener, runtime: tokio::runtime::Handle) -> io::Result<Streams> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let streams = Streams { open: HashMap::new(), events, sender, links: None, runtime, accepted: 0, stalled: 0 };
        streams.listen(listener, Pool::Local)?;
        Ok(streams)
    }

    /// Accepts other datacenters' gateways as well; with `links`, over TLS only, and dials them so.
    ///
    /// # Errors
    /// As [`Streams::new`].
    pub fn listen_to_gateways(&mut self, listener: std::net::TcpListener, links: Option<LinkTls>) -> io::Result<()> {
        self.links = links;
        self.listen(listener, Pool::Gateways)
    }

    fn listen(&self, listener: std::net::TcpListener, pool: Pool) -> io::Result<()> {
        let _here = self.runtime.enter();
        let links = self.links.clone().filter(|_| pool == Pool::Gateways);
        tokio::spawn(accept(TcpListener::from_std(listener)?, pool, links, self.sender.clone()));
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
            Output::OpenStream { stream, to } => self.connect(stream, to, None),
            // Without certificates it is sealed by the engine all the same, with the gateways' key. All datacenters have that one: which
            // of them a peer is of, it then says itself.
            Output::OpenWanStream { stream, to, datacenter } => {
                let link = self.links.clone().map(|tls| Link { tls, datacenter });
                self.connect(stream, to, link);
            }
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
            Event::Accepted { pool, connection, peer, certified, permit } => {
                self.accepted += 1;
                // Even numbers are the driver's.
                let stream = StreamId(self.accepted * 2);
                let pump = self.pump(stream);
                self.runtime.spawn(async move {
                    // Why it broke, the engine need not know.
                    let _ = pump.run(connection).await;
                    drop(permit);
                });
                Some(match pool {
                    Pool::Local => Input::StreamAccepted { stream, peer },
                    Pool::Gateways => Input::WanStreamAccepted { stream, peer, datacenter: certified },
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

    fn connect(&mut self, stream: StreamId, to: SocketAddr, link: Option<Link>) {
        let pump = self.pump(stream);
        self.runtime.spawn(async move {
            let connection = match timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(why)) => return pump.failed(&to, &why).await,
                Err(why) => return pump.failed(&to, &why).await,
            };
            be_prompt(&connection);
            let Some(link) = link else {
                let _ = pump.connected(Box::new(connection)).await;
                return;
            };
            match link.tls.connect(connection, to, &link.datacenter).await {
                Some(connection) => {
                    if let Err(why) = pump.connected(Box::new(connection)).await {
                        link.tls.broken(to, &why);
                    }
                }
                // The reason is counted and said already.
                None => pump.closed().await,
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

/// Whom a link that is to be opened must lead to.
struct Link {
    tls: LinkTls,
    datacenter: Datacenter,
}

/// Small frames go at once; a refusal costs delay, no more.
fn be_prompt(connection: &TcpStream) {
    let _ = connection.set_nodelay(true);
}

/// Takes connections as they come, as many as may be open; with `links`, once they have shown their certificates.
async fn accept(listener: TcpListener, pool: Pool, links: Option<LinkTls>, events: mpsc::Sender<Event>) {
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
        be_prompt(&connection);
        let Some(links) = links.clone() else {
            let connection: Connection = Box::new(connection);
            if events.send(Event::Accepted { pool, connection, peer, certified: None, permit }).await.is_err() {
                return;
            }
            continue;
        };
        let Some(place) = links.place(peer) else { continue };
        let events = events.clone();
        tokio::spawn(async move {
            let shaken = links.accept(connection, peer).await;
            drop(place);
            if let Some((connection, datacenter)) = shaken {
                let event = Event::Accepted { pool, connection: Box::new(connection), peer, certified: Some(datacenter), permit };
                // The driver is gone only when the agent stops.
                let _ = events.send(event).await;
            }
        });
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
        self.closed().await;
    }

    async fn closed(self) {
        // The driver is gone only when the agent stops.
        let _ = self.events.send(Event::Closed { stream: self.stream }).await;
    }

    /// Tells that the stream stands, and pumps it until it ends.
    async fn connected(self, connection: Connection) -> io::Result<()> {
        match self.events.send(Event::Connected { stream: self.stream }).await {
            Ok(()) => self.run(connection).await,
            Err(_) => Ok(()),
        }
    }

    /// Pumps until either side has ended the stream.
    ///
    /// # Errors
    /// It broke: how.
    async fn run(mut self, connection: Connection) -> io::Result<()> {
        let outcome = self.carry(connection).await;
        self.closed().await;
        outcome
    }

    async fn carry(&mut self, mut connection: Connection) -> io::Result<()> {
        let stream = self.stream;
        let mut buffer = BytesMut::with_capacity(READ_BYTES);
        let mut total = 0;
        loop {
            tokio::select! {
                piece = self.queue.recv() => {
                    let Some(piece) = piece else {
                        finish(connection).await;
                        return Ok(());
                    };
                    let write = write_while_reading(&mut connection, &piece, &mut buffer, stream, &self.events);
                    timeout(IDLE_TIMEOUT, write).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
                    total += piece.len() as u64;
                    if self.queue.is_empty() && self.events.send(Event::Written { stream, total }).await.is_err() {
                        return Ok(());
                    }
                }
                read = connection.read_buf(&mut buffer) => {
                    if read? == 0 || self.events.send(Event::Bytes { stream, bytes: taken(&mut buffer) }).await.is_err() {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(IDLE_TIMEOUT) => return Ok(()),
            }
        }
    }
}

/// Writes a piece and goes on reading meanwhile: two agents that write to each other must not wait for each other.
async fn write_while_reading(
    connection: &mut Connection,
    piece: &[u8],
    buffer: &mut BytesMut,
    stream: StreamId,
    events: &mpsc::Sender<Event>,
) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let write = async {
        writer.write_all(piece).await?;
        // TLS keeps what the socket did not take.
        writer.flush().await
    };
    tokio::pin!(write);
    loop {
        tokio::select! {
            done = &mut write => return done,
            read = reader.read_buf(buffer) => {
                if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let event = Event::Bytes { stream, bytes: taken(buffer) };
                events.send(event).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
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
async fn finish(mut connection: Connection) {
    if connection.shutdown().await.is_err() {
        return;
    }
    let mut rest = vec![0; 4_096];
    let until_end = async { while matches!(connection.read(&mut rest).await, Ok(count) if count > 0) {} };
    // It ends or it does not: the connection is dropped either way.
    let _ = timeout(LINGER_TIMEOUT, until_end).await;
}

#[cfg(test)]
mod tests;
