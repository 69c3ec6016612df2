//! All inputs of all machines, folded into one number: what tells two runs apart.

use super::HostId;
use tidings::engine::io::Input;

/// Folds all inputs of all machines into one number.
#[derive(Debug, Default, Clone, Copy)]
pub struct Fold(pub u64);

impl Fold {
    pub fn word(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            self.word(u64::from_le_bytes(word.try_into().expect("chunks of eight have eight bytes")));
        }
        let mut last = [0; 8];
        last[..words.remainder().len()].copy_from_slice(words.remainder());
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    pub fn input(&mut self, at: u64, host: HostId, input: &Input) {
        self.word(at);
        self.word(u64::from(host.0));
        match input {
            Input::Datagram { bytes, .. } | Input::WanDatagram { bytes, .. } => self.bytes(bytes),
            Input::StreamBytes { stream, bytes } => {
                self.word(stream.0);
                self.bytes(bytes);
            }
            Input::StreamAccepted { stream, .. } | Input::WanStreamAccepted { stream, .. } => self.word(stream.0 ^ 1 << 60),
            Input::StreamConnected { stream } => self.word(stream.0 ^ 2 << 60),
            Input::StreamDrained { stream } => self.word(stream.0 ^ 3 << 60),
            Input::StreamClosed { stream } => self.word(stream.0 ^ 4 << 60),
            Input::Command { token, .. } => self.word(token.0 ^ 5 << 60),
            Input::Durable { mark } => self.word(mark.0 ^ 6 << 60),
            Input::NotDurable { mark, .. } => self.word(mark.0 ^ 7 << 60),
            Input::Tick => self.word(8 << 60),
        }
    }
}
