"""Where a store can live, as a value that child processes can be given: the environment does not reach them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from resources.settings import Settings
from resources.store import Store


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

    def bytes_at(self, path: str) -> bytes:
        """Return what is at a path of the lake, past everything of ours."""
        if not self.on_s3:
            return Path(self.settings.lake, path).read_bytes()
        bucket, key = self._object(path)
        return bytes(self._client().get_object(Bucket=bucket, Key=key)["Body"].read())

    def replace(self, path: str, content: bytes) -> None:
        """Change what is at a path of the lake, as no program of ours would."""
        if not self.on_s3:
            Path(self.settings.lake, path).write_bytes(content)
            return
        bucket, key = self._object(path)
        self._client().put_object(Bucket=bucket, Key=key, Body=content)

    def remove(self, path: str) -> None:
        """Delete what is at a path of the lake."""
        if not self.on_s3:
            Path(self.settings.lake, path).unlink()
            return
        bucket, key = self._object(path)
        self._client().delete_object(Bucket=bucket, Key=key)

    def _object(self, path: str) -> tuple[str, str]:
        bucket, _, prefix = self.settings.lake.removeprefix("s3://").partition("/")
        return bucket, f"{prefix}/{path}"

    def _client(self) -> Any:
        import boto3

        return boto3.client("s3")
