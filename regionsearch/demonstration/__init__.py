"""The demo: a contact sheet of questions and answers about real photos."""

from regionsearch.demonstration.answers import Answer, Found, Part
from regionsearch.demonstration.demonstration import IndexingError, Settings, run_demonstration
from regionsearch.demonstration.questions import IndexedPhoto, Question, Thing, plan_questions

__all__ = [
    "Answer",
    "Found",
    "IndexedPhoto",
    "IndexingError",
    "Part",
    "Question",
    "Settings",
    "Thing",
    "plan_questions",
    "run_demonstration",
]
