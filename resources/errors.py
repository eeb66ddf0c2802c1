"""The one base class of every error that a user of mlassets may see."""


class MlassetsError(Exception):
    """An error whose message names the culprit, what was wrong with it, and what to do."""
