"""Starting a project from one file: its spec is inferred, and the file lands as its source."""

from dataclasses import dataclass
from pathlib import Path

from mlassets.inference import infer_spec
from mlassets.ingestion.taking import land
from mlassets.runs import lay_out
from resources.errors import MlassetsError
from resources.settings import Settings


class ProjectExists(MlassetsError):
    """A spec of that name is there already, and is not overwritten."""


@dataclass(frozen=True)
class Started:
    """A project that can be run.

    Attributes:
        spec: The spec file.
        landed: Where the data file landed: a path, or a URI.
        notes: What was inferred, a sentence each.
    """

    spec: Path
    landed: str
    notes: tuple[str, ...]


def start_project(
    settings: Settings, project: str, data: Path, target: str, segment: str | None = None
) -> Started:
    """Write an inferred spec into the home and land a copy of the file.

    Raises:
        ProjectExists: If the project has a spec already.
        CannotInfer: If no spec can be inferred; nothing is written then.
    """
    inferred = infer_spec(data, project, target, segment)
    lay_out(settings)
    spec = settings.projects / f"{project}.yaml"
    if spec.exists():
        raise ProjectExists(f"{spec} is there already; remove it, or give the project another name")
    landed = land(data, settings, f"{inferred.source}/{data.name}")
    spec.write_text(inferred.text, encoding="utf-8")
    return Started(spec, landed, inferred.notes)
