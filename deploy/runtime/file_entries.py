"""What an ONNX file of this project says about itself, as text in its metadata map."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, get_type_hints

from robot_rlpd.errors import DataError, RobotRlpdError
from robot_rlpd.specs import canonical_json, from_builtins, to_builtins

if TYPE_CHECKING:
    from collections.abc import Mapping

    from robot_rlpd.specs import PolicyContract


class Metadata(Protocol):
    """A dataclass, each attribute of which is one entry: strings as they are, all else as JSON in full precision."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def contract(self) -> PolicyContract:
        """The fields that are read, and the robot that they are of."""
        ...


AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of file.

    Attributes:
        format: Name of the format, its first entry.
        version: Of the format.
        what: What such a file is called.
        make: Command that makes one.
    """

    format: str
    version: int
    what: str
    make: str

    def encode(self, metadata: Metadata) -> dict[str, str]:
        """The entries of the metadata map."""
        entries = {"format": self.format, "version": str(self.version), "fingerprint": metadata.contract.fingerprint}
        for attribute in fields(metadata):
            value = getattr(metadata, attribute.name)
            entries[attribute.name] = value if isinstance(value, str) else canonical_json(to_builtins(value))
        return entries

    def decode(self, entries: Mapping[str, str], kind: type[AnyMetadata], *, where: str) -> AnyMetadata:
        """Read what `encode` wrote; entries that are not known are left alone.

        Raises:
            DataError: Another kind of file, of another version, incomplete or altered.
        """
        hint = f"make one with: {self.make}"
        if entries.get("format") != self.format:
            raise DataError(f"an ONNX file, but no {self.what}", field=where, hint=hint)
        if entries.get("version") != str(self.version):
            found = entries.get("version", "none")
            hint = f"install the version of robot-rlpd that wrote it, or {hint}"
            raise DataError(
                f"a {self.what} of another version", field=where, found=found, allowed=str(self.version), hint=hint
            )
        values: dict[str, Any] = {}
        for name, hinted in get_type_hints(kind).items():
            if name not in entries:
                raise DataError(f"the {self.what} is incomplete", field=where, found=f"no metadata entry '{name}'")
            try:
                values[name] = from_builtins(entries[name] if hinted is str else json.loads(entries[name]), hinted)
            except (ValueError, RobotRlpdError) as error:
                raise DataError(f"the metadata entry '{name}' is damaged: {error}", field=where) from None
        metadata = kind(**values)
        if entries.get("fingerprint") != metadata.contract.fingerprint:
            raise DataError("the fingerprint does not belong to the contract: the file was altered", field=where)
        return metadata
