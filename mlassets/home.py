"""The home of a deployment as assets, checks and sensors see it: its settings, its store, its projects."""

from collections.abc import Mapping

import dagster as dg

from mlassets.ingestion.taking import landing_folders
from mlassets.projects import LoadedProjects, ProjectSpec, all_sources, load_projects, named_project
from mlassets.sections import close_matches, shown
from mlassets.sources import LoadedSources, SourceSpec, load_sources
from resources.errors import MlassetsError
from resources.io_managers import open_store, settings_of
from resources.settings import Settings
from resources.store import Store
from resources.things import Partition


class Home(dg.ConfigurableResource["Home"]):
    """Everything a step needs that is not an input.

    Attributes:
        home: Folder of the deployment; `MLASSETS_HOME`, or `.mlassets`, where it is empty.
    """

    home: str | None = None

    @property
    def settings(self) -> Settings:
        """The settings, read from the environment when a run asks for them."""
        return settings_of(self.home)

    @property
    def store(self) -> Store:
        """The store of Things."""
        return open_store(self.settings)

    def projects(self) -> LoadedProjects:
        """Load every project spec, keeping the errors of those that do not load."""
        return load_projects(self.settings.projects, load_sources(self.settings.sources).specs)

    def project(self, partition_key: str) -> ProjectSpec:
        """Load the spec of the project that a partition belongs to.

        Raises:
            SpecError: If the project's spec does not load.
            UnknownProject: If no file names the project.
        """
        return named_project(self.projects(), Partition.parse(partition_key)["project"])

    def load_sources(self, *, landed: bool = True) -> LoadedSources:
        """Load what is known about every source, keeping the errors of those that are described wrongly.

        Args:
            landed: Whether to look which sources have nothing but a folder in the landing zone.

        Raises:
            LakeUnreachable: If the landing zone does not answer.
        """
        settings = self.settings
        described = load_sources(settings.sources)
        loaded = load_projects(settings.projects, described.specs)
        return all_sources(loaded, described, landing_folders(settings) if landed else ())

    def sources(self) -> Mapping[str, SourceSpec]:
        """Return what is known about every source: from the projects, from files of their own, from where files land.

        Raises:
            LakeUnreachable: If the landing zone does not answer.
        """
        return self.load_sources().specs

    def source(self, name: str) -> SourceSpec:
        """Return what is known about a source.

        Raises:
            SpecError: If the file that describes it cannot be used.
            UnknownSource: If nothing is known of it.
            LakeUnreachable: If the landing zone does not answer.
        """
        loaded = self.load_sources()
        if name in loaded.specs:
            return loaded.specs[name]
        for error in loaded.errors:
            if error.file.stem == name:
                raise error
        raise UnknownSource(
            f"there is no source {shown(name)}; {close_matches(name, loaded.specs)}. Land a file for it with "
            f"`mlassets land FILE --source {name}`, or describe it in {self.settings.sources}"
        )


class UnknownSource(MlassetsError):
    """No spec describes this source, and nothing has landed for it."""
