from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.audit import recognisers
from app.audit.crops import cropped
from app.audit.recognisers import Preprocessing, embeddings, from_onnx
from app.runtime.manifest import read_manifest
from app.settings import Settings

Report = Callable[..., int]

HEAD = "import numpy as np\n"
MEANS = (
    HEAD + "def embed(pictures):\n    return [p.reshape(8, p.shape[0] // 8, -1).mean((1, 2)) - 128 for p in pictures]\n"
)
TENSOR = """
class Tensor:
    def __array__(self, *_, **__):
        raise RuntimeError("call detach first")

"""
SCORE = (
    HEAD + "def score(first, second):\n    return [-float(np.abs(a.mean((0, 1)) - b.mean((0, 1))).sum())"
    " for a, b in zip(first, second)]\n"
)


def test_a_function_that_embeds(report: Report, tmp_path: Path) -> None:
    (tmp_path / "mine_embeds.py").write_text(MEANS)
    assert report("--recogniser", "mine_embeds:embed") == 0
    found = json.loads((tmp_path / "OUT" / "report.json").read_text())
    assert (found["recogniser"], found["crop"]) == ("mine_embeds:embed", "frame")
    assert found["summary"]["equal_error_rate"] > 0.02  # it hardly recognises anybody


def test_a_function_that_scores_pairs(report: Report, tmp_path: Path) -> None:
    (tmp_path / "mine_scores.py").write_text(SCORE)
    assert report("--recogniser", "mine_scores:score", "--pairs", "300") == 0
    found = json.loads((tmp_path / "OUT" / "report.json").read_text())
    assert found["pairs"] == {"genuine": 27, "impostor": 300, "source": 30, "other": 27}
    assert found["summary"]["scores"]["genuine"]["quantiles"]["0.5"] < 0


def test_where_no_face_is_found_it_is_counted(report: Report, tmp_path: Path) -> None:
    (tmp_path / "mine_misses.py").write_text(
        MEANS + "def seldom(pictures):\n    found = embed(pictures)\n    found[0] = None\n    return found\n"
    )
    assert report("--recogniser", "mine_misses:seldom") == 0
    found = json.loads((tmp_path / "OUT" / "report.json").read_text())
    assert (
        found["photographs"]["failures_to_extract"] + found["look_alikes"]["failures"] == 12
    )  # one of each 16 photographs, and of each three look-alikes
    assert found["pairs"]["genuine"] < 27


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return None", "p00/0.png: mine_fails:embed returned NoneType for 15 pictures"),
        ("return np.zeros((len(pictures), 4))", "p00/0.png: mine_fails:embed returned an embedding that is not finite"),
        ("return np.full((len(pictures), 4), np.nan)", "p00/0.png: mine_fails:embed returned an embedding that is not"),
        ("return np.ones((len(pictures) - 1, 4))", "p05/1.png: mine_fails:embed returned 14 rows for 15 pictures"),
        (
            "return np.ones((len(pictures), 4, 4))",
            "p00/0.png: mine_fails:embed returned an embedding of the shape [4, 4]",
        ),
        (
            "return [[1, 2]] * 3 + [[1]] * (len(pictures) - 3)",
            "p01/2.png: mine_fails:embed returned an embedding of the",
        ),
        ("return ['x'] * len(pictures)", "p00/0.png: mine_fails:embed returned something that is no numbers"),
        (
            "return [Tensor()] * len(pictures)",
            "p00/0.png: mine_fails:embed returned something that is no numbers (RuntimeError: call detach first)",
        ),
        (
            "yield from pictures[0].mean((0, 1))[None].repeat(3, 0)\n    raise OSError('gone')",
            "p00/0.png: mine_fails:embed failed on it: OSError: gone",
        ),
        ("raise MemoryError('no room')", "p00/0.png: mine_fails:embed failed on it: MemoryError: no room"),
        (
            "return np.ones((len(pictures), 4 + len(pictures) % 16))",
            "p05/2.png: has an embedding of [17], another of [19]",
        ),
    ],
)
def test_what_is_no_answer_names_the_file(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture, body: str, says: str
) -> None:
    (tmp_path / "mine_fails.py").write_text(f"{HEAD}{TENSOR}def embed(pictures):\n    {body}\n")
    assert report("--recogniser", "mine_fails:embed") == 2
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error


