"""Catalog, health, status, coordinates: what other hosts offer."""

import clients
import consul
import pytest
from consul import Check


def ids(client, name, **options):
    return [entry["ServiceID"] for entry in client.catalog.service(name, **options)[1]]


def test_datacenters_and_nodes(reader):
    assert reader.catalog.datacenters() == [clients.DATACENTER]
    index, nodes = reader.catalog.nodes()
    assert int(index) >= 1
    assert {clients.WRITE_NODE, clients.READ_NODE} <= {node["Node"] for node in nodes}
    assert all(node["Datacenter"] == clients.DATACENTER and node["ID"] for node in nodes)
    assert len({node["ID"] for node in nodes}) == len(nodes)


def test_another_datacenter_is_unknown(reader):
    for ask in (reader.catalog.nodes, reader.catalog.services, lambda dc: reader.health.service("consul", dc=dc)):
        with pytest.raises(consul.ConsulException):
            ask(dc="dc2")


def test_the_catalog_holds_consul_itself(reader):
    assert reader.catalog.services()[1]["consul"] == []
    assert reader.health.service("consul")[1]


def test_services_list_the_tags_of_all_instances(writer, reader, name, await_that):
    writer.agent.service.register(name, service_id=f"{name}-1", tags=["a", "b"])
    writer.agent.service.register(name, service_id=f"{name}-2", tags=["b", "c"])
    await_that("the tags at the other agent", lambda: sorted(reader.catalog.services()[1].get(name, [])), ["a", "b", "c"])


def test_instances_come_in_order_and_by_tag(writer, reader, name, await_that):
    for number in (2, 1, 3):
        writer.agent.service.register(name, service_id=f"{name}:{number}", port=number, tags=[f"t{number}", "all"])
    await_that("the instances in order", lambda: ids(reader, name), [f"{name}:1", f"{name}:2", f"{name}:3"])
    assert ids(reader, name, tag="t2") == [f"{name}:2"]
    assert ids(reader, name, tag="T2") == [f"{name}:2"]
    assert ids(reader, name, tag="none") == []
    assert ids(reader, name, filter_expr='"t3" in ServiceTags or ServicePort == 1') == [f"{name}:1", f"{name}:3"]
    assert [entry["Service"]["ID"] for entry in reader.health.service(name, tag=["all", "t1"])[1]] == [f"{name}:1"]
    assert [entry["Service"]["ID"] for entry in reader.health.service(name, near="_agent")[1]] != []


def test_consistency_is_accepted(reader):
    for consistency in ("default", "consistent", "stale"):
        assert reader.catalog.services(consistency=consistency)[1]["consul"] == []


def test_what_is_unknown_is_empty(reader):
    for index, found in (reader.catalog.service("nobody-knows"), reader.health.service("nobody-knows"), reader.health.checks("nobody-knows"),
                         reader.health.node("nobody-knows")):
        assert int(index) >= 1
        assert found == []
    index, found = reader.catalog.node("nobody-knows")
    assert int(index) >= 1
    assert found is None


def test_a_node_shows_its_services(writer, reader, name, await_that):
    writer.agent.service.register(name, port=80)
    await_that("the node's service", lambda: reader.catalog.node(clients.WRITE_NODE)[1]["Services"].get(name, {}).get("Port"), 80)
    assert reader.catalog.node(clients.WRITE_NODE)[1]["Node"]["Node"] == clients.WRITE_NODE


def test_an_external_node_is_registered_and_deregistered(writer, reader, name, await_that):
    node = f"node-of-{name}"
    assert writer.catalog.register(node, "192.0.2.7", service={"service": name, "port": 5432, "tags": ["primary"]},
                                   check={"name": f"{name} answers", "status": "passing"})
    await_that("the external service", lambda: ids(reader, name), [name])
    entry = reader.catalog.service(name)[1][0]
    assert (entry["Node"], entry["Address"], entry["ServicePort"], entry["ServiceTags"]) == (node, "192.0.2.7", 5432, ["primary"])
    assert [found["Node"] for found in reader.catalog.nodes(filter_expr=f'Node == "{node}"')[1]] == [node]
    await_that("its check", lambda: [check["Name"] for check in reader.health.node(node)[1]], [f"{name} answers"])
    assert writer.catalog.deregister(node, service_id=name)
    await_that("no external service", lambda: ids(reader, name), [])
    assert writer.catalog.deregister(node)
    await_that("no external node", lambda: node in [found["Node"] for found in reader.catalog.nodes()[1]], False)


def test_health_lists_the_node_and_all_its_checks(writer, reader, name, await_that):
    writer.agent.service.register(name, check=Check.ttl("30s"))
    writer.agent.check.ttl_pass(f"service:{name}")

    def checks():
        return [sorted(check["CheckID"] for check in entry["Checks"]) for entry in reader.health.service(name, passing=True)[1]]

    await_that("the checks", checks, [["serfHealth", f"service:{name}"]])
    for state, expected in (("any", True), ("passing", True), ("warning", False), ("critical", False), ("unknown", False)):
        assert (f"service:{name}" in [check["CheckID"] for check in reader.health.state(state)[1]]) == expected
    assert "serfHealth" in [check["CheckID"] for check in reader.health.node(clients.WRITE_NODE)[1]]
    assert [check["ServiceName"] for check in reader.health.checks(name, filter_expr='Status == "passing"')[1]] == [name]


def test_connect_lists_nothing_for_plain_services(writer, reader, name):
    writer.agent.service.register(name)
    assert reader.health.connect(name)[1] == []
    assert reader.catalog.connect(name)[1] == []


def test_a_leader_and_peers_are_named(reader):
    leader = reader.status.leader()
    assert isinstance(leader, str) and ":" in leader
    assert leader in reader.status.peers()


def test_coordinates(writer, reader):
    assert [area["Datacenter"] for area in reader.coordinate.datacenters()] == [clients.DATACENTER]
    index, nodes = reader.coordinate.nodes()
    assert int(index) >= 1
    for node in nodes or []:
        assert set(node["Coord"]) == {"Adjustment", "Error", "Height", "Vec"}
        assert reader.coordinate.node(node["Node"])[1]
