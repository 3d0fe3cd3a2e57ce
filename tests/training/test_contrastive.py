from __future__ import annotations

import math

import pytest
import torch

from regionsearch.training.contrastive import Side, cached_gradients, info_nce

DIMENSION = 6


def _network(seed: int, dropout: float = 0.0) -> torch.nn.Module:
    torch.manual_seed(seed)
    layers = (
        torch.nn.Linear(9, 16),
        torch.nn.GELU(),
        torch.nn.Dropout(dropout),
        torch.nn.Linear(16, DIMENSION),
    )
    return torch.nn.Sequential(*layers).double()


def _unit(network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(network(inputs), dim=1)


def _gradients(*networks: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for network in networks for weight in network.parameters()])


def _batch(size: int = 11) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(7)
    return torch.randn(size, 9).double(), torch.randn(size, 9).double()


def test_the_loss_is_the_mean_surprise_at_each_querys_own_target() -> None:
    torch.manual_seed(1)
    queries = torch.nn.functional.normalize(torch.randn(4, 5), dim=1)
    targets = torch.nn.functional.normalize(torch.randn(6, 5), dim=1)
    surprises = []
    for index, query in enumerate(queries.tolist()):
        powers = [
            math.exp(sum(a * b for a, b in zip(query, target, strict=True)) / 0.02)
            for target in targets.tolist()
        ]
        surprises.append(-math.log(powers[index] / sum(powers)))
    assert float(info_nce(queries, targets, 0.02)) == pytest.approx(sum(surprises) / 4, rel=1e-4)


@pytest.mark.parametrize("sizes", [(1,) * 11, (4, 4, 3), (11,)])
def test_gradients_by_chunks_are_those_of_the_whole_batch(sizes: tuple[int, ...]) -> None:
    asked, found = _batch()
    reader, speaker = _network(1), _network(2)
    info_nce(_unit(reader, asked), _unit(speaker, found), 0.1).backward()
    expected = _gradients(reader, speaker)
    reader.zero_grad()
    speaker.zero_grad()
    loss = cached_gradients(
        Side(lambda chunk: _unit(reader, chunk), asked.split(list(sizes))),
        Side(lambda chunk: _unit(speaker, chunk), found.split([6, 5])),
        lambda queries, targets: info_nce(queries, targets, 0.1),
    )
    assert float((_gradients(reader, speaker) - expected).abs().max()) < 1e-6
    with torch.no_grad():
        whole = info_nce(_unit(reader, asked), _unit(speaker, found), 0.1)
    assert float(loss) == pytest.approx(float(whole))


def test_the_second_pass_drops_out_what_the_first_one_did() -> None:
    asked, found = _batch()
    network = _network(3, dropout=0.5)
    torch.manual_seed(5)
    info_nce(
        torch.cat([_unit(network, chunk) for chunk in asked.split(4)]), found[:, :DIMENSION], 1.0
    ).backward()
    expected = _gradients(network)
    after = torch.rand(1)
    network.zero_grad()
    torch.manual_seed(5)
    cached_gradients(
        Side(lambda chunk: _unit(network, chunk), asked.split(4)),
        Side(lambda chunk: chunk[:, :DIMENSION], found.split(4)),
        lambda queries, targets: info_nce(queries, targets, 1.0),
    )
    assert float((_gradients(network) - expected).abs().max()) < 1e-6
    assert torch.equal(torch.rand(1), after), "the second pass moved the random state on"


def test_a_frozen_side_is_encoded_once() -> None:
    asked, found = _batch()
    network = _network(4)
    encoded = []

    def frozen(chunk: torch.Tensor) -> torch.Tensor:
        encoded.append(len(chunk))
        return chunk[:, :DIMENSION]

    cached_gradients(Side(lambda chunk: _unit(network, chunk), asked.split(4)), Side(frozen, [found]))
    # Once for its vectors; once more to find that nothing in it is trained.
    assert encoded == [11, 11]
