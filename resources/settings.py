"""Where a home keeps its parts, as one object: nothing else in the project reads the environment."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import ByteSize, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from resources.errors import MlassetsError

_PREFIX = "MLASSETS_"
_LAKE_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_LOCK = r"[1-9][0-9]{0,4}d( compliance)?"
_OBJECT = 'object, such as {"team": "s3://bucket/prefix"}'


class BadSettings(MlassetsError):
    """A setting, usually an environment variable, has a value that cannot be used."""


class Settings(BaseSettings):
    """Every place and limit that a deployment may choose; all follow from `home` unless set.

    Each field is read from the environment variable of its name with the prefix `MLASSETS_`
    (`MLASSETS_HOME`, `MLASSETS_LAKE`, …). Local paths may be relative or start with `~`; they become absolute.

    Attributes:
        home: The folder that holds everything by default.
        lake: Where Things live: an absolute folder or a URI (`s3://bucket/prefix`).
        catalog: SQLAlchemy URL of the index of all Things. A plain path means SQLite.
        landing: Where files land before they become sources: an absolute folder or a URI.
        projects: Folder of the project specs.
        sources: Folder of the specs of sources that are described apart from projects.
        dagster_home: Folder of the Dagster instance.
        quarantine: Folder for landed files that could not be ingested.
        consumption: The DuckDB file that `publish` writes.
        lakes: Names of other lakes and where they are, for addresses, copies and pointers; a JSON object in the
            environment (`{"team": "s3://bucket/prefix"}`). No other lake is ever opened because a Thing names it.
        lock_releases: For how long nobody may delete or replace a release in a lake on S3, in days (`365d`); with
            `365d compliance` nobody with any right can. The bucket must have Object Lock.
        s3_endpoint: Address of an S3 server other than Amazon's (`http://minio:9000`); by default as the AWS variables
            say. Keys come from the standard AWS chain alone.
        patience: Seconds for which a server that does not answer (S3, PostgreSQL) is asked again before a step fails.
        runs_per_look: Runs that a sensor may ask for at one look; none while so many wait in Dagster's queue.
        fetch_limit: Most bytes that are fetched as one file from an address.
        upload_limit: Most bytes of one file that `mlassets receive` takes.
        upload_token: What whoever uploads must know.
        reports_url: Address under which reports are served, if they are; else they are linked as files.
        things_url: Address under which Things are shown, if they are, as `mlassets things` does.
        owners: Who answers for all of a deployment's assets, as Dagster writes it; a JSON list in the environment
            (`["team:network-ops"]`).
        dagster_url: Address of Dagster's UI, for links in alerts.
        alerts: Where alerts go, as URLs: a JSON list in the environment (`["https://example.org/hook"]`). They may
            hold passwords, and are shown nowhere.
        seconds_between_looks: Seconds from one look of a sensor to its next; Dagster's daemon looks every 5 at most.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    home: Path = Path(".mlassets")
    lake: str = ""
    catalog: str = Field(default="", repr=False)
    landing: str = ""
    projects: Path = Path()
    sources: Path = Path()
    dagster_home: Path = Path()
    quarantine: Path = Path()
    consumption: Path = Path()
    lakes: tuple[tuple[str, str], ...] = ()
    lock_releases: str | None = None
    s3_endpoint: str | None = None
    patience: float = Field(default=30.0, gt=0)
    runs_per_look: int = Field(default=5, gt=0)
    fetch_limit: ByteSize = ByteSize(20 * 10**9)
    upload_limit: ByteSize = ByteSize(10**9)
    upload_token: SecretStr | None = None
    reports_url: str | None = None
    things_url: str | None = None
    owners: tuple[str, ...] = ()
    dagster_url: str | None = None
    alerts: tuple[str, ...] = Field(default=(), repr=False)
    seconds_between_looks: int = Field(default=15, ge=1)

    @field_validator("lakes", mode="before")
    @classmethod
    def _named_lakes(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        for name, uri in value.items():
            if not re.fullmatch(_LAKE_NAME, str(name)) or not isinstance(uri, str) or not uri:
                raise ValueError(
                    f"{name!r} cannot be the name of a lake at {uri!r}; a name is letters, digits, `.`, `_` and `-`, "
                    "and its lake an absolute folder or s3://bucket/prefix"
                )
        return tuple((name, _place(uri, Path())) for name, uri in sorted(value.items()))

    @field_validator("lock_releases")
    @classmethod
    def _lock(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(_LOCK, value):
            raise ValueError(f"{value!r} is no time to lock releases for; write days, such as `365d`")
        return value

    @model_validator(mode="after")
    def _derive(self) -> Self:
        home = _absolute(self.home)
        found = {
            "home": home,
            "lake": _place(self.lake, home / "lake"),
            "catalog": _database(self.catalog, home / "catalog.db"),
            "landing": _place(self.landing, home / "landing"),
            "projects": _folder(self.projects, home / "projects"),
            "sources": _folder(self.sources, home / "sources"),
            "dagster_home": _folder(self.dagster_home, home / "dagster"),
            "quarantine": _folder(self.quarantine, home / "quarantine"),
            "consumption": _folder(self.consumption, home / "consumption.duckdb"),
        }
        for name, value in found.items():
            object.__setattr__(self, name, value)
        return self

    @property
    def release_lock(self) -> tuple[timedelta, bool] | None:
        """For how long releases are locked, and whether in compliance mode; None if they are not."""
        if self.lock_releases is None:
            return None
        days, _, mode = self.lock_releases.partition(" ")
        return timedelta(days=int(days.removesuffix("d"))), bool(mode)

    @classmethod
    def load(cls, **chosen: object) -> Self:
        """Read the settings from the environment; `chosen` fields take precedence.

        Raises:
            BadSettings: If a value cannot be used; the message names its environment variable.
        """
        try:
            return cls(**chosen)  # type: ignore[arg-type]
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0]) if first["loc"] else ""
            name = _PREFIX + field.upper() if field else "the settings"
            reason = first["msg"].removeprefix("Value error, ")
            raise BadSettings(f"{name} cannot be used: {reason}") from None
        except SettingsError as error:
            # Its own words name the field; what could not be read may hold a secret.
            field = next((one for one in cls.model_fields if f'"{one}"' in str(error)), "")
            name = _PREFIX + field.upper() if field else "a setting"
            form = _OBJECT if field == "lakes" else 'list, such as ["…"]'
            raise BadSettings(f"{name} cannot be used: it is no JSON {form}") from None


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _folder(path: Path, default: Path) -> Path:
    return default if path == Path() else _absolute(path)


def _place(value: str, default: Path) -> str:
    if not value:
        return str(default)
    if "://" in value:
        return value.rstrip("/")
    return str(_absolute(Path(value)))


def _database(value: str, default: Path) -> str:
    if not value:
        return f"sqlite:///{default}"
    if "://" not in value:
        return f"sqlite:///{_absolute(Path(value))}"
    scheme, rest = value.split("://", 1)
    if scheme in ("postgres", "postgresql"):
        return f"postgresql+psycopg2://{rest}"
    return value
