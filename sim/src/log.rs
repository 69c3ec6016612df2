//! Logs of the engines: an ERROR fails the run it happens in; the rest is shown only when somebody asks.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

thread_local! {
    /// The first ERROR since somebody looked: one run has one thread.
    static ERROR: RefCell<Option<String>> = const { RefCell::new(None) };
    /// The virtual instant, for lines that are shown.
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// Listens for errors on all threads; with `shown`, prints everything down to that level.
pub fn listen(shown: Option<Level>) {
    // A second listener in one process, as in tests, changes nothing.
    let _ = tracing_subscriber::registry().with(Ear { shown }).try_init();
}

/// The first ERROR since the last call.
pub fn take_error() -> Option<String> {
    ERROR.with_borrow_mut(Option::take)
}

pub fn set_now(at: u64) {
    NOW.set(at);
}

struct Ear {
    shown: Option<Level>,
}

impl<S: Subscriber> Layer<S> for Ear {
    fn max_level_hint(&self) -> Option<tracing_subscriber::filter::LevelFilter> {
        Some(self.shown.unwrap_or(Level::ERROR).into())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut line = Line(String::new());
        event.record(&mut line);
        if level == Level::ERROR {
            ERROR.with_borrow_mut(|first| first.get_or_insert_with(|| format!("{}: {}", event.metadata().target(), line.0)).clone());
        }
        if self.shown.is_some_and(|shown| level <= shown) {
            eprintln!("{:>14} {level:>5} {}: {}", crate::world::trace::Instant(NOW.get()).to_string(), event.metadata().target(), line.0);
        }
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = if field.name() == "message" { write!(self.0, "{value:?} ") } else { write!(self.0, "{}={value:?} ", field.name()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_heard_once_and_a_warning_is_not() {
        listen(None);
        let _ = take_error();
        tracing::warn!("unusual");
        assert_eq!(take_error(), None);
        tracing::error!(seq = 7, "broken");
        assert!(take_error().is_some_and(|line| line.contains("broken") && line.contains("seq=7")));
        assert_eq!(take_error(), None);
    }
}
