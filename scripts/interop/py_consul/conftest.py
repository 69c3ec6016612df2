"""Two clients of py-consul: one writes at an agent, the other reads at another."""

import itertools

import clients
import consul
import pytest

numbers = itertools.count(1)


def client(address):
    host, _, port = address.partition(":")
    return consul.Consul(host=host, port=int(port))


@pytest.fixture(scope="session")
def writer():
    return client(clients.WRITE_HTTP)


@pytest.fixture(scope="session")
def reader():
    return client(clients.READ_HTTP)


@pytest.fixture
def name():
    """A service's name that no other test uses."""
    return f"py-{next(numbers)}"


@pytest.fixture
def await_that():
    return clients.await_that
