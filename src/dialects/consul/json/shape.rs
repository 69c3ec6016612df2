//! The answers' elements as filters see them: Consul's selectors and their types. Indexes cannot be filtered by, as in Consul.

use crate::dialects::consul::filter::shape::Shape::{self, Flag, List, Map, Number, Struct, Text};

const ENDPOINT: Shape = Struct(&[("Address", Text), ("Port", Number)]);
const WEIGHTS: Shape = Struct(&[("Passing", Number), ("Warning", Number)]);
const CONNECT: Shape = Struct(&[("Native", Flag)]);
const GATEWAY: Shape = Struct(&[("Mode", Text)]);
const PROXY: Shape = Struct(&[
    ("DestinationServiceName", Text),
    ("DestinationServiceID", Text),
    ("LocalServiceAddress", Text),
    ("LocalServicePort", Number),
    ("MeshGateway", GATEWAY),
]);

pub const NODE: Shape =
    Struct(&[("ID", Text), ("Node", Text), ("Address", Text), ("Datacenter", Text), ("TaggedAddresses", Map(&Text)), ("Meta", Map(&Text))]);

/// `Service` of health answers, and what agents and `catalog/node` list.
pub const SERVICE: Shape = Struct(&[
    ("Kind", Text),
    ("ID", Text),
    ("Service", Text),
    ("Tags", List(&Text)),
    ("Address", Text),
    ("TaggedAddresses", Map(&ENDPOINT)),
    ("Meta", Map(&Text)),
    ("Port", Number),
    ("Weights", WEIGHTS),
    ("EnableTagOverride", Flag),
    ("Proxy", PROXY),
    ("Connect", CONNECT),
]);

pub const CHECK: Shape = Struct(&[
    ("Node", Text),
    ("CheckID", Text),
    ("Name", Text),
    ("Status", Text),
    ("Notes", Text),
    ("Output", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", List(&Text)),
    ("Type", Text),
]);

pub const SERVICE_ENTRY: Shape = Struct(&[("Node", NODE), ("Service", SERVICE), ("Checks", List(&CHECK))]);

pub const CATALOG_SERVICE: Shape = Struct(&[
    ("ID", Text),
    ("Node", Text),
    ("Address", Text),
    ("Datacenter", Text),
    ("TaggedAddresses", Map(&Text)),
    ("NodeMeta", Map(&Text)),
    ("ServiceKind", Text),
    ("ServiceID", Text),
    ("ServiceName", Text),
    ("ServiceTags", List(&Text)),
    ("ServiceAddress", Text),
    ("ServiceTaggedAddresses", Map(&ENDPOINT)),
    ("ServiceWeights", WEIGHTS),
    ("ServiceMeta", Map(&Text)),
    ("ServicePort", Number),
    ("ServiceEnableTagOverride", Flag),
    ("ServiceProxy", PROXY),
    ("ServiceConnect", CONNECT),
]);
