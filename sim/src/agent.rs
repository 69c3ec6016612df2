//! The engine of tidings as a machine of the world: unmodified, with what the shell would hand it.

use crate::workload::service_name;
use crate::world::{Boot, Machine, World, wan_of};
use std::collections::BTreeSet;
use tidings::engine::Engine;
use tidings::engine::catalog::copy::{Collector, Copied};
use tidings::engine::config::{EngineConfig, Export, ExportPolicy, ExportRule, GatewayConfig, NodeConfig};
use tidings::engine::io::{Input, Output};
use tidings::model::names::{Datacenter, NodeName};
use tidings::model::time::Now;

/// Pieces are short, so that a copy is made of several.
const PIECE_BYTES: usize = 2_000;

/// The name of the datacenter of that number.
pub fn datacenter(number: u16) -> Datacenter {
    Datacenter::new(&format!("dc{}", number + 1)).expect("letters and digits are a name")
}

/// What an agent of that number is told, unless somebody says otherwise.
pub fn config(number: u32) -> EngineConfig {
    config_in(number, 0)
}

/// The same, in the datacenter of that number.
pub fn config_in(number: u32, of: u16) -> EngineConfig {
    EngineConfig::lan(NodeConfig {
        name: NodeName::new(&format!("host-{number}")).expect("letters and digits are a name"),
        datacenter: datacenter(of),
        zone: None,
        advertise: World::<Engine>::address_of(number),
        http_port: Some(8_500),
        dns_port: None,
        version: "simulated".into(),
        metadata: Vec::new(),
    })
}

/// What makes an agent of that number a gateway, which keeps these services at home.
pub fn gateway(number: u32, key: Option<[u8; 32]>, edition: u16, kept: &BTreeSet<u32>, otherwise: Export) -> GatewayConfig {
    let mut config = GatewayConfig::wan("simulated", wan_of(World::<Engine>::address_of(number)));
    config.keys.extend(key);
    config.export = export(edition, kept, otherwise);
    config
}

/// All services cross alike but these: of every other one of them a summary does, or, where summaries are what crosses, all of it.
pub fn export(edition: u16, kept: &BTreeSet<u32>, otherwise: Export) -> ExportPolicy {
    let unlike = if otherwise == Export::Full { Export::Summary } else { Export::Full };
    let word = |service: u32| if service.is_multiple_of(2) { unlike } else { Export::None };
    let rule = |service: &u32| ExportRule { namespace: None, service: service_name(*service).to_string(), export: word(*service) };
    ExportPolicy { edition, rules: kept.iter().map(rule).collect(), otherwise }
}

impl Machine for Engine {
    type Config = EngineConfig;

    fn start(config: &EngineConfig, boot: Boot) -> Self {
        let mut config = config.clone();
        config.node.advertise = boot.address;
        if let Some(gateway) = &mut config.gateway {
            gateway.advertise = wan_of(boot.address);
        }
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
