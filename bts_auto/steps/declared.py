"""What a dataset.json that is named, or lies beside masks, says of their integers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bts_auto.files import read_json

if TYPE_CHECKING:
    from bts_auto.data.labels import Labels

_DATASET_FILE = "dataset.json"


def declared(path: Path) -> tuple[Labels, dict[str, tuple[str, ...]]]:
    """What a dataset.json says of the labels, and of cases that are annotated for some of them only."""
    from bts_auto.data.labels import Labels
    from bts_auto.data.partial import read_partial_labels

    document = read_json(path)
    labels = Labels.from_dataset(document)
    return labels, read_partial_labels(document, labels, path)


def dataset_beside(masks: Path) -> Path | None:
    """The dataset.json in a folder of masks or, as in a raw dataset, in the one above."""
    found = (folder / _DATASET_FILE for folder in (masks, masks.absolute().parent))
    return next((path for path in found if path.is_file()), None)
