//! Packets and frames as bytes; nothing else knows bytes.

pub mod packet;
