"""Where a store can live, as a value that child processes can be given: the environment does not reach them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from resources.settings import Settings
from resources.things import Store


@dataclass(frozen=True)
class Place:
    """Settings, and the variables that must be set when they are used."""

    settings: Settings
    environment: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> Store:
        """Open the store that lives here, from any process."""
        os.environ.update(self.environment)
        return Store.open(self.settings)

    @property
    def on_s3(self) -> bool:
        return self.settings.lake.startswith("s3://")
