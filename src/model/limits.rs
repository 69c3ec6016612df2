//! Limits of what people may register, each where every room can see it.
//!
//! Limits of packets, queues and tables stand beside what they bound; these are the ones that users meet.

/// A namespace: letters, digits, `_`, `.` and `-`.
pub const NAMESPACE_BYTES_MAX: usize = 128;
/// A service's name.
pub const SERVICE_BYTES_MAX: usize = 768;
/// An instance's id.
pub const INSTANCE_ID_BYTES_MAX: usize = 512;
/// A node's, zone's or datacenter's name.
pub const NODE_NAME_BYTES_MAX: usize = 128;
/// An address: an IP or a host name.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Named further addresses of one instance.
pub const ADDRESSES_MAX: usize = 8;
/// Tags of one instance.
pub const TAGS_MAX: usize = 512;
/// One tag: Go Micro puts whole endpoint schemas there.
pub const TAG_BYTES_MAX: usize = 16 * 1024;
/// Metadata pairs of one instance.
pub const METADATA_PAIRS_MAX: usize = 128;
pub const METADATA_KEY_BYTES_MAX: usize = 255;
pub const METADATA_VALUE_BYTES_MAX: usize = 8 * 1024;
/// Checks of one instance.
pub const CHECKS_MAX: usize = 16;
/// What a check printed last; longer output is cut at a character's border.
pub const CHECK_OUTPUT_BYTES_MAX: usize = 1024;
/// What one dialect keeps verbatim in `ext`.
pub const EXT_BYTES_MAX: usize = 16 * 1024;
/// Weights are stored in thousandths; 65,535 is the highest weight.
pub const WEIGHT_THOUSANDTHS_MAX: u32 = 65_535_000;
/// An encoded record, where nothing else is said. Above: 413.
pub const RECORD_BYTES_MAX: usize = 64 * 1024;
/// The key of a key-value entry.
pub const ENTRY_KEY_BYTES_MAX: usize = 1024;
/// The value of a key-value entry.
pub const ENTRY_VALUE_BYTES_MAX: usize = 64 * 1024;
/// The encoded record of a key-value entry: the largest value, key and namespace, and what stands around them.
pub const ENTRY_RECORD_BYTES_MAX: usize = ENTRY_VALUE_BYTES_MAX + ENTRY_KEY_BYTES_MAX + NAMESPACE_BYTES_MAX + 64;
/// A user event's name.
pub const EVENT_NAME_BYTES_MAX: usize = 256;
pub const EVENT_PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Each of a user event's filters.
pub const EVENT_FILTER_BYTES_MAX: usize = 1024;
/// Metadata pairs of one node.
pub const NODE_METADATA_PAIRS_MAX: usize = 64;
/// Checks of one node.
pub const NODE_CHECKS_MAX: usize = 64;
/// Registrations, deregistrations and heartbeats in one batch.
pub const BATCH_COMMANDS_MAX: usize = 1_000;
pub const TTL_MS_MIN: u64 = 100;
pub const TTL_MS_MAX: u64 = 24 * 3_600_000;
/// How long after a lease ran out its instance stays, where the registration does not say: ten times its TTL, at least a minute.
pub const REMOVE_AFTER_TTLS: u64 = 10;
pub const REMOVE_AFTER_MS_MIN: u64 = 60_000;
pub const CHECK_INTERVAL_MS_MIN: u64 = 1_000;
