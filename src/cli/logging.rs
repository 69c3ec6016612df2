//! Logs to standard error: text on a terminal, JSON elsewhere.
//!
//! Lines go through a bounded channel to a thread that writes them: whoever does not read our standard error must not stop the engine.

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::{Exit, Failure};
use crate::settings::{Log, LogFormat};

/// Lines that wait to be written; more are dropped, counted, and owned up to.
const LINES_MAX: usize = 4_096;

/// The logs of this process; what waits is written when this is dropped.
pub struct Logging {
    in_force: Mutex<String>,
    filter: reload::Handle<EnvFilter, tracing_subscriber::Registry>,
    pub is_json: bool,
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

impl Logging {
    /// Starts them, once a process.
    pub fn start(settings: &Log) -> Result<Logging, Failure> {
        let filter = parse(&settings.filter)?;
        let is_json = match settings.format {
            LogFormat::Auto => !io::stderr().is_terminal(),
            LogFormat::Text => false,
            LogFormat::Json => true,
        };
        let (sender, receiver) = sync_channel(LINES_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let lines = Lines { sender: Some(sender), dropped: Arc::clone(&dropped) };
        let writer = std::thread::Builder::new()
            .name("tidings-log".to_owned())
            .spawn(move || write_lines(&receiver, &dropped))
            .map_err(|why| Failure::failed(format!("no thread for the logs: {why}")))?;
        let (filter, handle) = reload::Layer::new(filter);
        let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone());
        let registry = tracing_subscriber::registry().with(filter);
        let started = if is_json {
            registry.with(layer.json().flatten_event(true)).try_init()
        } else {
            registry.with(layer.with_ansi(io::stderr().is_terminal()).with_target(false)).try_init()
        };
        started.map_err(|why| Failure::failed(format!("the logs cannot be started: {why}")))?;
        Ok(Logging { in_force: Mutex::new(settings.filter.clone()), filter: handle, is_json, lines, writer: Some(writer) })
    }

    /// Counts from now on. Says whether it is another one than before.
    pub fn set_filter(&self, settings: &Log) -> Result<bool, Failure> {
        let filter = parse(&settings.filter)?;
        self.filter.reload(filter).map_err(Failure::failed)?;
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        let is_other = *in_force != settings.filter;
        in_force.clone_from(&settings.filter);
        Ok(is_other)
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        // The subscriber lives as long as the process: an empty line asks the thread to end.
        if let Some(sender) = self.lines.sender.take() {
            let _ = sender.send(Vec::new());
        }
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

fn parse(filter: &str) -> Result<EnvFilter, Failure> {
    EnvFilter::builder()
        .parse(filter)
        .map_err(|why| Failure::new(Exit::Usage, format!("log.filter is {filter:?}: {why}\nTry info, or tidings::agent=debug,info.")))
}

fn write_lines(lines: &Receiver<Vec<u8>>, dropped: &AtomicU64) {
    let mut told = 0;
    for line in lines {
        if line.is_empty() {
            return;
        }
        let mut out = io::stderr().lock();
        // Where standard error is gone there is nowhere to say so.
        let _ = out.write_all(&line);
        let lost = dropped.load(Ordering::Relaxed);
        if lost > told {
            let _ = writeln!(out, "{{\"level\":\"WARN\",\"message\":\"{} log lines were not read in time and are lost\"}}", lost - told);
            told = lost;
        }
    }
}

#[derive(Clone)]
struct Lines {
    sender: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line { bytes: Vec::new(), lines: self.clone() }
    }
}

/// One line while it is written.
struct Line {
    bytes: Vec<u8>,
    lines: Lines,
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let Some(sender) = &self.lines.sender else { return };
        if !bytes.is_empty() && sender.try_send(bytes).is_err() {
            self.lines.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}
