"""Everything in the contract has a comment in its .proto file and a line in docs/api.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc_tools
import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from regionsearch import errors
from regionsearch.errors import RegionSearchError

ROOT = Path(__file__).resolve().parents[1]
PROTO = ROOT / "proto"
# Numbers of the path within a FileDescriptorProto: its messages, enums, services; their members.
MESSAGES, ENUMS, SERVICES, MEMBERS = 4, 5, 6, 2


@dataclass(frozen=True, slots=True)
class Named:
    """A thing of the contract: where it is described in docs/api.md, what must stand there, and its
    comment in the .proto file."""

    section: str
    line: str
    comment: str

    def __str__(self) -> str:
        return f"{self.section}: {self.line}"


def compiled(target: Path) -> list[descriptor_pb2.FileDescriptorProto]:
    sources = sorted(str(path) for path in PROTO.rglob("*.proto"))
    arguments = [
        "protoc",
        f"-I{PROTO}",
        f"-I{Path(grpc_tools.__file__).parent / '_proto'}",
        "--include_source_info",
        f"--descriptor_set_out={target}",
        *sources,
    ]
    assert protoc.main(arguments) == 0
    return list(descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file)


def things_of(file: descriptor_pb2.FileDescriptorProto) -> Iterator[Named]:
    comments = {tuple(place.path): place.leading_comments.strip() for place in file.source_code_info.location}
    for at, service in enumerate(file.service):
        yield Named(service.name, f"### {service.name}", comments.get((SERVICES, at), ""))
        for number, method in enumerate(service.method):
            comment = comments.get((SERVICES, at, MEMBERS, number), "")
            sent = "stream of " if method.client_streaming else ""
            answered = "stream of " if method.server_streaming else ""
            request, response = (
                f"[{name.rpartition('.')[2]}](#{name.rpartition('.')[2].lower()})"
                for name in (method.input_type, method.output_type)
            )
            row = f"| `{method.name}` | {sent}{request} | {answered}{response} |"
            yield Named(service.name, row, comment)
    for at, message in enumerate(file.message_type):
        yield Named(message.name, f"### {message.name}", comments.get((MESSAGES, at), ""))
        for number, field in enumerate(message.field):
            comment = comments.get((MESSAGES, at, MEMBERS, number), "")
            yield Named(message.name, f"| {field.number} | `{field.name}` |", comment)
    for at, enum in enumerate(file.enum_type):
        yield Named(enum.name, f"### {enum.name}", comments.get((ENUMS, at), ""))
        for number, value in enumerate(enum.value):
            comment = comments.get((ENUMS, at, MEMBERS, number), "")
            yield Named(enum.name, f"| {value.number} | `{value.name}` |", comment)


def faults(things: list[Named], document: str) -> list[str]:
    """One line for everything without a comment, missing from the page, or on it but not in the contract."""
    sections = {
        name: f"### {name}\n{body}"
        for name, body in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", document, re.MULTILINE | re.DOTALL)
    }
    found = [f"{thing} has no comment" for thing in things if len(thing.comment) < 4]
    found += [
        f"{thing} is not in docs/api.md"
        for thing in things
        if thing.line not in sections.get(thing.section, "")
    ]
    for name, body in sections.items():
        rows = re.findall(r"^(\| (?:\d+ \| )?`\w+` \|)", body, re.MULTILINE)
        known = [thing.line for thing in things if thing.section == name]
        if not known:
            found.append(f"{name} is in docs/api.md but not in the contract")
        found += [
            f"{name}: {row} is in docs/api.md but not in the contract"
            for row in rows
            if not any(line.startswith(row) for line in known)
        ]
    return found


@pytest.fixture(scope="module")
def contract(tmp_path_factory: pytest.TempPathFactory) -> list[descriptor_pb2.FileDescriptorProto]:
    return compiled(tmp_path_factory.mktemp("proto") / "contract.bin")


@pytest.fixture(scope="module")
def things(contract: list[descriptor_pb2.FileDescriptorProto]) -> list[Named]:
    return [thing for file in contract for thing in things_of(file)]


def test_everything_in_the_contract_is_commented_and_documented(things: list[Named]) -> None:
    assert len(things) > 150  # the walk finds the contract at all
    assert faults(things, (ROOT / "docs" / "api.md").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("cut", "fault"),
    [
        ("| 12 | `entity` |", "SearchRequest: | 12 | `entity` | is not in docs/api.md"),
        ("### PixelsKept\n", "PixelsKept: ### PixelsKept is not in docs/api.md"),
        (
            "| 2 | `LABEL_SOURCE_PREDICTED` |",
            "LabelSource: | 2 | `LABEL_SOURCE_PREDICTED` | is not in docs/api.md",
        ),
    ],
)
def test_what_is_missing_from_the_page_is_found(things: list[Named], cut: str, fault: str) -> None:
    document = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert cut in document
    assert fault in faults(things, document.replace(cut, ""))


def test_what_is_on_the_page_alone_is_found(things: list[Named]) -> None:
    document = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    row = "| 12 | `entity` |"
    extended = document.replace(row, f"| 99 | `wish` | bool | |\n{row}", 1)
    assert any("| 99 | `wish` |" in fault for fault in faults(things, extended))


def test_something_without_a_comment_is_found(things: list[Named]) -> None:
    bare = Named(things[0].section, things[0].line, "")
    document = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert faults([bare, *things], document) == [f"{bare} has no comment"]


def test_the_page_has_the_code_the_reason_and_the_class_of_every_error() -> None:
    document = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \| `(\w+)` \|", document, re.MULTILINE))
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, RegionSearchError)
    ]
    assert rows == {(kind.grpc_status, kind.reason, kind.__name__) for kind in classes}


def test_bands_that_are_kept_for_later_hold_nothing_yet(
    contract: list[descriptor_pb2.FileDescriptorProto],
) -> None:
    later = set(range(80, 1_000))
    numbers = {
        f"{message.name}.{field.name}": field.number
        for file in contract
        for message in file.message_type
        for field in message.field
    }
    assert {name for name, number in numbers.items() if number in later or number >= 1_000} == set()
    placement = {name.partition(".")[0] for name, number in numbers.items() if 20 <= number < 30}
    assert placement == {"SearchRequest", "Placement"}
