//! What is counted, as OpenMetrics text: `tidings_<room>_<thing>_<unit>[_total]`.
//!
//! Listeners register metrics of their own at the handle; what the engine and its driver count is read from them when somebody asks.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

mod engine;

pub use engine::sample;

/// The values of one moment.
pub type Sample = Vec<Value>;

/// One value with its name; values of one name stand side by side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    pub name: &'static str,
    pub help: &'static str,
    pub label: Option<(&'static str, &'static str)>,
    pub kind: Kind,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Rises only.
    Counter,
    Gauge,
}

impl Value {
    pub fn counter(name: &'static str, help: &'static str, value: u64) -> Value {
        Value { name, help, label: None, kind: Kind::Counter, value }
    }

    pub fn gauge(name: &'static str, help: &'static str, value: u64) -> Value {
        Value { name, help, label: None, kind: Kind::Gauge, value }
    }

    #[must_use]
    pub fn labelled(mut self, name: &'static str, value: &'static str) -> Value {
        self.label = Some((name, value));
        self
    }
}

impl Value {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        match self.kind {
            Kind::Counter => ConstCounter::new(self.value).encode(encoder),
            Kind::Gauge => ConstGauge::new(self.value).encode(encoder),
        }
    }
}

/// The registered metrics and a sample as one text.
pub fn encode(registry: &Registry, sample: Sample) -> String {
    let mut sampled = Registry::default();
    sampled.register_collector(Box::new(Sampled(sample)));
    let mut text = String::new();
    let written = prometheus_client::encoding::text::encode_registry(&mut text, registry)
        .and_then(|()| prometheus_client::encoding::text::encode_registry(&mut text, &sampled))
        .and_then(|()| prometheus_client::encoding::text::encode_eof(&mut text));
    written.expect("a string takes all that is written to it");
    text
}

#[derive(Debug)]
struct Sampled(Sample);

impl Collector for Sampled {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for values in self.0.chunk_by(|a, b| a.name == b.name) {
            let Some(first) = values.first() else { continue };
            let kind = match first.kind {
                Kind::Counter => ConstCounter::new(0_u64).metric_type(),
                Kind::Gauge => ConstGauge::new(0_u64).metric_type(),
            };
            let mut family = encoder.encode_descriptor(first.name, first.help, None, kind)?;
            if first.label.is_none() {
                first.encode(family)?;
                continue;
            }
            for value in values {
                let label: Vec<_> = value.label.into_iter().collect();
                value.encode(family.encode_family(&label)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;

    #[test]
    fn registered_and_sampled_metrics_stand_in_one_text() {
        let mut registry = Registry::default();
        let requests: Counter = Counter::default();
        requests.inc_by(3);
        registry.register("tidings_api_requests", "Requests", requests);
        let sample = vec![
            Value::counter("tidings_engine_dropped", "Dropped", 2).labelled("reason", "label"),
            Value::counter("tidings_engine_dropped", "Dropped", 5).labelled("reason", "replayed"),
            Value::gauge("tidings_members", "Members", 4),
        ];
        let text = encode(&registry, sample);
        for line in [
            "tidings_api_requests_total 3",
            "tidings_engine_dropped_total{reason=\"label\"} 2",
            "tidings_engine_dropped_total{reason=\"replayed\"} 5",
            "# TYPE tidings_members gauge",
            "tidings_members 4",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# TYPE tidings_engine_dropped ").count(), 1);
        assert!(text.ends_with("# EOF\n"));
    }
}
