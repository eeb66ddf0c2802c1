"""The addresses of the pages, and what is sent along with each."""

import json
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from mlassets.pages import lineage as lineages
from mlassets.pages import thing as one_thing
from mlassets.pages import things as many_things
from mlassets.pages.rendering import policy, render
from resources.errors import MlassetsError
from resources.lake import LakeError
from resources.references import BadReference
from resources.store import Store
from resources.things import DamagedThing, RemovedThing, Thing, UnknownThing

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

_REFERENCE = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{5,35}")
_NO_SEARCH = re.compile(r"[^=<>~?()\s]+")
_COMMON = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# What somebody has put into a Thing has an origin of its own, loads nothing, and can be looked at within our pages.
_SANDBOXED = (
    "sandbox allow-scripts allow-popups; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_PICTURE = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


def routes(store: Store, places: one_thing.Places) -> "list[Route]":
    """Return the routes of all pages of a store.

    `/things` lists and searches, `/things/<id>` is the page of a Thing, `/things/<id>/lineage` its whole lineage; each
    of them with `.json` says the same as plain values. `/things/<id>/artifacts/<name>` is an artifact that is a picture
    or a page.
    """
    from starlette.responses import HTMLResponse, RedirectResponse, Response
    from starlette.routing import Route

    def page(text: str, status: int = 200) -> "Response":
        headers = {**_COMMON, "Content-Security-Policy": policy(served=True)}
        return HTMLResponse(text, status, headers)

    def plain(value: object, status: int = 200) -> "Response":
        headers = {**_COMMON, "Content-Security-Policy": "default-src 'none'; sandbox"}
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False, default=str)
        return Response(text, status, headers, "application/json")

    def answering(answer: "Callable[[Request], Response]") -> "Callable[[Request], Response]":
        def safely(request: "Request") -> "Response":
            try:
                return answer(request)
            except MlassetsError as error:
                status = (
                    404 if isinstance(error, UnknownThing | RemovedThing) else 500 if _is_ours(error) else 400
                )
                if request.url.path.endswith(".json"):
                    return plain({"error": str(error)}, status)
                return page(render("wrong.html", title="This cannot be shown", message=str(error)), status)

        return safely

    def found(request: "Request") -> Thing:
        reference = request.path_params["reference"]
        if not _REFERENCE.fullmatch(reference):
            raise UnknownThing(f"{reference[:100]!r} is no id of a Thing")
        return store.get(reference.lower())

    def listed(request: "Request") -> "Response":
        asked = many_things.Asked.of(request.query_params)
        wanted = asked.query.strip()
        if _NO_SEARCH.fullmatch(wanted):
            # Whoever types an id or a name wants that Thing.
            with suppress(UnknownThing, BadReference):
                return RedirectResponse(places.thing(store.get(wanted).id), headers=_COMMON)
        return page(*many_things.things_page(store, asked))

    def listed_plain(request: "Request") -> "Response":
        return plain(many_things.as_json(store, many_things.Asked.of(request.query_params)))

    def shown(request: "Request") -> "Response":
        thing = found(request)
        if request.path_params["reference"] != thing.id:
            return RedirectResponse(places.thing(thing.id), headers=_COMMON)
        return page(one_thing.thing_page(store, thing, places))

    def shown_plain(request: "Request") -> "Response":
        return plain(one_thing.as_json(store, found(request)))

    def lineage(request: "Request") -> "Response":
        thing = found(request)
        counts = partial(one_thing.verdict_counts, store)
        graph = lineages.graph(store.lineage(thing.id), places.thing, counts)
        return page(render("lineage.html", title=f"Lineage of {thing}", graph=graph, thing=thing))

    def lineage_plain(request: "Request") -> "Response":
        return plain(lineages.as_json(store.lineage(found(request).id)))

    def artifact(request: "Request") -> "Response":
        thing, name = found(request), request.path_params["name"]
        kind = one_thing.kind_of(thing.artifacts[name]) if name in thing.artifacts else ""
        if kind == "picture":
            headers = {**_COMMON, "Content-Security-Policy": _PICTURE}
            return Response(thing.artifact(name), 200, headers, one_thing.media_of(thing.artifacts[name]))
        headers = {**_COMMON, "Content-Security-Policy": _SANDBOXED}
        if kind == "page":
            return HTMLResponse(thing.artifact(name), 200, headers)
        if kind == "figure":
            return HTMLResponse(one_thing.figure_page(thing, name), 200, headers)
        raise UnknownThing(
            f"{thing} has no picture or page of that name; `mlassets get {thing.id}` gets any file"
        )

    addresses: dict[str, Any] = {
        "/things": listed,
        "/things.json": listed_plain,
        "/things/{reference}.json": shown_plain,
        "/things/{reference}/lineage": lineage,
        "/things/{reference}/lineage.json": lineage_plain,
        "/things/{reference}/artifacts/{name:path}": artifact,
        "/things/{reference}": shown,
    }
    return [Route(path, answering(answer)) for path, answer in addresses.items()]


def _is_ours(error: MlassetsError) -> bool:
    """Say whether an error is the store's, not that of who asked."""
    from resources.catalog import CatalogError

    return isinstance(error, DamagedThing | LakeError | CatalogError)
