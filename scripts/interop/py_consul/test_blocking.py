"""Blocking queries: they wait, they wake for their own service, they time out."""

import threading
import time

import pytest
from consul import Check


def in_background(query):
    """Runs a query in a thread; the list it gives gets the answer and the seconds it took."""
    answers = []

    def run():
        began = time.monotonic()
        answers.append((query(), time.monotonic() - began))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, answers


def settled_index(query):
    """An index after which nothing moved for a moment: the last writes have come through."""
    while True:
        index = query()[0]
        time.sleep(0.3)
        if query()[0] == index:
            return index


@pytest.mark.parametrize("kind", ["health.service", "catalog.service", "health.checks", "health.state", "catalog.services", "health.node", "catalog.node"])
def test_a_query_waits_until_something_changes(writer, reader, name, kind, await_that):
    writer.agent.service.register(name, check=Check.ttl("60s"))
    await_that("the service at the other agent", lambda: len(reader.health.service(name)[1]), 1)
    room, method = kind.split(".")
    node = reader.health.service(name)[1][0]["Node"]["Node"]
    argument = {"state": ["any"], "services": [], "node": [node]}.get(method, [name])

    def query(**options):
        return getattr(getattr(reader, room), method)(*argument, **options)

    index = settled_index(query)
    thread, answers = in_background(lambda: query(index=index, wait="20s"))
    time.sleep(0.4)
    assert not answers, "it answered before anything changed"
    if kind.startswith("health"):
        writer.agent.check.ttl_pass(f"service:{name}")
    else:
        writer.agent.service.register(name, tags=["new"])
    thread.join(10)
    assert answers, "nothing came within 10 s of the change"
    assert int(answers[0][0][0]) > int(index)
    writer.agent.service.deregister(name)


def test_a_query_times_out_with_its_index(writer, reader, name):
    writer.agent.service.register(name)
    time.sleep(0.5)
    index = settled_index(lambda: reader.health.service(name))
    began = time.monotonic()
    later, _ = reader.health.service(name, index=index, wait="1s")
    took = time.monotonic() - began
    assert 1.0 <= took < 1.6, f"took {took:.2f} s"
    assert later == index


def test_a_watcher_sleeps_through_changes_of_other_services(writer, reader, name):
    writer.agent.service.register(name, check=Check.ttl("60s"))
    writer.agent.service.register(f"{name}-other", check=Check.ttl("60s"))
    time.sleep(0.5)
    index = settled_index(lambda: reader.health.service(name))
    thread, answers = in_background(lambda: reader.health.service(name, index=index, wait="2s"))
    for _ in range(3):
        time.sleep(0.2)
        writer.agent.check.ttl_pass(f"service:{name}-other")
        writer.agent.check.ttl_fail(f"service:{name}-other")
    thread.join(10)
    (later, _), took = answers[0]
    assert (later, took >= 2.0) == (index, True)


def test_a_query_waits_for_the_first_instance(writer, reader, name):
    # Consul wakes here for any registration at all; who waits asks again.
    index = reader.health.service(name)[0]
    thread, answers = in_background(lambda: next(found for found in polls(reader, name, index) if found))
    time.sleep(0.3)
    writer.agent.service.register(name)
    thread.join(10)
    assert answers


def polls(client, name, index):
    while True:
        index, found = client.health.service(name, index=index, wait="5s")
        yield found
