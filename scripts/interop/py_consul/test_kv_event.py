"""The key-value store, events, and what only a consensus store can offer."""

import threading
import time

import clients
import consul
import pytest


def test_a_key_is_kept_with_its_flags(writer, reader, name, await_that):
    assert writer.kv.get(name)[1] is None
    assert writer.kv.put(name, "bar", flags=42) is True
    index, item = writer.kv.get(name)
    assert int(index) >= 1
    assert (item["Key"], item["Value"], item["Flags"], item["LockIndex"]) == (name, b"bar", 42, 0)
    assert item["ModifyIndex"] >= item["CreateIndex"] >= 1
    await_that("the key at the other agent", lambda: (reader.kv.get(name)[1] or {}).get("Value"), b"bar")


def test_values_may_be_empty_binary_or_wide(writer, name):
    for value, read in (("", None), (None, None), (b"\xff\x00\xfe", b"\xff\x00\xfe"), ("ü", "ü".encode())):
        assert writer.kv.put(name, value) is True
        assert writer.kv.get(name)[1]["Value"] == read


def test_keys_are_listed_by_prefix_and_separator(writer, reader, name, await_that):
    for key in ("a", "b/c", "b/d"):
        writer.kv.put(f"{name}/{key}", key)
    await_that("the tree", lambda: [item["Key"] for item in reader.kv.get(f"{name}/", recurse=True)[1] or []],
               [f"{name}/a", f"{name}/b/c", f"{name}/b/d"])
    assert reader.kv.get(f"{name}/", keys=True)[1] == [f"{name}/a", f"{name}/b/c", f"{name}/b/d"]
    assert reader.kv.get(f"{name}/", keys=True, separator="/")[1] == [f"{name}/a", f"{name}/b/"]
    assert reader.kv.get(f"{name}/none", recurse=True)[1] is None


def test_deletes_take_one_key_or_a_tree(writer, reader, name, await_that):
    for key in ("a", "b", "c"):
        writer.kv.put(f"{name}/{key}", key)
    assert writer.kv.delete(f"{name}/a") is True
    assert writer.kv.get(f"{name}/a")[1] is None
    assert writer.kv.delete(f"{name}/", recurse=True) is True
    assert writer.kv.get(f"{name}/", recurse=True)[1] is None
    await_that("no tree at the other agent", lambda: reader.kv.get(f"{name}/", recurse=True)[1], None)


def test_a_reader_blocks_until_the_key_changes(writer, reader, name, await_that):
    writer.kv.put(name, "1")
    await_that("the key at the other agent", lambda: (reader.kv.get(name)[1] or {}).get("Value"), b"1")
    index, _ = reader.kv.get(name)
    found = []
    thread = threading.Thread(target=lambda: found.append(reader.kv.get(name, index=index, wait="10s")))
    thread.start()
    time.sleep(0.3)
    assert not found
    writer.kv.put(name, "2")
    thread.join(10)
    assert found[0][1]["Value"] == b"2"
    assert int(found[0][0]) > int(index)


def test_compare_and_set_is_refused_rather_than_half_done(writer, name):
    if clients.TARGET == "tidings":
        with pytest.raises(consul.ConsulException):
            writer.kv.put(name, "1", cas=0)
        assert writer.kv.get(name)[1] is None
        writer.kv.put(name, "1")
        with pytest.raises(consul.ConsulException):
            writer.kv.delete(name, cas=1)
        assert writer.kv.get(name)[1]["Value"] == b"1"
    else:
        assert writer.kv.put(name, "1", cas=0) is True
        assert writer.kv.put(name, "2", cas=0) is False


def test_sessions_and_locks_are_refused(writer, name):
    if clients.TARGET != "tidings":
        pytest.skip("a consensus store has them")
    with pytest.raises(consul.ConsulException):
        if not writer.session.create(name):
            raise consul.ConsulException("404")
    with pytest.raises(consul.ConsulException):
        writer.kv.put(name, "1", acquire="4f2c3c6e-0b2c-4b0e-9d3e-000000000000")
    assert writer.kv.get(name)[1] is None


def test_a_large_value_is_refused(writer, name):
    # Consul takes 512 KiB, tidings 64 KiB.
    with pytest.raises(consul.ConsulException):
        writer.kv.put(name, "x" * (600 * 1024))
    assert writer.kv.get(name)[1] is None
    assert writer.kv.put(name, "x" * (60 * 1024)) is True


def test_an_event_reaches_the_other_agent(writer, reader, name, await_that):
    fired = writer.event.fire(name, "payload")
    assert fired
    await_that("the event at the other agent", lambda: [(event["Name"], event["Payload"]) for event in reader.event.list(name)[1]], [(name, b"payload")])
    assert int(reader.event.list(name)[0]) >= 1


def test_acls_are_said_to_be_off(writer):
    with pytest.raises(consul.ConsulException):
        writer.acl.tokens.list()
