"""Does a cohort make a verifier of your people safer? Error rates before and after adaptive score normalisation.

    python -m app cohort others --photographs OTHERS             # other people, taken as yours are
    python examples/harden.py photographs others/cohort.npz      # a folder for each person, two photographs or more

The first photograph of a person is enrolled, the others are shown to the verifier. Everything that is computed is the
service's own code; `python -m app report --normalise` says the same of a recogniser that is not the service's.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from app.audit.rates import AtRate, Bootstrap, Pairs, can_be_had
from app.core.cohort import check_cohort, read_cohort
from app.core.faces import Detector, Floats, Recognizer, align
from app.core.normalisation import adaptive_s_norm
from app.errors import LookalikeError, NoFace, NotAnImage

MODELS = Path(__file__).parents[1] / "app" / "models"
PICTURES = {".jpg", ".jpeg", ".png", ".webp"}


def embedded(folder: Path, models: Path = MODELS) -> Iterator[tuple[int, Floats]]:
    """Number of the person and unit vector [192] of each photograph with a face, in the order of names.

    Raises:
        OSError: there is no such folder.
        NotAnImage: a photograph cannot be read; the message names it.
    """
    detect, recognise = Detector(models, "cpu"), Recognizer(models, "cpu")
    for number, person in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(path for path in person.iterdir() if path.suffix.lower() in PICTURES):
            try:
                photograph = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
            except Exception as error:  # decoders raise what they like
                raise NotAnImage(f"{path}: cannot be read ({error})") from error
            if faces := detect(photograph):
                yield number, recognise(align(photograph, faces[0])[None])[0]
            else:
                print(f"{path} is left out: no face was found.", file=sys.stderr)


def compared(people: Sequence[int], vectors: Floats, cohort: Floats) -> tuple[Pairs, Pairs]:
    """Everybody's first photograph against all later ones: by similarity, and normalised by a cohort [c, 192]."""
    who = np.unique(people, return_inverse=True)[1]  # people without a photograph are nobody to draw from
    first = np.unique(who, return_index=True)[1]
    later = np.setdiff1d(np.arange(len(who)), first)
    rows, columns = (side.ravel() for side in np.meshgrid(first, later, indexing="ij"))
    similarity = (vectors[rows] * vectors[columns]).sum(1)
    against = vectors @ cohort.T
    normalised = adaptive_s_norm(similarity, against[rows], against[columns])
    return Pairs(similarity, who[rows], who[columns]), Pairs(normalised, who[rows], who[columns])


def rates(pairs: Pairs, fmr: float) -> AtRate:
    """What holds at a false match rate.

    Raises:
        ValueError: there are too few pairs to tell.
    """
    genuine = pairs.first == pairs.second
    if not genuine.any() or not can_be_had(int((~genuine).sum()), fmr):
        raise ValueError(f"too few photographs: {genuine.sum()} pairs of a person, {(~genuine).sum()} of two people")
    (found,) = Bootstrap(int(pairs.first.max()) + 1).at_rates(pairs.where(genuine), pairs.where(~genuine), [fmr])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both rates; returns the exit status: 0 done, 1 too few photographs, 2 photographs or cohort are none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder for each person, two photographs or more in it")
    parser.add_argument("cohort", type=Path, help="cohort.npz, as python -m app cohort makes it")
    parser.add_argument("--fmr", type=float, default=0.01, help="false match rate (default 0.01)")
    chosen = parser.parse_args(arguments)
    try:
        check_cohort(chosen.cohort, MODELS)
        cohort = read_cohort(chosen.cohort).embeddings
        faces = list(embedded(chosen.photographs))
        if not faces:
            raise NoFace(f"{chosen.photographs}: no face was found; it is to hold a folder for each person")
    except LookalikeError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"{error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    people, vectors = zip(*faces, strict=True)
    try:
        for name, pairs in zip(("similarity", "normalised"), compared(people, np.stack(vectors), cohort), strict=True):
            found = rates(pairs, chosen.fmr)
            value, low, high = found.fnmr
            print(f"{name}: threshold {found.threshold.value:.3f}, FNMR {value:.1%} [{low:.1%}, {high:.1%}]")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    print("Where the second is not clearly the lower one, this cohort does not help: leave the scores as they are.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
