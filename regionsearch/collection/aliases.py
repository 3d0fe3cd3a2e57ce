"""Second names of collections: rows of the catalog that lead from an alias to a collection's name.

An alias follows the name: a collection restored in the place of another keeps its aliases. An alias
leads to a collection and never to another alias, so that one look tells where it goes. No name is both.
"""

from __future__ import annotations

from typing import Any

from regionsearch.collection.environment import Environment
from regionsearch.collection.row_seals import open_value, seal_value
from regionsearch.collection.spec_rows import stored_spec
from regionsearch.collection.validation import check_collection_name
from regionsearch.errors import AliasNotFound, CollectionExists, CollectionNotFound


def aliased(environment: Environment, transaction: Any, alias: str) -> str | None:
    """The name of the collection that an alias leads to; None when there is no such alias."""
    key = alias.encode("utf-8", "surrogatepass")[:500]
    value = transaction.get(key, db=environment.database("aliases")) if key else None
    return None if value is None else str(open_value("aliases", key, value), "utf-8")


def all_aliases(environment: Environment, transaction: Any) -> dict[str, str]:
    """Alias to the name of its collection, in the order of aliases."""
    with transaction.cursor(db=environment.database("aliases")) as cursor:
        return {
            str(key, "utf-8"): str(open_value("aliases", key, value), "utf-8")
            for key, value in cursor.iternext()
        }


def aliases_of(environment: Environment, transaction: Any, name: str) -> list[str]:
    found = all_aliases(environment, transaction)
    return [alias for alias, collection in found.items() if collection == name]


def put_alias(environment: Environment, transaction: Any, alias: str, name: str) -> str | None:
    """Lets the alias lead to a collection, given by its name or another alias; returns what it led to before.

    Raises CollectionNotFound, CollectionExists when the alias is a collection's own name, InvalidRequest.
    """
    check_collection_name(alias)
    if stored_spec(environment, transaction, alias) is not None:
        raise CollectionExists(f"'{alias}' is a collection's own name and cannot be an alias as well")
    own = aliased(environment, transaction, name) or name
    if stored_spec(environment, transaction, own) is None:
        raise CollectionNotFound(f"no collection '{name:.200}' for alias '{alias}' to lead to")
    before = aliased(environment, transaction, alias)
    key = alias.encode()
    transaction.put(key, seal_value("aliases", key, own.encode()), db=environment.database("aliases"))
    return before


def remove_alias(environment: Environment, transaction: Any, alias: str) -> str:
    """Returns the collection's name that it led to. Raises AliasNotFound."""
    name = aliased(environment, transaction, alias)
    if name is None:
        raise AliasNotFound(f"no alias '{alias:.200}'")
    transaction.delete(alias.encode(), db=environment.database("aliases"))
    return name


def refuse_taken_name(environment: Environment, transaction: Any, name: str) -> None:
    """Raises CollectionExists when a collection or an alias has this name."""
    if stored_spec(environment, transaction, name) is not None:
        raise CollectionExists(f"collection '{name}' exists already")
    leads_to = aliased(environment, transaction, name)
    if leads_to is not None:
        raise CollectionExists(f"'{name}' is an alias of collection '{leads_to}': delete the alias first")
