//! What leaves in datagrams: parts to one address share packets.
//!
//! A datagram's body is parts, each behind its length, so that a part of a kind unknown to the receiver can be stepped over. Parts of
//! one turn of the engine are packed in the order they were posted; nothing waits for a later turn.

use super::wire::packet::{Lane, Part};
use super::wire::{BODY_BYTES_MAX, put_varint, take_varint};
use crate::model::coordinate::Coordinate;
use bytes::{Buf as _, Bytes};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// The bytes before a part: its length, which is below 2^14.
const LENGTH_BYTES_MAX: usize = 2;

/// What [`Part::Lane`] puts around a part.
const LANE_BYTES: usize = 1 + 4 + LENGTH_BYTES_MAX;

/// The longest encoded part: one that fills a datagram alone, in a lane.
pub const PART_BYTES_MAX: usize = BODY_BYTES_MAX - LENGTH_BYTES_MAX - LANE_BYTES;

/// What a membership packet weighs as a part, beside itself.
const SWIM_BYTES_MAX: usize = 8;
/// The longest coordinate: ten numbers of up to four bytes, its error of two, as a part.
const COORDINATE_BYTES_MAX: usize = LENGTH_BYTES_MAX + 1 + 10 * 4 + 2;

/// Bodies being packed, by address.
#[derive(Default)]
pub struct Mail {
    open: BTreeMap<SocketAddr, Vec<u8>>,
    full: Vec<(SocketAddr, Vec<u8>)>,
    /// Parts that no datagram can hold: a bug of who made them, never sent.
    pub oversized: u64,
}

impl Mail {
    /// Puts a part into the datagram to `to`, or begins a new one.
    pub fn post(&mut self, to: SocketAddr, part: &Part) {
        let encoded = postcard::to_stdvec(part).expect("a part is plain data, and memory is at hand");
        if encoded.len() > PART_BYTES_MAX + LANE_BYTES {
            debug_assert!(false, "a part of {} bytes fits no datagram", encoded.len());
            self.oversized += 1;
            return;
        }
        let body = self.open.entry(to).or_default();
        if body.len() + LENGTH_BYTES_MAX + encoded.len() > BODY_BYTES_MAX {
            self.full.push((to, std::mem::take(body)));
        }
        put_varint(body, encoded.len() as u64);
        body.extend_from_slice(&encoded);
    }

    /// Puts a packet of the membership into the datagram to `to`, behind the sender's coordinate if the two share one. Returns what room
    /// is left beside it.
    pub fn post_swim(&mut self, to: SocketAddr, body: Bytes, coordinate: Option<Coordinate>) -> usize {
        let mut room = PART_BYTES_MAX.saturating_sub(body.len() + SWIM_BYTES_MAX);
        if let Some(coordinate) = coordinate
            && let Some(rest) = room.checked_sub(COORDINATE_BYTES_MAX)
        {
            room = rest;
            self.post(to, &Part::Coordinate(coordinate));
        }
        self.post(to, &Part::Swim(body));
        room
    }

    /// Puts a part about another datacenter's origins into the datagram to `to`.
    pub fn post_in_lane(&mut self, to: SocketAddr, lane: Lane, part: &Part) {
        let encoded = postcard::to_stdvec(part).expect("a part is plain data, and memory is at hand");
        self.post(to, &Part::Lane { lane, part: encoded.into() });
    }

    /// The bodies that were packed, in the order they filled, then by address.
    pub fn take(&mut self) -> impl Iterator<Item = (SocketAddr, Vec<u8>)> {
        let open = std::mem::take(&mut self.open);
        std::mem::take(&mut self.full).into_iter().chain(open)
    }
}

/// A body of one part.
pub fn body_of(part: &Part) -> Vec<u8> {
    let mut mail = Mail::default();
    // Any address will do: the body is taken back at once.
    mail.post(([0, 0, 0, 0], 0).into(), part);
    mail.take().map(|(_, body)| body).next().unwrap_or_default()
}

/// Why the rest of a body was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadBody {
    /// A length that points outside, or none where one must be.
    Length,
}

/// The parts of a datagram's body; a part of an unknown kind is `None` and can be stepped over.
pub fn parts(body: Bytes) -> impl Iterator<Item = Result<Option<Part>, BadBody>> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let mut body = rest.take().filter(|body| !body.is_empty())?;
        let mut unread = &body[..];
        let Some(length) =
            take_varint(&mut unread).and_then(|length| usize::try_from(length).ok()).filter(|length| *length <= unread.len())
        else {
            return Some(Err(BadBody::Length));
        };
        body.advance(body.len() - unread.len());
        let part = postcard::from_bytes(&body.split_to(length)).ok();
        rest = Some(body);
        Some(Ok(part))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::wire::packet::Roots;

    fn addr(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn read(body: Vec<u8>) -> Vec<Result<Option<Part>, BadBody>> {
        parts(body.into()).collect()
    }

    #[test]
    fn parts_to_one_address_share_a_datagram_and_keep_their_order() {
        let mut mail = Mail::default();
        let sent = [Part::Roots(Roots { local: 1, remote: 2 }), Part::Undecoded { id: 3, cells: 55 }];
        for part in &sent {
            mail.post(addr(1), part);
        }
        mail.post(addr(2), &sent[0]);
        let packed: Vec<_> = mail.take().collect();
        assert_eq!(packed.len(), 2);
        assert_eq!(read(packed[0].1.clone()), sent.map(|part| Ok(Some(part))));
        assert_eq!(mail.take().count(), 0);
    }

    #[test]
    fn a_full_datagram_is_followed_by_another() {
        let mut mail = Mail::default();
        for _ in 0..3 {
            mail.post(addr(1), &Part::Swim(vec![7; 600].into()));
        }
        let bodies: Vec<_> = mail.take().map(|(_, body)| body).collect();
        assert!(bodies.iter().all(|body| body.len() <= BODY_BYTES_MAX));
        assert_eq!(bodies.into_iter().flat_map(read).count(), 3);
    }

    #[test]
    fn an_unknown_part_is_stepped_over_and_a_bad_length_ends_the_body() {
        let mut body = vec![3, 0xee, 0xee, 0xee];
        let known = postcard::to_stdvec(&Part::Undecoded { id: 1, cells: 2 }).unwrap();
        put_varint(&mut body, known.len() as u64);
        body.extend_from_slice(&known);
        assert_eq!(read(body.clone()), [Ok(None), Ok(Some(Part::Undecoded { id: 1, cells: 2 }))]);
        body.push(200);
        assert_eq!(read(body).last(), Some(&Err(BadBody::Length)));
    }
}
