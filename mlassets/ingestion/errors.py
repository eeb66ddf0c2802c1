"""What can be wrong with a landed file; each error names the file, the place in it, the reason and the remedy."""

from collections.abc import Sequence

from resources.errors import MlassetsError


class UnreadableFile(MlassetsError):
    """A landed file cannot be taken in; nothing of it was kept.

    Attributes:
        file: Name of the landed file.
        reason: What is wrong with it.
        fix: What to do about it.
        line: Line in the file, counted from 1, where one is known.
        byte: Offset in the (uncompressed) file, counted from 0, where one is known.
        column: Column, where one is to blame.
    """

    def __init__(
        self,
        file: str,
        reason: str,
        fix: str,
        *,
        line: int | None = None,
        byte: int | None = None,
        column: str | None = None,
    ) -> None:
        self.file, self.reason, self.fix = file, reason, fix
        self.line, self.byte, self.column = line, byte, column
        known = [("line", line), ("byte", byte), ("column", column)]
        place = "".join(f", {word} {value}" for word, value in known if value is not None)
        super().__init__(f"{file}{place}: {reason}. {fix}.")


class UnknownFormat(UnreadableFile):
    """The file's name, or its first bytes, are of no format that is taken in."""


class EmptyFile(UnreadableFile):
    """The file holds no rows."""


class TruncatedFile(UnreadableFile):
    """The file ends before its content does, or its content is damaged."""


class BadRow(UnreadableFile):
    """A row cannot be taken; with `on_bad_rows: skip` it would be kept apart, and the others taken."""


class UnsafeArchive(UnreadableFile):
    """An archive that would unpack to too much, or reach out of where it is unpacked; nothing of it is read."""


class WrongType(BadRow):
    """A value is not of the type that was given for its column."""


class NotRecords(UnreadableFile):
    """The file is of its format, but holds nothing that could be the rows of a table."""


class Protected(UnreadableFile):
    """The file is encrypted, and nobody asks for its password."""


class UnsafeXml(UnreadableFile):
    """An XML file declares entities, or wants something fetched: neither is needed for data, and both can do harm."""


class TooLarge(UnreadableFile):
    """What the file says it holds would not fit into memory."""


class RaggedRows(BadRow):
    """A row has more or fewer values than the header has names, or a quote is never closed."""


class DuplicateColumns(UnreadableFile):
    """Two columns have one name (SQL does not tell upper from lower case)."""


class BadEncoding(UnreadableFile):
    """The file is not UTF-8 throughout."""


class MissingTable(UnreadableFile):
    """A table that was asked for is not in the file."""

    def __init__(self, file: str, wanted: str, names: Sequence[str]) -> None:
        there = ", ".join(name or "one without a name" for name in names[:20]) or "none"
        more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
        super().__init__(
            file,
            f"it has no table {wanted!r}; its tables are {there}{more}",
            "Name one of these with `tables:`",
        )


class SeveralTables(UnreadableFile):
    """The file holds several tables, and which of them are meant would be a guess."""

    def __init__(self, file: str, names: Sequence[str]) -> None:
        there = ", ".join(names[:20])
        more = f" and {len(names) - 20:,} more" if len(names) > 20 else ""
        super().__init__(
            file,
            f"it holds {len(names):,} tables: {there}{more}",
            "Name one with `tables:`, or let `mlassets land` make a source of each",
        )


class ReaderFailed(UnreadableFile):
    """A reader stopped at content that it does not know; a fault of the reader's, whatever the file is."""


class ClosedFile(UnreadableFile):
    """The file is there, but whoever runs this may not open it."""

    def __init__(self, file: str) -> None:
        super().__init__(
            file,
            "it is there, but cannot be opened",
            "Give the user that mlassets runs as the right to read it; it is then tried again",
        )


class ChangedWhileRead(UnreadableFile):
    """Somebody wrote to the file between the look at it and the end of reading it."""

    def __init__(self, file: str) -> None:
        super().__init__(
            file,
            "it changed while it was being read",
            "It is looked at again; land files under a temporary name and rename them when they are complete",
        )


class SchemaConflict(UnreadableFile):
    """A column of the file cannot be brought together with what the source already holds.

    Attributes:
        known: Type, or name, of the column so far.
        new: Type, or name, of the column in the file.
    """

    def __init__(self, file: str, column: str, known: str, new: str, reason: str, fix: str) -> None:
        self.known, self.new = known, new
        super().__init__(file, reason, fix, column=column)
