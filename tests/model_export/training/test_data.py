"""Batches: every face once a round, half of them mirrored, with the embedding that goes with it."""

from __future__ import annotations

import torch

from model_export.pictures import to_tensor
from model_export.preparing.dataset import FaceSet
from model_export.training.data import Batches
from model_export.training.processes import Processes

CPU = torch.device("cpu")


def test_every_face_is_seen_once_a_round(face_set: FaceSet) -> None:
    batches = Batches(face_set, 8, 0, CPU, Processes())
    rounds = [[batches.row(start + place) for place in range(64)] for start in (0, 64)]
    assert [sorted(rows) for rows in rounds] == [list(range(64))] * 2
    assert rounds[0] != rounds[1]


def test_a_mirrored_face_comes_with_its_mirrored_embedding(face_set: FaceSet) -> None:
    batch = Batches(face_set, 16, 0, CPU, Processes()).after(0)
    rows = [Batches(face_set, 16, 0, CPU, Processes()).row(index) for index in range(16)]
    plain = to_tensor(face_set.faces[rows])
    mirrored = (batch.source == plain.flip(3)).flatten(1).all(1)
    assert torch.equal(mirrored, (batch.source != plain).flatten(1).any(1))
    assert 0 < mirrored.sum() < 16
    upright, turned = (
        torch.from_numpy(vectors[rows]) for vectors in (face_set.embeddings, face_set.embeddings_mirrored)
    )
    assert torch.equal(batch.embedding, torch.where(mirrored[:, None], turned, upright))
    assert torch.equal(batch.embedding_mirrored, torch.where(mirrored[:, None], upright, turned))


def test_two_processes_share_the_faces_of_a_step(face_set: FaceSet) -> None:
    of_both = [Batches(face_set, 4, 0, CPU, Processes(rank, 2)) for rank in (0, 1)]
    alone = Batches(face_set, 8, 0, CPU, Processes())
    assert [batches.step_images for batches in (*of_both, alone)] == [8, 8, 8]
    rows = [alone.row(index) for index in range(8, 16)]
    seen = torch.cat([batches.after(8).source for batches in of_both])
    for row, shown in zip(rows, seen, strict=True):
        plain = to_tensor(face_set.faces[[row]])[0]
        assert torch.equal(shown, plain) or torch.equal(shown, plain.flip(2))
