"""docs/cli.md names every command, option, argument and choice that the command line has."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from regionsearch.cli.main import COMMANDS, build_parser


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """("regionsearch eval coco", its parser) of every command and sub-command."""
    yield parser.prog, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                yield from commands_of(below)


def words_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """What must be written down about a command: options, arguments, choices."""
    for action in parser._actions:
        if isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
            continue
        yield from action.option_strings
        if not action.option_strings:
            yield str(action.metavar or action.dest)
        if action.choices is not None:
            yield from map(str, action.choices)


def sections_of(document: str) -> dict[str, str]:
    """The text below each heading that is a command: `## regionsearch index` and deeper."""
    pieces = re.split(r"^#+ +`?(regionsearch[a-z0-9 ]*?)`? *$", document, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def undocumented(parser: argparse.ArgumentParser, document: str) -> list[str]:
    sections = sections_of(document)
    missing = []
    for command, below in commands_of(parser):
        if command not in sections:
            missing.append(command)
            continue
        written = set(re.findall(r"--[a-z][a-z-]*|[A-Za-z][\w-]*", sections[command]))
        missing.extend(f"{command}: {word}" for word in words_of(below) if word not in written)
    return missing


def test_every_command_and_option_is_documented(repository: Path) -> None:
    document = (repository / "docs" / "cli.md").read_text(encoding="utf-8")
    assert undocumented(build_parser(), document) == []


def test_no_command_is_documented_that_does_not_exist(repository: Path) -> None:
    document = (repository / "docs" / "cli.md").read_text(encoding="utf-8")
    assert set(sections_of(document)) == {command for command, _ in commands_of(build_parser())}


def test_no_option_is_documented_that_does_not_exist(repository: Path) -> None:
    document = (repository / "docs" / "cli.md").read_text(encoding="utf-8")
    for command, parser in commands_of(build_parser()):
        known = {option for action in parser._actions for option in action.option_strings}
        in_tables = set(re.findall(r"^\| `(--[a-z-]+)", sections_of(document)[command], flags=re.MULTILINE))
        assert in_tables - known == set(), command


def test_an_undocumented_option_is_found() -> None:
    parser = argparse.ArgumentParser(prog="regionsearch")
    command = parser.add_subparsers().add_parser("find")
    command.add_argument("--new-option", choices=("one", "two"))
    document = "# regionsearch\n\n## `regionsearch find`\n\nSomething about one.\n"
    assert undocumented(parser, document) == [
        "regionsearch find: --new-option",
        "regionsearch find: two",
    ]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_can_be_shown(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args([command, "--help"])
    assert ended.value.code == 0
    assert command in capsys.readouterr().out
