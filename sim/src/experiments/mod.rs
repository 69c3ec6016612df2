//! Experiments: figures of whole clusters that machines at hand cannot measure. Each is one command, prints a table, and JSON on demand.

pub mod acquainted;
pub mod deaths;
pub mod detect;
pub mod lifeguard;
pub mod plot;
pub mod rapid;
pub mod repair;
pub mod scale;
pub mod spread;
pub mod storm;
pub mod wan_cut;
mod watch;

/// A sample's middle, its 99th and 99.9th percentile and its largest.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Summary {
    pub count: usize,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

impl Summary {
    /// None of an empty sample.
    pub fn of(sample: &[f64]) -> Option<Self> {
        let mut sorted = sample.to_vec();
        sorted.sort_by(f64::total_cmp);
        let rank = |share: f64| sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1];
        (!sorted.is_empty()).then(|| Self { count: sorted.len(), p50: rank(0.5), p99: rank(0.99), p999: rank(0.999), max: rank(1.0) })
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1}  p99 {:.1}  max {:.1}  (of {})", self.p50, self.p99, self.max, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_members_of_the_sample() {
        let sample: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(Summary::of(&sample), Some(Summary { count: 200, p50: 100.0, p99: 198.0, p999: 200.0, max: 200.0 }));
        assert_eq!(Summary::of(&[7.0]).map(|summary| summary.p99), Some(7.0));
        assert_eq!(Summary::of(&[]), None);
    }
}
