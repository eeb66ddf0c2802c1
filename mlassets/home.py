"""The home of a deployment as assets, checks and sensors see it: its settings, its store, its projects."""

import dagster as dg

from mlassets.projects import LoadedProjects, ProjectSpec, load_projects, named_project
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
        return load_projects(self.settings.projects)

    def project(self, partition_key: str) -> ProjectSpec:
        """Load the spec of the project that a partition belongs to.

        Raises:
            SpecError: If the project's spec does not load.
            UnknownProject: If no file names the project.
        """
        return named_project(self.projects(), Partition.parse(partition_key)["project"])

    def source_glob(self, source: str) -> str:
        """Return where the files of a source land.

        Raises:
            UnknownSource: If no usable spec names the source.
        """
        globs = self.projects().sources
        if source not in globs:
            raise UnknownSource(
                f"no spec names the source {source!r}; they name {', '.join(sorted(globs)) or 'none'}"
            )
        return globs[source]


class UnknownSource(MlassetsError):
    """No usable spec names this source."""
