"""What the client says of servers that are not there, and of outlines that are none."""

from __future__ import annotations

import socket
from typing import Any

import numpy as np
import pytest

from regionsearch.client import Client
from regionsearch.client.region_messages import polygon_of
from regionsearch.errors import InvalidRegion, InvalidRequest, Unavailable
from regionsearch.regions import Polygon

RING = ((1.0, 2.0), (30.0, 4.0), (5.0, 60.0))


def test_a_server_that_is_not_there_is_named_by_its_address() -> None:
    with socket.socket() as bound:  # bound, not listening: nobody else can take the port meanwhile
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        with Client(address, timeout=10) as client, pytest.raises(Unavailable) as failed:
            client.search("c", text="x")
    assert failed.value.message == f"no server answers at {address}: Connection refused"


def test_a_name_without_a_machine_is_said_to_be_one() -> None:
    with Client("nobody.invalid:50051", timeout=10) as client, pytest.raises(Unavailable) as failed:
        client.search("c", text="x")
    assert failed.value.message.startswith("no server answers at nobody.invalid:50051: ")


@pytest.mark.parametrize(
    "said",
    [Polygon((RING,)), RING, list(map(list, RING)), np.array(RING), np.array(RING).ravel(), sum(RING, ())],
)
def test_an_outline_is_corners_or_their_numbers(said: Any) -> None:
    assert polygon_of(said) == Polygon((RING,))


@pytest.mark.parametrize("said", [[1, 2, 3, 4, 5], [(1, 2), (3, 4, 5), (6, 7)]])
def test_an_outline_of_another_form_is_told_the_forms(said: Any) -> None:
    with pytest.raises(InvalidRegion, match=r"\[x0, y0, x1, y1, ...\]"):
        polygon_of(said)


def test_what_is_no_outline_at_all_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be a list"):
        polygon_of("1,2,3")  # type: ignore[arg-type]
