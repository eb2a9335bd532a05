"""Model packages: trained folds in one file that can be handed on.

A zip of what a trained fold is on disk, safetensors and JSON, with a manifest of the hash of every file. Nothing of the
optimiser is in it, and nothing that could be executed.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import torch
from torch import Tensor

from bts_auto.documents import Document, parse
from bts_auto.errors import BtsError, ModelError
from bts_auto.files import atomic_folder, atomic_path
from bts_auto.model import archive as archives
from bts_auto.model.fold import TrainedFold
from bts_auto.model.layout import PLAN_FILE, WEIGHTS_FILE, FoldName, fold_folder
from bts_auto.model.weights import as_precision, parse_metadata, parse_weights, serialise
from bts_auto.plan.schema import Plan

FORMAT = "bts_auto model package"
PACKAGE_VERSION = 1
MANIFEST = "manifest.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same content makes the same file, whenever it is made
Precision = Literal["fp32", "fp16"]


class FileRecord(Document):
    """Size in bytes and SHA-256 of one file."""

    bytes: int
    sha256: str


class Member(Document):
    """One fold in a package; its files lie in `folder`."""

    recipe: str
    configuration: str
    fold: FoldName
    folder: str


class Manifest(Document):
    """What a package holds."""

    format: Literal["bts_auto model package"] = "bts_auto model package"
    version: int = PACKAGE_VERSION
    precision: Precision = "fp32"
    members: tuple[Member, ...]
    documents: tuple[str, ...] = ()
    files: dict[str, FileRecord]


class PackagedFold(TrainedFold):
    """A trained fold inside a package, read from there without unpacking it.

    Attributes
    ----------
    folder : Path
        The folder in which the package lies.
    package : Path
    member : Member
    """

    def __init__(self, package: Path, member: Member, record: FileRecord) -> None:
        self.package, self.member = package, member
        self._weights = record
        super().__init__(package.parent)

    def __str__(self) -> str:
        return f"{self.package}:{self.member.folder}"

    def _read(self, name: str, max_bytes: int) -> bytes:
        with archives.checked_archive(self.package) as archive:
            return archives.read_entry(archive, f"{self.member.folder}/{name}", max_bytes=max_bytes)

    def _metadata(self) -> dict[str, Any]:
        weights = f"{self.member.folder}/{WEIGHTS_FILE}"
        with archives.checked_archive(self.package) as archive, archive.open(weights) as file:
            return parse_metadata(file, self)

    @cached_property
    def plan(self) -> Plan:
        """The plan that was trained."""
        return Plan.from_values(json.loads(self._read(PLAN_FILE, archives.MAX_DOCUMENT_BYTES)), where=self)

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the weights' file."""
        return self._weights.sha256

    def state(self) -> dict[str, Tensor]:
        """The network's weights in single precision, in whichever they are stored."""
        data = self._read(WEIGHTS_FILE, self._weights.bytes)
        return as_precision(parse_weights(data, self)[0], torch.float32)


def export_package(
    folds: Sequence[TrainedFold],
    path: Path | str,
    *,
    precision: Precision = "fp32",
    documents: Mapping[str, Any] | None = None,
) -> Path:
    """Write trained folds into one package, atomically.

    Parameters
    ----------
    folds : sequence of TrainedFold
        Of one or of several configurations and recipes.
    path : Path
        The file to be written.
    precision : "fp32" or "fp16"
        In which the weights are stored; fp16 halves the file. They are computed with in single precision either way.
    documents : mapping of str to JSON value, optional
        Further documents by file name (``best.json``).

    Raises
    ------
    ModelError
        When there is no fold, two are the same one, or a weight is too large for fp16.
    """
    if not folds:
        raise ModelError("no trained fold to put into a package", where=path)
    documents = dict(documents or {})
    files: dict[str, FileRecord] = {}
    members: list[Member] = []
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, strict_timestamps=False) as archive,
    ):

        def add(name: str, data: bytes) -> None:
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), data)
            files[name] = FileRecord(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())

        for fold in folds:
            member = _member(fold)
            if member in members:
                raise ModelError(f"{member.folder} would be in the package twice", where=path)
            members.append(member)
            add(f"{member.folder}/{PLAN_FILE}", _json(fold.plan.model_dump(mode="json")))
            add(f"{member.folder}/{WEIGHTS_FILE}", _weights(fold, precision))
        for name, document in documents.items():
            add(name, _json(document))
        manifest = Manifest(precision=precision, members=tuple(members), documents=tuple(documents), files=files)
        archive.writestr(zipfile.ZipInfo(MANIFEST, _EPOCH), _json(manifest.model_dump(mode="json")))
    return Path(path)