def test_the_one_picture_of_many_that_it_fails_on_is_named(
    report: Report, people: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "mine_dislikes.py").write_text(
        MEANS + "seen = []\ndef fussy(pictures):\n    sums = [int(p.sum()) for p in pictures]\n"
        "    seen[:] = seen or sums\n    assert seen[4] not in sums, 'not her'\n    return embed(pictures)\n"
    )
    assert report("--recogniser", "mine_dislikes:fussy") == 2
    assert "p02/0.png: mine_dislikes:fussy failed on it: AssertionError: not her" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("nowhere:embed", "cannot be imported (ModuleNotFoundError"),
        ("json:embed", "cannot be imported (AttributeError"),
        ("shutil:disk_usage_of", "cannot be imported"),
        ("math:hypot3", "cannot be imported"),
        ("builtins:len", "cannot be imported (TypeError"),
        ("mine", "is none of own, MODULE:FUNCTION, FILE.onnx and an address"),
        ("gone.onnx", "gone.onnx: cannot be loaded (FileNotFoundError"),
        ("broken.onnx", "broken.onnx: cannot be loaded"),
        ("colorsys:rgb_to_hsv", "takes 3 arguments"),
    ],
)
def test_a_recogniser_that_is_none_is_told(
    report: Report, tmp_path: Path, capsys: pytest.CaptureFixture, which: str, says: str
) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"\x08no")
    assert report("--recogniser", which) == 2
    assert says in capsys.readouterr().err


def network(path: Path, shape: list[object], axes: list[int]) -> Path:
    """An ONNX network whose embedding is the mean level of each channel, as it enters."""
    graph = helper.make_graph(
        [helper.make_node("ReduceMean", ["picture", "axes"], ["embedding"], keepdims=0)],
        "means",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [shape[0], 3])],
        [numpy_helper.from_array(np.array(axes, np.int64), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


@pytest.mark.parametrize(
    ("shape", "axes", "layout"),
    [(["n", 3, 48, 48], [2, 3], None), ([1, 48, 48, 3], [1, 2], None)],
    ids=["nchw", "nhwc"],
)
def test_an_onnx_file_is_given_what_its_preprocessing_says(
    tmp_path: Path, shape: list[object], axes: list[int], layout: None
) -> None:
    path = network(tmp_path / "means.onnx", shape, axes)
    picture = np.full((112, 112, 3), (255, 100, 0), np.uint8)
    for how, entered in (
        (Preprocessing(), [1, 100 / 127.5 - 1, -1]),
        (Preprocessing(mean=0, scale=255, colours="bgr"), [0, 100 / 255, 1]),
    ):
        (vector, _) = embeddings(from_onnx(path, None, how), [picture, picture], ["one", "two"])
        assert vector == pytest.approx(np.array(entered) / np.linalg.norm(entered), abs=1e-5)


def test_an_onnx_file_is_audited(report: Report, tmp_path: Path) -> None:
    network(tmp_path / "means.onnx", ["n", 3, 112, 112], [2, 3])
    assert report("--recogniser", "means.onnx", "--crop", "portrait") == 0
    found = json.loads((tmp_path / "OUT" / "report.json").read_text())
    assert found["recogniser"] == "means.onnx (portrait 112x112, rgb, (x - 127.5) / 127.5, nchw)"


def test_the_services_own_takes_pictures_of_another_size_than_faces(
    portrait: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(device="cpu", threads=1)
    manifest = read_manifest(settings.models).model_copy(update={"image_size": 192})
    monkeypatch.setattr(recognisers, "read_manifest", lambda _: manifest)
    recogniser = recognisers.own(settings)
    pictures = [np.asarray(portrait.crop((150, 50, 290, 190)).resize((side, side))) for side in (128, 192, 128)]
    first, larger, again = embeddings(recogniser, pictures, ["one", "two", "three"])
    assert np.array_equal(first, again)
    assert 0.95 < first @ larger < 1


def test_crops_show_the_same_face() -> None:
    frame = np.full((128, 128, 3), (200, 60, 20), np.uint8)
    assert cropped(frame, "frame") is frame
    assert cropped(frame, "portrait").shape == (256, 256, 3)
    assert (cropped(frame, "portrait") == frame[0, 0]).all()  # the edge goes on
    arcface = cropped(frame, "arcface")
    assert arcface.shape == (112, 112, 3)
    assert arcface[56, 56].tolist() == [200, 60, 20]
    assert arcface[0, 0].tolist() == [128, 128, 128]  # beyond the frame


def test_embeddings_may_come_one_by_one() -> None:
    recogniser = recognisers.Recogniser("mine", "mine", "frame", embed=lambda pictures: (p[0, 0] for p in pictures))
    pictures = [np.full((2, 2, 3), level, np.uint8) for level in (1, 2)]
    for vector in embeddings(recogniser, pictures, ["one", "two"]):
        assert vector == pytest.approx(np.full(3, 3**-0.5))
