//! Proof that an address is where its packets say they come from, for clusters without keys.
//!
//! Protocol §5: a source is proven by a sealed packet, or in clear by echoing a nonce; an unproven one never gets more than three times
//! what it sent. A sealed packet proves because only members can seal one and none is taken twice. In clear anyone can write any source
//! address, so that an agent would make a fine amplifier: here what goes to an unproven address is held, a little of it, until the
//! address has answered a challenge. Seeds are the operator's word and need no proof.

use crate::model::time::Now;
use bytes::Bytes;
use rand::Rng as _;
use rand_chacha::ChaCha12Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What an unproven address may get for each byte it sent.
pub const CREDIT_FACTOR: usize = 3;
/// Datagrams held for one address until it is proven; further ones are dropped, as any network might.
pub const HELD_MAX: usize = 8;
/// Addresses known or being proven; the one proven longest ago goes first.
pub const ADDRESSES_MAX: usize = 16_384;
/// An address is challenged at most this often, in milliseconds.
pub const CHALLENGE_MS: u64 = 200;
/// What a challenge weighs, in bytes; it counts against the credit.
pub const CHALLENGE_BYTES: usize = 80;

enum Standing {
    Proven,
    Challenged { nonce: u64, last_ms: u64, credit_bytes: usize, held: Vec<Bytes> },
}

/// What to do with a datagram that wants to leave.
#[derive(Debug, PartialEq, Eq)]
pub enum Passage {
    Send(Bytes),
    /// It is held; send a challenge with this nonce now.
    Challenge(u64),
    /// It is held or dropped, and a challenge is on its way.
    Wait,
}

#[derive(Default)]
pub struct Proofs {
    addresses: BTreeMap<SocketAddr, (u64, Standing)>,
    /// By when they were last touched.
    order: BTreeSet<(u64, SocketAddr)>,
    touches: u64,
    pub datagrams_withheld: u64,
}

impl Proofs {
    /// Addresses of which something is held.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Takes an operator's word for an address.
    pub fn trust(&mut self, addr: SocketAddr) {
        self.put(addr, Standing::Proven);
    }

    /// A packet in clear came from an address that may be forged.
    pub fn received(&mut self, addr: SocketAddr, bytes: usize) {
        if let Some((_, Standing::Challenged { credit_bytes, .. })) = self.addresses.get_mut(&addr) {
            *credit_bytes = credit_bytes.saturating_add(bytes.saturating_mul(CREDIT_FACTOR));
        } else if !self.addresses.contains_key(&addr) {
            let credit_bytes = bytes.saturating_mul(CREDIT_FACTOR);
            // No nonce is out yet: the first datagram that wants to go there draws one.
            self.put(addr, Standing::Challenged { nonce: 0, last_ms: 0, credit_bytes, held: Vec::new() });
        }
    }

    /// The address echoed a nonce: what was held for it may go, if the nonce is the one it was sent.
    pub fn echoed(&mut self, addr: SocketAddr, echo: u64) -> Vec<Bytes> {
        match self.addresses.get_mut(&addr) {
            Some((_, Standing::Challenged { nonce, held, .. })) if *nonce == echo && echo != 0 => {
                let held = std::mem::take(held);
                self.put(addr, Standing::Proven);
                held
            }
            _ => Vec::new(),
        }
    }

    /// A datagram wants to go to an address.
    pub fn pass(&mut self, now: Now, addr: SocketAddr, datagram: Bytes, rng: &mut ChaCha12Rng) -> Passage {
        if !self.addresses.contains_key(&addr) {
            self.put(addr, Standing::Challenged { nonce: 0, last_ms: 0, credit_bytes: 0, held: Vec::new() });
        }
        let Some((_, Standing::Challenged { nonce, last_ms, credit_bytes, held })) = self.addresses.get_mut(&addr) else {
            return Passage::Send(datagram);
        };
        let is_due = *nonce == 0 || now.ms() >= *last_ms + CHALLENGE_MS;
        if is_due {
            *nonce = rng.next_u64().max(1);
            *last_ms = now.ms();
            *credit_bytes = credit_bytes.saturating_sub(CHALLENGE_BYTES);
        } else if *credit_bytes >= datagram.len() {
            *credit_bytes -= datagram.len();
            return Passage::Send(datagram);
        }
        if held.len() < HELD_MAX {
            held.push(datagram);
        } else {
            self.datagrams_withheld += 1;
        }
        if is_due { Passage::Challenge(*nonce) } else { Passage::Wait }
    }

    fn put(&mut self, addr: SocketAddr, standing: Standing) {
        self.touches += 1;
        if let Some((touched, _)) = self.addresses.insert(addr, (self.touches, standing)) {
            self.order.remove(&(touched, addr));
        }
        self.order.insert((self.touches, addr));
        if self.addresses.len() > ADDRESSES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.addresses.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    fn at(ms: u64) -> Now {
        Now { ns: ms * 1_000_000, wall_ms: 0 }
    }

    fn big() -> Bytes {
        vec![0; 1_000].into()
    }

    #[test]
    fn a_forged_source_gets_at_most_three_times_what_it_sent() {
        let (mut proofs, mut rng) = (Proofs::default(), ChaCha12Rng::seed_from_u64(1));
        let victim = ([10, 0, 0, 1], 1).into();
        let (mut requested, mut answered) = (0, 0);
        for ms in 0..10_000 {
            proofs.received(victim, 100);
            requested += 100;
            match proofs.pass(at(ms), victim, big(), &mut rng) {
                Passage::Send(datagram) => answered += datagram.len(),
                Passage::Challenge(_) => answered += CHALLENGE_BYTES,
                Passage::Wait => {}
            }
        }
        assert!(answered <= CREDIT_FACTOR * requested + CHALLENGE_BYTES, "{answered} B for {requested} B");
        assert!(proofs.datagrams_withheld > 0);
    }

    #[test]
    fn what_was_held_goes_once_the_nonce_is_echoed() {
        let (mut proofs, mut rng) = (Proofs::default(), ChaCha12Rng::seed_from_u64(1));
        let peer = ([10, 0, 0, 1], 1).into();
        let Passage::Challenge(nonce) = proofs.pass(at(0), peer, big(), &mut rng) else { panic!("an unknown address is challenged") };
        assert_eq!(proofs.echoed(peer, nonce ^ 1), Vec::<Bytes>::new());
        assert_eq!(proofs.echoed(peer, nonce), [big()]);
        assert_eq!(proofs.pass(at(1), peer, big(), &mut rng), Passage::Send(big()));
    }

    #[test]
    fn a_seed_needs_no_proof_and_the_table_is_bounded() {
        let (mut proofs, mut rng) = (Proofs::default(), ChaCha12Rng::seed_from_u64(1));
        let seed = ([10, 0, 0, 1], 1).into();
        proofs.trust(seed);
        assert_eq!(proofs.pass(at(0), seed, big(), &mut rng), Passage::Send(big()));
        for n in 0..ADDRESSES_MAX as u32 + 10 {
            proofs.received((n.to_be_bytes(), 9).into(), 1);
        }
        assert_eq!(proofs.addresses.len(), ADDRESSES_MAX);
        assert_eq!(proofs.order.len(), ADDRESSES_MAX);
    }
}
