//! The engine of tidings as a machine of the world: unmodified, with what the shell would hand it.

use crate::world::{Boot, Machine, World};
use tidings::engine::Engine;
use tidings::engine::catalog::copy::{Collector, Copied};
use tidings::engine::config::{EngineConfig, NodeConfig};
use tidings::engine::io::{Input, Output};
use tidings::model::names::{Datacenter, NodeName};
use tidings::model::time::Now;

/// Pieces are short, so that a copy is made of several.
const PIECE_BYTES: usize = 2_000;

/// What an agent of that number is told, unless somebody says otherwise.
pub fn config(number: u32) -> EngineConfig {
    EngineConfig::lan(NodeConfig {
        name: NodeName::new(&format!("host-{number}")).expect("letters and digits are a name"),
        datacenter: Datacenter::new("dc1").expect("letters and digits are a name"),
        zone: None,
        advertise: World::<Engine>::address_of(number),
        http_port: Some(8_500),
        dns_port: None,
        version: "simulated".into(),
        metadata: Vec::new(),
    })
}

impl Machine for Engine {
    type Config = EngineConfig;

    fn start(config: &EngineConfig, boot: Boot) -> Self {
        let mut config = config.clone();
        config.node.advertise = boot.address;
        Engine::new(config, boot.restored, boot.seed, boot.now)
    }

    fn handle(&mut self, now: Now, input: Input) {
        Engine::handle(self, now, input);
    }

    fn poll(&mut self) -> Option<Output> {
        Engine::poll(self)
    }

    fn deadline(&self) -> Option<u64> {
        Engine::deadline(self)
    }

    fn copies(&self) -> Vec<Copied> {
        let (mut reader, mut collector) = (self.catalog().copy(), Collector::default());
        while let Some(piece) = reader.next(self.catalog(), PIECE_BYTES) {
            collector.take(piece);
        }
        collector.finish()
    }
}
