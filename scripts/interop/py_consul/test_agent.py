"""Agent: itself, members, services, checks, maintenance."""

import clients
import consul
import pytest
from consul import Check


def statuses(client, name):
    """Statuses of a service's own checks, as its health shows them."""
    return sorted(check["Status"] for check in client.health.checks(name)[1])


def instances(client, name, **options):
    return [entry["Service"]["ID"] for entry in client.health.service(name, **options)[1]]


def test_self_names_the_agent_and_its_member(writer):
    itself = writer.agent.self()
    assert {"Config", "DebugConfig", "Coord", "Member", "Stats", "Meta"} <= set(itself)
    assert itself["Config"]["Datacenter"] == clients.DATACENTER
    assert itself["Config"]["NodeName"] == clients.WRITE_NODE
    assert itself["Member"] in writer.agent.members()


def test_members_are_alive_and_have_roles(reader):
    members = reader.agent.members()
    assert {clients.WRITE_NODE, clients.READ_NODE} <= {member["Name"] for member in members}
    for member in members:
        assert member["Status"] == 1
        assert member["Tags"]["dc"] == clients.DATACENTER
        assert member["Tags"]["role"] in ("consul", "node")
    assert any(member["Name"] == f"{clients.READ_NODE}.{clients.DATACENTER}" for member in reader.agent.members(wan=True))


def test_a_service_registered_here_is_found_there(writer, reader, name, await_that):
    assert writer.agent.service.register(name, service_id=f"{name}-1", address="127.0.0.9", port=8080, tags=["a", "b"], meta={"k": "v"},
                                         weights={"Passing": 3, "Warning": 2}, enable_tag_override=True,
                                         tagged_addresses={"wan": {"address": "192.0.2.1", "port": 80}})
    mine = writer.agent.services()[f"{name}-1"]
    assert (mine["Service"], mine["Address"], mine["Port"], mine["Tags"]) == (name, "127.0.0.9", 8080, ["a", "b"])
    assert (mine["Meta"], mine["Weights"], mine["EnableTagOverride"]) == ({"k": "v"}, {"Passing": 3, "Warning": 2}, True)
    assert mine["TaggedAddresses"]["wan"] == {"Address": "192.0.2.1", "Port": 80}
    assert "consul" not in writer.agent.services()
    await_that("the service at the other agent", lambda: instances(reader, name), [f"{name}-1"])
    assert writer.agent.service.deregister(f"{name}-1")
    assert f"{name}-1" not in writer.agent.services()
    await_that("the service after its end", lambda: instances(reader, name), [])


def test_services_and_checks_can_be_filtered(writer, name):
    writer.agent.service.register(name, service_id=f"{name}-1", meta={"role": name}, check=Check.ttl("10s"))
    assert list(writer.agent.services(filter_expr=f'Meta.role == "{name}"')) == [f"{name}-1"]
    assert list(writer.agent.checks(filter_expr=f'ServiceName == "{name}"')) == [f"service:{name}-1"]
    with pytest.raises(consul.ConsulException):
        writer.agent.services(filter_expr="this is no filter")


def test_a_definition_has_a_hash_that_follows_it(writer, name):
    writer.agent.service.register(name, port=1)
    first = writer.agent.service_definition(name)
    assert (first["Service"], first["Port"]) == (name, 1)
    assert writer.agent.service_definition(name)["ContentHash"] == first["ContentHash"]
    writer.agent.service.register(name, port=2)
    assert writer.agent.service_definition(name)["ContentHash"] != first["ContentHash"]
    assert writer.agent.service_definition(f"{name}-unknown") is None


def test_a_ttl_check_follows_its_beats(writer, reader, name, await_that):
    writer.agent.service.register(name, check=Check.ttl("30s"))
    assert statuses(writer, name) == ["critical"]
    for beat, status in [(writer.agent.check.ttl_pass, "passing"), (writer.agent.check.ttl_warn, "warning"), (writer.agent.check.ttl_fail, "critical")]:
        assert beat(f"service:{name}", notes=f"now {status}")
        mine = writer.agent.checks()[f"service:{name}"]
        assert (mine["Status"], mine["Output"], mine["ServiceID"]) == (status, f"now {status}", name)
        await_that(f"{status} at the other agent", lambda: statuses(reader, name), [status])
        assert instances(reader, name, passing=True) == ([name] if status == "passing" else [])


def test_a_ttl_that_is_not_renewed_turns_critical(writer, reader, name, await_that):
    writer.agent.service.register(name, check=Check.ttl("500ms"))
    writer.agent.check.ttl_pass(f"service:{name}")
    assert statuses(writer, name) == ["passing"]
    await_that("critical at the other agent", lambda: statuses(reader, name), ["critical"])
    writer.agent.check.ttl_pass(f"service:{name}")
    assert statuses(writer, name) == ["passing"]


def test_a_beat_of_an_unknown_check_is_no_success(writer):
    # 404 (None or False) since 1.11, 500 before: clients take either for a reason to register again.
    try:
        assert not writer.agent.check.ttl_pass("service:nobody-knows")
    except consul.ConsulException:
        pass


