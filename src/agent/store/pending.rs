//! What waits to be committed: operations folded by what they are about, the later one winning.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::engine::io::StoreOp;
use crate::model::names::NodeId;
use crate::model::record::{Head, Lineage, Record, Uid};

/// Its size is bounded by what the agent itself has registered, however long the disk fails.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// None: forgotten.
    pub records: BTreeMap<Uid, Option<Record>>,
    pub head: Option<(Head, u64)>,
    pub lineage: Option<Lineage>,
    pub node: Option<NodeId>,
    pub members: Option<Vec<SocketAddr>>,
    pub keys: Option<Vec<[u8; 32]>>,
    pub revision: Option<u64>,
}

impl Pending {
    pub fn put(&mut self, op: StoreOp) {
        match op {
            StoreOp::Record { uid, record } => {
                self.records.insert(uid, Some(record));
            }
            StoreOp::Forget { uid } => {
                self.records.insert(uid, None);
            }
            StoreOp::Head { head, sum } => self.head = Some((head, sum)),
            StoreOp::Lineage(lineage) => self.lineage = Some(lineage),
            StoreOp::Node { node } => self.node = Some(node),
            StoreOp::Members(members) => self.members = Some(members),
            StoreOp::Keys(keys) => self.keys = Some(keys),
            StoreOp::Revision(revision) => self.revision = Some(revision),
        }
    }

    /// Puts what is older underneath: it counts where nothing newer came.
    pub fn put_under(&mut self, older: Pending) {
        for (uid, record) in older.records {
            self.records.entry(uid).or_insert(record);
        }
        self.head = self.head.or(older.head);
        self.lineage = self.lineage.take().or(older.lineage);
        self.node = self.node.or(older.node);
        self.members = self.members.take().or(older.members);
        self.keys = self.keys.take().or(older.keys);
        self.revision = self.revision.or(older.revision);
    }

    pub fn is_empty(&self) -> bool {
        let Pending { records, head, lineage, node, members, keys, revision } = self;
        let is_any_fact =
            head.is_some() || lineage.is_some() || node.is_some() || members.is_some() || keys.is_some() || revision.is_some();
        records.is_empty() && !is_any_fact
    }
}
