"""Jobs that were sent, without a service that takes them."""

from __future__ import annotations

from app.batch.jobs import Folder, Record
from app.core.parameters import VariantsParameters


def record(folder: Folder, owner: str = "one", size: int = 0) -> Record:
    return Record(
        id=folder.id, owner=owner, payer=owner, created=0, parameters=VariantsParameters(), seed=0, layout="person",
        labels="same-person", photographs=1, bytes=size,
    )  # fmt: skip
