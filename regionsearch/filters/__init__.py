"""Filters: their grammar, what they mean of one entity of an image, and how columns answer them."""

from regionsearch.filters.expression import (
    EVERYTHING,
    And,
    Boolean,
    Comparison,
    Condition,
    Expression,
    Field,
    Instant,
    Membership,
    Not,
    Or,
    Prefix,
    Presence,
    Text,
    Value,
    conditions_of,
)
from regionsearch.filters.lexer import MAX_FILTER_LENGTH
from regionsearch.filters.parser import MAX_CONDITIONS, MAX_DEPTH, MAX_IN_VALUES, parse, parse_path

__all__ = [
    "EVERYTHING",
    "MAX_CONDITIONS",
    "MAX_DEPTH",
    "MAX_FILTER_LENGTH",
    "MAX_IN_VALUES",
    "And",
    "Boolean",
    "Comparison",
    "Condition",
    "Expression",
    "Field",
    "Instant",
    "Membership",
    "Not",
    "Or",
    "Prefix",
    "Presence",
    "Text",
    "Value",
    "conditions_of",
    "parse",
    "parse_path",
]
