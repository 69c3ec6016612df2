//! Protocols that other registries' clients speak.
//!
//! A dialect is a translator. It reads the view and hands in commands through the handle, and keeps no state of the catalog: what one
//! writes, all others see. Dialects never name each other, nor the native API (design.md §1). How a foreign registration maps onto the
//! canonical instance stands in one table a dialect (api.md §2).

pub mod consul;
pub mod dns;
