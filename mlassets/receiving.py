"""`mlassets receive`: an address to which files are uploaded, each into the landing zone of its source."""

import hmac
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from mlassets.home import Home
from mlassets.ingestion.taking import landing_file
from mlassets.origins import CannotLand, place_of
from mlassets.runs import lay_out
from mlassets.sections import close_matches, shown
from mlassets.sources import SourceSpec, name_trouble
from mlassets.ui import serving_until_asked
from resources.errors import MlassetsError

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class NoToken(MlassetsError):
    """Whoever uploads must know a token, and none is set. Set MLASSETS_UPLOAD_TOKEN to a long random text."""


class TooLarge(MlassetsError):
    """The file is larger than MLASSETS_UPLOAD_LIMIT allows."""


def receive(
    home: Home,
    host: str,
    port: int,
    *,
    new_sources: bool = False,
    tell: Callable[[str], None] = lambda text: None,
) -> None:
    """Take uploads until a signal.

    Args:
        home: The home.
        host: Address to listen on.
        port: Port to listen on.
        new_sources: Whether files for sources that nobody has described are taken, too.
        tell: Called with the address, once it answers.

    Raises:
        NoToken: If no token is set.
        PortTaken: If another process listens on the port.
    """
    lay_out(home.settings)
    application = uploads(home, new_sources=new_sources)
    with serving_until_asked(application, host, port) as (address, asked):
        tell(address)
        asked.wait()


def uploads(home: Home, *, new_sources: bool = False) -> "Starlette":
    """Return the application that takes uploads.

    `PUT /<source>/<name>` with the token as a bearer token and the bytes as its body lands a file. It appears in the
    landing zone when all of it has come, in place of a file of that name.

    Raises:
        NoToken: If no token is set.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    settings = home.settings
    if settings.upload_token is None or not settings.upload_token.get_secret_value().strip():
        raise NoToken(
            "whoever uploads must know a token, and none is set. Set MLASSETS_UPLOAD_TOKEN to a long random text"
        )
    token = settings.upload_token.get_secret_value().encode()
    limit = int(settings.upload_limit)

    def answer(status: int, **values: Any) -> "Response":
        return JSONResponse(values, status, _HEADERS)

    async def upload(request: "Request") -> "Response":
        from starlette.concurrency import run_in_threadpool
        from starlette.requests import ClientDisconnect

        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token):
            return answer(401, error="the token is missing or wrong; send `Authorization: Bearer …`")
        source, name = request.path_params["source"], request.path_params["name"]
        try:
            place = await run_in_threadpool(_place, home, source, name, new_sources)
            declared = request.headers.get("Content-Length", "")
            if declared.isdigit() and int(declared) > limit:
                raise TooLarge(f"the file has {int(declared):,} bytes, and at most {limit:,} are taken")
            size, content = await _save(request, home, place, limit)
        except TooLarge as error:
            return answer(413, error=str(error))
        except UnknownUploadSource as error:
            return answer(404, error=str(error))
        except CannotLand as error:
            return answer(400, error=str(error))
        except ClientDisconnect:
            # Nobody is there to be told; nothing has landed.
            return answer(400, error="the file broke off; nothing has landed")
        except MlassetsError as error:
            return answer(500, error=str(error))
        return answer(201, landed=place, bytes=size, hash=content)

    async def alive(_request: "Request") -> "Response":
        return answer(200, alive=True)

    return Starlette(
        routes=[Route("/", alive), Route("/{source}/{name:path}", upload, methods=["PUT", "POST"])]
    )


class UnknownUploadSource(MlassetsError):
    """There is no source of that name here."""


def _place(home: Home, source: str, name: str, new_sources: bool) -> str:
    known = home.sources()
    if source not in known and not new_sources:
        raise UnknownUploadSource(f"there is no source {shown(source)} here; {close_matches(source, known)}")
    if wrong := name_trouble(source):
        raise CannotLand(wrong)
    return place_of(source, known.get(source, SourceSpec()), name)


async def _save(request: "Request", home: Home, place: str, limit: int) -> tuple[int, str]:
    """Stream what comes to the disk, and land it when it is complete."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import ClientDisconnect

    size, hasher = 0, blake3()
    landing = landing_file(home.settings, place)
    path: Path = await run_in_threadpool(landing.__enter__)
    try:
        with path.open("wb") as file:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise TooLarge(f"the file has more than {limit:,} bytes, which is the most that is taken")
                hasher.update(chunk)
                await run_in_threadpool(file.write, chunk)
        declared = request.headers.get("Content-Length", "")
        if declared.isdigit() and int(declared) != size:
            raise ClientDisconnect
    except BaseException as error:
        with suppress(type(error)):
            await run_in_threadpool(landing.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_threadpool(landing.__exit__, None, None, None)
    return size, str(hasher.hexdigest())
