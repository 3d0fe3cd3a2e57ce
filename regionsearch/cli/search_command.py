"""`regionsearch search`: questions to a data directory or to a server."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import Any

from regionsearch.cli.answer_json import answer_to_json
from regionsearch.cli.answer_table import table_of
from regionsearch.cli.arguments import refuse_runtime_options
from regionsearch.cli.asking import Asked, asked
from regionsearch.cli.nothing_found import nothing_found
from regionsearch.cli.question import Question, check_question, question_of
from regionsearch.cli.question_lines import question_from_line, read_lines
from regionsearch.cli.search_options import add_options
from regionsearch.errors import ImageNotFound, InvalidRequest


def add_to(commands: Any) -> None:
    parser = commands.add_parser(
        "search",
        help="ask a collection with regions, words, or both",
        description="Asks one question and prints the images found, the entity that matched in each, "
        "and what its score is made of. The question is a text, a picture (a file, or an indexed image "
        "by its id), regions of the picture, liked examples, or several of these together. docs/search.md "
        "has each kind of question with an answer.",
        allow_abbrev=False,
    )
    add_options(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if not 0 < arguments.timeout < math.inf:
        raise InvalidRequest(
            f"--timeout is {arguments.timeout:g}; it must be seconds, above 0", field="timeout"
        )
    if arguments.address is not None:
        refuse_runtime_options(arguments, "needs --data: a server was told where its models compute")
        if arguments.scoring is not None:
            raise InvalidRequest("--scoring needs --data: a server has its own", field="scoring")
    if arguments.batch is not None:
        return _run_batch(arguments)
    question = question_of(arguments)
    check_question(question)
    if arguments.explain is not None:
        from regionsearch.cli.explaining import check_writable

        check_writable(arguments.explain)
    with asked(arguments) as answering:
        answer = answering.ask(question)
        if arguments.explain is not None:
            _explain(arguments, question, answer, answering)
    document = answer_to_json(answer)
    if arguments.json:
        json.dump(document, sys.stdout)
        print()
    else:
        print(table_of(document, nothing=nothing_found(question), later_page=bool(question.page_token)))
    return 0


def _run_batch(arguments: argparse.Namespace) -> int:
    """Every line of the file is answered in its turn; one that is refused does not disturb the others."""
    if arguments.explain is not None:
        raise InvalidRequest("--explain draws one question; leave out --batch", field="explain")
    usual = question_of(arguments)
    refused = []
    lines = read_lines(arguments.batch)
    with asked(arguments) as answering:
        for number, line in lines:
            try:
                question = question_from_line(line, usual)
                check_question(question)
                document = answer_to_json(answering.ask(question))
            except (InvalidRequest, ImageNotFound) as error:
                told = {"reason": error.reason, "message": error.message, "field": error.field}
                document = {"error": {"line": number, **told}}
                refused.append(number)
            # A line at a time: whoever reads them need not wait for the last.
            print(json.dumps(document), flush=True)
    if refused:
        named = ", ".join(map(str, refused[:10])) + (", ..." if len(refused) > 10 else "")
        where = f"{'lines' if len(refused) > 1 else 'line'} {named}"
        print(
            f"regionsearch search: {len(refused)} of {len(lines)} questions were refused, in {where}",
            file=sys.stderr,
        )
        return 1
    return 0


def _explain(arguments: argparse.Namespace, question: Question, answer: Any, answering: Asked) -> None:
    from regionsearch.cli.explaining import explain

    explain(arguments.explain, question, answer, answering.kept)
