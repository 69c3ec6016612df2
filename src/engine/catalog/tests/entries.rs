//! Keys and values: the last writer wins, whatever becomes of it; and what readers see of a prefix.

use super::*;
use crate::model::entry::EntryKey;
use crate::model::limits;

fn put(key: &str, value: &str) -> Command {
    put_if(key, value, Condition::Always)
}

fn put_if(key: &str, value: &str, condition: Condition) -> Command {
    let key = EntryKey::new(key).unwrap();
    Command::PutEntry { namespace: Namespace::default(), key, value: value.into(), flags: 42, condition }
}

fn delete(key: &str) -> Command {
    Command::DeleteEntry { namespace: Namespace::default(), key: EntryKey::new(key).unwrap(), condition: Condition::Always }
}

fn delete_all(prefix: &str) -> Command {
    Command::DeleteEntries { namespace: Namespace::default(), prefix: prefix.into() }
}

/// What a reader at an agent sees under a prefix.
fn read(world: &mut World, at: usize, prefix: &str) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    world.view(at).entries("default", prefix).map(|entry| (entry.key.to_string(), text(entry.value()))).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn the_last_writer_wins_at_whatever_agent() {
    let mut world = World::new(3);
    assert_eq!(world.write(0, put("a", "1")), WriteResult::Created);
    assert_eq!(world.write(0, put("a", "1")), WriteResult::Unchanged);
    world.settle();
    world.wait(5);
    assert_eq!(world.write(1, put("a", "2")), WriteResult::Updated, "no agent is asked first");
    assert_eq!(read(&mut world, 1, ""), pairs(&[("a", "2")]));
    world.settle();
    for at in 0..3 {
        assert_eq!(read(&mut world, at, ""), pairs(&[("a", "2")]));
        assert_eq!(world.view(at).entry("default", "a").unwrap().flags, 42);
    }
    assert_eq!(world.write(2, delete("a")), WriteResult::Removed);
    assert_eq!(world.write(2, delete("a")), WriteResult::Absent);
    world.settle();
    for at in 0..3 {
        assert_eq!(read(&mut world, at, ""), []);
    }
}

#[test]
fn a_condition_is_tried_on_what_is_visible_here() {
    let mut world = World::new(1);
    world.write(0, put_if("a", "1", Condition::Absent));
    let refused = world.ask(0, put_if("a", "2", Condition::Absent));
    let version = world.view(0).entry("default", "a").unwrap().version;
    assert_eq!(refused, Err(Refusal::Condition { version: Some(version) }));
    assert_eq!(world.write(0, put_if("a", "2", Condition::Version(version))), WriteResult::Updated);
    assert!(world.ask(0, put_if("a", "3", Condition::Version(version))).is_err());
}

#[test]
fn a_value_may_be_64_kib_and_no_byte_more() {
    let mut world = World::new(2);
    let key = "k".repeat(limits::ENTRY_KEY_BYTES_MAX);
    let longest = "v".repeat(limits::ENTRY_VALUE_BYTES_MAX);
    world.write(0, put(&key, &longest));
    let too_long = world.ask(0, put(&key, &format!("{longest}v")));
    assert_eq!(too_long, Err(Refusal::TooLarge { bytes: 65_537, bytes_max: 65_536 }));
    world.settle();
    assert_eq!(read(&mut world, 1, ""), [(key, longest)]);
    // The largest record fits what a stream hands out at once: it never makes a snapshot necessary.
    let head = world.agents[0].catalog.head(node(0)).unwrap();
    let chunk_bytes = crate::engine::config::SpreadConfig::lan().chunk_bytes;
    let told = world.agents[0].catalog.batch_after(node(0), head.epoch, head.seq - 1, 0, chunk_bytes);
    assert!(matches!(told, Supply::Batch(batch) if batch.records.len() == 1));
}

#[test]
fn a_prefix_is_deleted_in_turns_and_what_is_put_meanwhile_stays() {
    let mut world = World::new(2);
    for n in 0..1_203 {
        world.write(n % 2, put(&format!("app/{n:04}"), "x"));
    }
    world.write(0, put("apq", "stays"));
    world.settle();
    world.wait(5);
    world.tokens += 1;
    let (token, now) = (Token(world.tokens), world.now);
    world.agents[1].catalog.command(now, token, delete_all("app/"));
    world.agents[1].drain();
    assert_eq!(world.agents[1].replies, [], "not all are deleted yet");
    world.write(1, put("app/0001", "again"));
    world.wait(1);
    assert_eq!(world.agents[1].replies.pop(), Some((token, Ok(Reply::Deleted { entries: 1_202, revision: 0 }))));
    assert_eq!(world.ask(1, delete_all("nothing/")), Ok(Reply::Deleted { entries: 0, revision: 0 }));
    world.settle();
    for at in 0..2 {
        assert_eq!(read(&mut world, at, ""), pairs(&[("app/0001", "again"), ("apq", "stays")]));
    }
}

#[test]
fn entries_outlive_the_agent_they_were_written_at() {
    let mut world = World::new(3);
    world.write(0, put("a", "1"));
    world.write(0, put("b", "1"));
    world.settle();
    for at in 1..3 {
        world.agents[at].catalog.on_member(world.now, node(0), Word::Down);
        assert_eq!(read(&mut world, at, "").len(), 2, "its death is no deletion");
    }
    world.wait(5);
    world.write(2, put("b", "2"));
    world.tell(2, 1);
    world.ask(1, Command::Forget(node(0))).unwrap();
    assert_eq!(read(&mut world, 1, ""), pairs(&[("a", "1"), ("b", "2")]));
    world.wait(30_000);
    for (from, to) in [(1, 2), (2, 1)] {
        world.tell(from, to);
    }
    for at in 1..3 {
        assert!(world.agents[at].catalog.head(node(0)).unwrap().flags.reaped.is_some());
        assert_eq!(read(&mut world, at, ""), pairs(&[("a", "1"), ("b", "2")]));
    }
    world.write(2, delete("a"));
    world.tell(2, 1);
    assert_eq!(read(&mut world, 1, ""), pairs(&[("b", "2")]), "its heir's word ends with a delete like its own would");
}

#[test]
fn a_delete_ends_what_was_put_earlier_elsewhere_and_is_not_heard_of_yet() {
    let mut world = World::new(2);
    world.write(0, put("a", "1"));
    world.settle();
    world.wait(5);
    world.write(0, put("a", "2"));
    world.wait(5);
    assert_eq!(world.write(1, delete("a")), WriteResult::Removed, "of the two, it knows the first alone");
    world.settle();
    for at in 0..2 {
        assert_eq!(read(&mut world, at, ""), []);
    }
}

#[test]
fn entries_survive_a_restart() {
    let mut world = World::new(1);
    world.write(0, put("a", "1"));
    let disk = world.agents[0].disk.clone();
    world.restart(0, disk);
    assert_eq!(read(&mut world, 0, ""), pairs(&[("a", "1")]));
}
