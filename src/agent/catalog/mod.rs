#![allow(unused)]
use crate::engine::wire::packet::{Advert, Want};
use crate::model::names::NodeId;
use crate::model::record::*;
use crate::model::time::Now;
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency { Repair, Metadata, Registration, Removal }
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Applied { pub advanced: bool, pub news: Option<Urgency>, pub gap: Option<Want>, pub needs_snapshot: bool, pub tell_origin: Option<Advert> }
#[derive(Debug)]
pub struct Staged {}
impl Staged { pub fn push(&mut self, records: Vec<Record>) -> bool {todo!()} pub fn origin(&self) -> NodeId {todo!()} }
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supply { Nothing, Batch(Batch), Snapshot, Unknown }
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard { Equal, Ahead, Behind(Want), TellOrigin(Advert) }
#[derive(Debug)]
pub struct SnapshotReader { pub head: Head, pub sum: Option<u64> }
pub enum Chunk { Records(Vec<Record>), End, Broken }
impl SnapshotReader { pub fn next(&mut self, catalog: &Catalog, bytes_max: usize) -> Chunk {todo!()} }
pub struct Catalog;
impl Catalog {
    pub fn head(&self, origin: NodeId) -> Option<Head> {todo!()}
    pub fn heads(&self) -> impl Iterator<Item = Head> { std::iter::empty() }
    pub fn root(&self) -> u64 {todo!()}
    pub fn head_age_ms(&self, origin: NodeId, now: Now) -> u64 {todo!()}
    pub fn want(&self, origin: NodeId) -> Want {todo!()}
    pub fn hear(&mut self, now: Now, advert: &Advert) -> Heard {todo!()}
    pub fn batch_after(&self, origin: NodeId, epoch: Epoch, from: Seq, sum: u64, bytes_max: usize) -> Supply {todo!()}
    pub fn apply(&mut self, now: Now, batch: Batch) -> Applied {todo!()}
    pub fn stage(&mut self, now: Now, head: Head, sum: Option<u64>) -> Option<Staged> {todo!()}
    pub fn finish(&mut self, now: Now, staged: Staged) -> Applied {todo!()}
    pub fn snapshot(&self, origin: NodeId) -> Option<SnapshotReader> {todo!()}
    pub fn hold_tombstones(&mut self, origin: NodeId, to: Seq) {}
    pub fn release_tombstones(&mut self, origin: NodeId, to: Seq) {}
}
