//! What waits to be committed: operations folded by what they are about, the later one winning.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::engine::io::StoreOp;
use crate::model::names::NodeId;
use crate::model::record::{Head, Record, Uid};

/// Its size is bounded by what the agent itself has registered, however long the disk fails.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// None: forgotten.
    pub records: BTreeMap<Uid, Option<Record>>,
    pub head: Option<(Head, u64)>,
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
        self.node = self.node.or(older.node);
        self.members = self.members.take().or(older.members);
        self.keys = self.keys.take().or(older.keys);
        self.revision = self.revision.or(older.revision);
    }

    pub fn is_empty(&self) -> bool {
        let Pending { records, head, node, members, keys, revision } = self;
        records.is_empty() && head.is_none() && node.is_none() && members.is_none() && keys.is_none() && revision.is_none()
    }
}
