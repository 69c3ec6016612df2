//! A small HTTP/1.1 client for tests: one connection a request, one deadline over all of it, sockets that may come out of a
//! host, and server-sent events. It knows what the agents' servers send: a length, chunks, or the end of the connection.

use std::fmt::Write as _;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::resident::Resident;

const HEAD_BYTES_MAX: usize = 64 << 10;
const BODY_BYTES_MAX: usize = 256 << 20;
const READ_BYTES: usize = 64 << 10;
/// For requests that are expected to be answered.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Where one agent's HTTP listens, and from where it is asked.
#[derive(Clone)]
pub struct Http {
    from: Arc<Resident>,
    pub address: SocketAddr,
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// # Panics
    /// When the body is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("not JSON ({e}): {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, String::from_utf8_lossy(&self.body[..self.body.len().min(2_000)]))
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum Failure {
    /// No connection: the request has certainly not been executed.
    NotSent(io::Error),
    /// It may have been executed.
    Unanswered(io::Error),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::NotSent(e) => write!(f, "no connection: {e}"),
            Failure::Unanswered(e) => write!(f, "no answer: {e}"),
        }
    }
}

impl Http {
    pub fn new(from: Arc<Resident>, address: SocketAddr) -> Http {
        Http { from, address }
    }

    /// One request. `body` is sent as JSON.
    pub fn send(&self, method: &str, path: &str, body: Option<&Value>, patience: Duration) -> Result<Answer, Failure> {
        let mut connection = self.open(method, path, body, Instant::now() + patience)?;
        connection.answer().map_err(Failure::Unanswered)
    }

    pub fn get(&self, path: &str) -> Result<Answer, Failure> {
        self.send("GET", path, None, PATIENCE)
    }

    /// The body of a 200 or 201 answer; everything else as text.
    pub fn json(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        match self.send(method, path, body, PATIENCE) {
            Ok(answer) if matches!(answer.status, 200 | 201) => Ok(answer.json()),
            Ok(answer) => Err(format!("{method} {path}: {answer}")),
            Err(failure) => Err(format!("{method} {path}: {failure}")),
        }
    }

    /// Opens a stream of server-sent events.
    pub fn events(&self, path: &str) -> Result<Events, Failure> {
        let mut connection = self.open("GET", path, None, Instant::now() + PATIENCE)?;
        let (status, headers) = connection.head().map_err(Failure::Unanswered)?;
        if status != 200 {
            return Err(Failure::Unanswered(io::Error::other(format!("status {status}"))));
        }
        Ok(Events { framing: framing(&headers), connection, text: Vec::new() })
    }

    fn open(&self, method: &str, path: &str, body: Option<&Value>, deadline: Instant) -> Result<Connection, Failure> {
        let socket = self.from.tcp_socket(self.address).map_err(Failure::NotSent)?;
        let patience = left(deadline).map_err(Failure::NotSent)?;
        socket.connect_timeout(&self.address.into(), patience).map_err(Failure::NotSent)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nodelay(true).map_err(Failure::NotSent)?;
        stream.set_write_timeout(Some(patience)).map_err(Failure::NotSent)?;

        let body = body.map(Value::to_string).unwrap_or_default();
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.address);
        if !body.is_empty() {
            let _ = write!(request, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
        } else if method != "GET" {
            request.push_str("content-length: 0\r\n");
        }
        request.push_str("\r\n");
        request.push_str(&body);
        stream.write_all(request.as_bytes()).map_err(Failure::Unanswered)?;
        Ok(Connection { stream, buffer: Vec::new(), deadline })
    }
}

/// How the end of a body is told.
#[derive(Clone, Copy)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

fn framing(headers: &[(String, String)]) -> Framing {
    let header = |name| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return Framing::Chunked;
    }
    header("content-length").and_then(|value| value.parse().ok()).map_or(Framing::UntilClose, Framing::Length)
}

struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    deadline: Instant,
}

impl Connection {
    fn answer(&mut self) -> io::Result<Answer> {
        let (status, headers) = self.head()?;
        let bodiless = matches!(status, 204 | 304);
        let framing = if bodiless { Framing::Length(0) } else { framing(&headers) };
        let mut body = Vec::new();
        match framing {
            Framing::Length(length) => body = self.exactly(length)?,
            Framing::Chunked => {
                while let Some(chunk) = self.chunk()? {
                    body.extend_from_slice(&chunk);
                }
            }
            Framing::UntilClose => {
                while self.fill()? > 0 {}
                body.append(&mut self.buffer);
            }
        }
        Ok(Answer { status, headers, body })
    }

    fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let status_line = self.line()?;
        let status = status_line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status line: {status_line:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    /// The next chunk of a chunked body; `None` after the last. Takes nothing until the chunk is whole: a reader of events may
    /// run out of patience in the middle of one and come back.
    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]);
                let length = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
                let length = length.map_err(|_| io::Error::other(format!("no chunk length: {line:?}")))?;
                let whole = (end + 2).saturating_add(length).saturating_add(2);
                if whole > BODY_BYTES_MAX {
                    return Err(io::Error::other("a chunk too large for a test"));
                }
                if self.buffer.len() >= whole {
                    let chunk = self.exactly(whole)?;
                    return Ok((length > 0).then(|| chunk[end + 2..end + 2 + length].to_vec()));
                }
            } else if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a chunk length without end"));
            }
            self.more()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).take(end).collect();
                return String::from_utf8(line).map_err(io::Error::other);
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(io::Error::other("a line without end"));
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        if length > BODY_BYTES_MAX {
            return Err(io::Error::other("a body too large for a test"));
        }
        while self.buffer.len() < length {
            self.more()?;
        }
        let rest = self.buffer.split_off(length);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    /// Reads on; the end of the connection is an error.
    fn more(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        let mut bytes = [0; READ_BYTES];
        let length = self.stream.read(&mut bytes)?;
        self.buffer.extend_from_slice(&bytes[..length]);
        Ok(length)
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// An open stream of server-sent events.
pub struct Events {
    connection: Connection,
    framing: Framing,
    /// Bytes of events that are not complete yet.
    text: Vec<u8>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    pub name: String,
    pub id: String,
    pub data: String,
}

impl Event {
    /// # Panics
    /// When the data is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|e| panic!("not JSON ({e}): {self:?}"))
    }
}

impl Events {
    /// The next event, comments left out; an error of kind `TimedOut` or `WouldBlock` when none comes in time.
    pub fn next(&mut self, patience: Duration) -> io::Result<Event> {
        self.connection.deadline = Instant::now() + patience;
        loop {
            while let Some(end) = self.text.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.text.drain(..end + 2).collect();
                if let Some(event) = parse(&String::from_utf8_lossy(&block)) {
                    return Ok(event);
                }
            }
            let bytes = match self.framing {
                Framing::Chunked => self.connection.chunk()?.ok_or(io::ErrorKind::UnexpectedEof)?,
                Framing::Length(_) | Framing::UntilClose => {
                    if self.connection.buffer.is_empty() {
                        self.connection.more()?;
                    }
                    std::mem::take(&mut self.connection.buffer)
                }
            };
            self.text.extend_from_slice(&bytes);
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event::default();
    let mut data: Vec<&str> = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.name = value.to_owned(),
            "id" => event.id = value.to_owned(),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    (event != Event::default()).then_some(event)
}
