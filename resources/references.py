"""What people call a Thing by: its id or the beginning of it, an upload's name, a step and partition, an address.

01a2013c-6e8b-7580-827d-1f1697e18c2d    the id; also any unique beginning of it
1f1697e1                                the short id: the beginning of the id's last group
weather-split                           the newest version of what was uploaded under a name
model:late-flights|EWR                  the newest version of a step and partition
weather-split@2, model:late@-1          the second version, the last one: retired ones are counted too
mlassets://<lake>/<id>#<component>      the address
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import sqlalchemy as sa

from resources.catalog import THINGS, Catalog, index_name, storable
from resources.errors import MlassetsError, did_you_mean

UPLOADS = "uploads"
SHORTEST = 6
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ADDRESS = re.compile(r"mlassets://([^/#]*)/([^/#]+)(?:#(.*))?", re.DOTALL)
_NUMBERED = re.compile(r"(.+)@(-?\d{1,9})", re.DOTALL)
_SHOWN = 8
_NAMES_LOOKED_AT = 5000


class AmbiguousThing(MlassetsError):
    """More than one Thing is meant by what was given."""


class BadReference(MlassetsError):
    """What was given cannot name a Thing."""


def is_id(reference: str) -> bool:
    """Say whether a reference is a whole id."""
    return _ID.fullmatch(reference) is not None


def parse_address(address: str) -> tuple[str, str, str | None]:
    """Return the lake, the id and the component that an address names.

    >>> parse_address("mlassets://team/01a2013c-6e8b-7580-827d-1f1697e18c2d#model.skops")
    ('team', '01a2013c-6e8b-7580-827d-1f1697e18c2d', 'model.skops')

    Raises:
        BadReference: If it is no address.
    """
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise BadReference(f"{address!r} is no address; one reads mlassets://<lake>/<id>#<component>")
    lake, thing_id, component = found.groups()
    return unquote(lake), unquote(thing_id), None if component is None else unquote(component)


def resolve(catalog: Catalog, reference: str) -> str | None:
    """Return the id that a reference means; None if it means nothing in this catalog.

    Raises:
        AmbiguousThing: If it means several Things; they are listed.
        BadReference: If it cannot name a Thing.
    """
    if reference.startswith("mlassets://"):
        return resolve(catalog, parse_address(reference)[1])
    if not reference or storable(reference) != reference:
        raise BadReference(
            f"{reference!r} names no Thing; give an id, a name, a step:partition or an address"
        )
    found = catalog.read(lambda connection: list(dict.fromkeys(_meant(connection, reference))))
    if len(found) > 1:
        raise AmbiguousThing(_told(catalog, reference, found))
    return found[0] if found else None


def _meant(connection: sa.Connection, reference: str) -> Iterator[str]:
    """Yield the ids of all that a reference can mean."""
    if is_id(reference.lower()):
        yield from connection.execute(
            sa.select(THINGS.c.id).where(THINGS.c.id == reference.lower())
        ).scalars()
        return
    wanted = reference.lower()
    if re.fullmatch(r"[0-9a-f-]+", wanted) and len(wanted) >= SHORTEST:
        # Both are ranges of an index: `LIKE` uses none where the language is not C.
        tail = sa.func.substr(THINGS.c.id, sa.literal_column("25"))
        for part in (THINGS.c.id, tail):
            query = sa.select(THINGS.c.id).where(part >= wanted, part < f"{wanted}~")
            yield from connection.execute(query.order_by(part).limit(_SHOWN + 1)).scalars()
    yield from _versions(connection, reference, None)
    numbered = _NUMBERED.fullmatch(reference)
    if numbered:
        yield from _versions(connection, numbered[1], int(numbered[2]))


def _versions(connection: sa.Connection, of: str, number: int | None) -> Iterator[str]:
    """Yield the version that is meant by a name, or by a step and partition, and a number."""
    step, colon, partition = of.partition(":")
    for step_of, named in ((UPLOADS, of), *(((step, partition),) if colon and partition else ())):
        for key in dict.fromkeys((named, _key(named))):
            where = (THINGS.c.step == step_of, THINGS.c.partition == key)
            query = sa.select(THINGS.c.id).where(*where)
            if number is None:
                query = query.where(THINGS.c.retired_at.is_(None)).order_by(THINGS.c.id.desc()).limit(1)
            elif number > 0:
                query = query.order_by(THINGS.c.id).limit(1).offset(number - 1)
            elif number < 0:
                query = query.order_by(THINGS.c.id.desc()).limit(1).offset(-number - 1)
            else:
                raise BadReference(f"{of}@0 is no version; the first is {of}@1, the last {of}@-1")
            yield from connection.execute(query).scalars()


def _key(value: str) -> str:
    from resources.things import Partition

    return Partition.encode(value)


def _told(catalog: Catalog, reference: str, ids: list[str]) -> str:
    columns = (THINGS.c.id, THINGS.c.step, THINGS.c.partition, THINGS.c.created_at)

    def work(connection: sa.Connection) -> list[sa.Row[Any]]:
        query = sa.select(*columns).where(THINGS.c.id.in_(ids[:_SHOWN])).order_by(THINGS.c.id)
        return list(connection.execute(query))

    listed = "; ".join(
        f"{row.id}, {row.step} of {row.partition}, {row.created_at[:16]}" for row in catalog.read(work)
    )
    more = " and more" if len(ids) > _SHOWN else ""
    return f"{reference!r} means more than one Thing: {listed}{more}. Give more of the id"


def instead(catalog: Catalog, reference: str) -> str:
    """Say which names come near to a reference that means nothing; empty if none does."""
    step, colon, wanted = reference.partition(":")
    column, where = (THINGS.c.partition, step) if colon else (THINGS.c.name, UPLOADS)
    name = (_NUMBERED.fullmatch(wanted if colon else reference) or ["", wanted if colon else reference])[1]

    def work(connection: sa.Connection) -> list[str]:
        query = sa.select(column, sa.func.max(THINGS.c.id)).where(THINGS.c.step == where, column.is_not(None))
        newest = query.group_by(column).order_by(sa.func.max(THINGS.c.id).desc()).limit(_NAMES_LOOKED_AT)
        return [row[0] for row in connection.execute(newest)]

    return did_you_mean(index_name(name), catalog.read(work))