def open_package(path: Path | str) -> list[TrainedFold]:
    """The folds of a package, after every file in it was compared with its hash.

    Raises
    ------
    ModelError
        When it is missing, truncated, altered, of another version, or holds what the manifest does not name.
    """
    path = Path(path)
    with archives.checked_archive(path) as archive:
        manifest = _verified_manifest(archive, path)
    return [
        PackagedFold(path, member, manifest.files[f"{member.folder}/{WEIGHTS_FILE}"]) for member in manifest.members
    ]


def package_documents(path: Path | str) -> dict[str, Any]:
    """The further documents of a package, by name; the weights are not compared with their hashes.

    Raises
    ------
    ModelError
        As :func:`open_package`.
    """
    with archives.checked_archive(path) as archive:
        manifest = _verified_manifest(archive, Path(path), weights=False)
        return {name: json.loads(archives.read_entry(archive, name)) for name in manifest.documents}


def install_package(path: Path | str, results: Path | str) -> list[TrainedFold]:
    """Unpack a package's folds into the results of a dataset, each whole or not at all.

    A fold that is there already with the same weights is left as it is.

    Parameters
    ----------
    path : Path
    results : Path
        ``results/DatasetXXX_Name``.

    Raises
    ------
    ModelError
        As :func:`open_package`, and when another fold of that name is there; then nothing is unpacked.
    """
    path, results = Path(path), Path(results)
    with archives.checked_archive(path) as archive:
        manifest = _verified_manifest(archive, path)
        wanted = {}
        for member in manifest.members:
            target = fold_folder(results, member.recipe, member.configuration, member.fold)
            sha256 = manifest.files[f"{member.folder}/{WEIGHTS_FILE}"].sha256
            if not target.exists():
                wanted[member] = target
            elif TrainedFold(target).content_hash != sha256:
                raise ModelError(
                    "another trained fold is there", where=target, mend="move it away or install elsewhere"
                )
        for member, target in wanted.items():
            with atomic_folder(target) as temporary:
                for name in (PLAN_FILE, WEIGHTS_FILE):
                    archives.unpack(archive, f"{member.folder}/{name}", temporary / name)
    return [TrainedFold(fold_folder(results, m.recipe, m.configuration, m.fold)) for m in manifest.members]


def _member(fold: TrainedFold) -> Member:
    recipe, configuration = fold.plan.recipe, fold.configuration_name
    folder = fold_folder(Path(), recipe, configuration, fold.fold).as_posix()
    return Member(recipe=recipe, configuration=configuration, fold=fold.fold, folder=folder)


def _weights(fold: TrainedFold, precision: Precision) -> bytes:
    state = fold.state()
    if precision == "fp16":
        state = as_precision(state, torch.float16)
        if large := [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]:
            raise ModelError(f"'{large[0]}' does not fit into fp16", where=fold, mend="export as fp32")
    return serialise(state, fold.record.model_dump(mode="json"))


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, allow_nan=False) + "\n").encode()


def _verified_manifest(archive: zipfile.ZipFile, path: Path, *, weights: bool = True) -> Manifest:
    """Read the manifest and compare everything with it; the content of the folds only if `weights`."""
    manifest = _read_manifest(archive, path)
    names = {entry.filename for entry in archive.infolist() if not entry.is_dir()} - {MANIFEST}
    if names != manifest.files.keys():
        odd = sorted(names ^ manifest.files.keys())[0]
        raise ModelError(f"'{odd}' is in the package or in its manifest, but not in both", where=path)
    for name, record in manifest.files.items():
        same = archive.getinfo(name).file_size == record.bytes
        if same and (weights or name in manifest.documents):
            same = archives.hash_entry(archive, name) == record.sha256
        if not same:
            raise ModelError(f"'{name}' was altered: its hash is not the manifest's", where=path)
    for member in manifest.members:
        expected = fold_folder(Path(), member.recipe, member.configuration, member.fold).as_posix()
        needed = {f"{member.folder}/{name}" for name in (PLAN_FILE, WEIGHTS_FILE)}
        if member.folder != expected or len(PurePosixPath(expected).parts) != 2 or not needed <= names:
            raise ModelError(f"the manifest's member '{member.folder}' does not fit the package", where=path)
    if missing := set(manifest.documents) - names:
        raise ModelError(f"holds no '{missing.pop()}', which its manifest names", where=path)
    return manifest


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    try:
        values = json.loads(archives.read_entry(archive, MANIFEST))
    except ValueError:
        raise ModelError(f"its {MANIFEST} is not valid JSON", where=path) from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ModelError("is not a model package of this program", where=path)
    if values.get("version") != PACKAGE_VERSION:
        what = f"package of version {values.get('version')}, this program reads version {PACKAGE_VERSION}"
        raise ModelError(what, where=path, mend="export it again, or use the version of bts_auto that made it")
    try:
        return parse(Manifest, values)
    except BtsError as error:
        raise ModelError(f"its {MANIFEST} does not fit: {error}", where=path) from None