def test_ids_of_checks_are_by_rule(writer, name):
    writer.agent.service.register(name, check=Check.ttl("10s"), extra_checks=[Check.ttl("20s")])
    assert {f"service:{name}:1", f"service:{name}:2"} <= set(writer.agent.checks())
    writer.agent.service.register(f"{name}-b", check={"CheckID": f"{name}-own", "TTL": "10s"})
    assert f"{name}-own" in writer.agent.checks()


def test_a_reregistration_may_replace_the_checks(writer, name):
    writer.agent.service.register(name, check=Check.ttl("10s"), extra_checks=[Check.ttl("20s")])
    writer.agent.service.register(name, check=Check.ttl("10s"), replace_existing_checks=True)
    assert [key for key in writer.agent.checks() if key.startswith(f"service:{name}")] == [f"service:{name}"]


def test_checks_come_and_go_by_themselves(writer, name):
    assert writer.agent.check.register(name, Check.ttl("10s"), check_id=f"{name}-id", notes="by hand")
    mine = writer.agent.checks()[f"{name}-id"]
    assert (mine["Name"], mine["Notes"], mine["Status"], mine["ServiceID"]) == (name, "by hand", "critical", "")
    assert writer.agent.check.deregister(f"{name}-id")
    assert f"{name}-id" not in writer.agent.checks()


def test_a_check_can_be_given_to_a_service_later(writer, reader, name, await_that):
    writer.agent.service.register(name)
    assert writer.agent.check.register(f"{name} is well", Check.ttl("10s"), service_id=name, check_id=f"{name}-id")
    assert writer.agent.checks()[f"{name}-id"]["ServiceName"] == name
    await_that("not passing at the other agent", lambda: instances(reader, name, passing=True), [])
    writer.agent.check.ttl_pass(f"{name}-id")
    await_that("passing at the other agent", lambda: instances(reader, name, passing=True), [name])
    with pytest.raises(consul.ConsulException):
        if not writer.agent.check.register("orphan", Check.ttl("10s"), service_id=f"{name}-unknown"):
            raise consul.ConsulException("404")


def test_http_and_tcp_checks_are_carried_out(writer, reader, name, await_that):
    with clients.web_server("well") as port:
        writer.agent.service.register(f"{name}-http", check=Check.http(f"http://127.0.0.1:{port}/health", "1s", timeout="1s"))
        writer.agent.service.register(f"{name}-tcp", check=Check.tcp("127.0.0.1", port, "1s"))
        for kind in ("http", "tcp"):
            await_that(f"a passing {kind} check", lambda: statuses(reader, f"{name}-{kind}"), ["passing"])
    for kind in ("http", "tcp"):
        await_that(f"a critical {kind} check", lambda: statuses(reader, f"{name}-{kind}"), ["critical"])


def test_bad_registrations_are_refused(writer, name):
    for bad in ({"check": Check.http("http://127.0.0.1/", "soon")}, {"check": {"TTL": "10s", "Status": "splendid"}}):
        with pytest.raises(consul.ConsulException):
            writer.agent.service.register(name, **bad)
    with pytest.raises(consul.ConsulException):
        writer.agent.service.register("")


def test_maintenance_of_a_service(writer, reader, name, await_that):
    writer.agent.service.register(name)
    assert writer.agent.service.maintenance(name, True, reason="oil change")
    mine = writer.agent.checks()[f"_service_maintenance:{name}"]
    assert (mine["Status"], mine["Notes"], mine["Name"]) == ("critical", "oil change", "Service Maintenance Mode")
    await_that("in maintenance at the other agent", lambda: instances(reader, name, passing=True), [])
    assert writer.agent.service.maintenance(name, False)
    assert f"_service_maintenance:{name}" not in writer.agent.checks()
    await_that("back at the other agent", lambda: instances(reader, name, passing=True), [name])


def test_maintenance_of_a_node(writer, reader, name, await_that):
    writer.agent.service.register(name)
    try:
        assert writer.agent.maintenance(True, reason="new memory")
        mine = writer.agent.checks()["_node_maintenance"]
        assert (mine["Status"], mine["Notes"], mine["Name"]) == ("critical", "new memory", "Node Maintenance Mode")
        await_that("in maintenance at the other agent", lambda: instances(reader, name, passing=True), [])
    finally:
        assert writer.agent.maintenance(False)
    await_that("back at the other agent", lambda: instances(reader, name, passing=True), [name])


def test_metrics_have_gauges_counters_and_samples(writer):
    assert {"Gauges", "Counters", "Samples", "Timestamp"} <= set(writer.agent.metrics())


def test_an_unknown_node_is_not_forced_to_leave_in_a_harmful_way(writer):
    try:
        writer.agent.force_leave("nobody-knows")
    except consul.ConsulException:
        pass
    assert all(member["Status"] == 1 for member in writer.agent.members())
