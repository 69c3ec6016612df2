//! The tables of the file, and how a pending change becomes one transaction.

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OpenError;
use super::pending::Pending;
use crate::engine::io::Restored;
use crate::model::record::{Record, Uid};

/// By uid.
const RECORDS: TableDefinition<'_, u128, &[u8]> = TableDefinition::new("records");
/// Everything there is one of.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");

/// Rises when an older program could not read the file.
const FORMAT: u64 = 1;

/// Reads the fold of all that was committed; empty of a new file.
pub(super) fn read(database: &Database) -> Result<Restored, OpenError> {
    let transaction = database.begin_read()?;
    let facts = match transaction.open_table(FACTS) {
        Ok(facts) => facts,
        Err(TableError::TableDoesNotExist(_)) => return Ok(Restored::default()),
        Err(why) => return Err(why.into()),
    };
    let bytes = |name: &'static str| facts.get(name).map(|found| found.map(|value| value.value().to_vec()));
    let format: u64 = fact("format", bytes("format")?)?.unwrap_or(FORMAT);
    if format > FORMAT {
        return Err(OpenError::Newer(format));
    }
    let mut restored = Restored {
        node: fact("node", bytes("node")?)?,
        head: fact("head", bytes("head")?)?,
        lineage: fact("lineage", bytes("lineage")?)?.unwrap_or_default(),
        records: Vec::new(),
        members: fact("members", bytes("members")?)?.unwrap_or_default(),
        keys: fact("keys", bytes("keys")?)?.unwrap_or_default(),
        revision: fact("revision", bytes("revision")?)?.unwrap_or_default(),
        copies: Vec::new(),
    };
    match transaction.open_table(RECORDS) {
        Ok(records) => {
            for row in records.iter()? {
                let (uid, record) = row?;
                let record: Record = postcard::from_bytes(record.value()).map_err(|_| OpenError::Undecodable("record"))?;
                restored.records.push((Uid(uid.value()), record));
            }
        }
        Err(TableError::TableDoesNotExist(_)) => {}
        Err(why) => return Err(why.into()),
    }
    Ok(restored)
}

fn fact<T: DeserializeOwned>(name: &'static str, bytes: Option<Vec<u8>>) -> Result<Option<T>, OpenError> {
    bytes.map(|bytes| postcard::from_bytes(&bytes).map_err(|_| OpenError::Undecodable(name))).transpose()
}

/// Makes a change durable: when this returns, it is on the disk whole.
pub(super) fn write(database: &Database, pending: &Pending) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut records = transaction.open_table(RECORDS)?;
        for (uid, record) in &pending.records {
            match record {
                Some(record) => records.insert(uid.0, encoded(record).as_slice())?,
                None => records.remove(uid.0)?,
            };
        }
        let mut facts = transaction.open_table(FACTS)?;
        let mut put = |name: &str, value: Option<Vec<u8>>| match value {
            Some(value) => facts.insert(name, value.as_slice()).map(|_| ()),
            None => Ok(()),
        };
        put("format", Some(encoded(&FORMAT)))?;
        put("node", pending.node.as_ref().map(encoded))?;
        put("head", pending.head.as_ref().map(encoded))?;
        put("lineage", pending.lineage.as_ref().map(encoded))?;
        put("members", pending.members.as_ref().map(encoded))?;
        put("keys", pending.keys.as_ref().map(encoded))?;
        put("revision", pending.revision.as_ref().map(encoded))?;
    }
    transaction.commit()?;
    Ok(())
}

fn encoded<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("it is numbers and bytes, and memory is at hand")
}
