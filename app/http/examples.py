"""Examples for the OpenAPI description, one of each body and answer: built from the schemas, so that they are valid."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.http import schemas

Example = Any

REQUEST_ID = "0b6e5c1fd1f54c3f9c2a7c52d1e3a8b4"
MODEL = schemas.ModelName(name="lookalike", version="0.1.0")
ANSWER_ID = "f2d9a4c07be1"
REFERENCE = "AQCTn0Zx"
JPEG = "/9j/4AAQSkZJRgABAQAAAQABAAD/2Q=="
IDENTITY = [round(((7 * place) % 23 - 11) / 10, 1) for place in range(IDENTITY_SIZE)]
CONTROL = [0.81, -0.35, 0.12, -0.94, 0.4, 0.07, -0.58, 0.66, -0.21, 0.3]
LANDMARKS = schemas.Landmarks(
    right_eye=(206.1, 113.8),
    left_eye=(243.9, 110.2),
    nose_tip=(228.4, 132.7),
    mouth_centre=(226.0, 150.9),
    right_ear=(182.5, 124.6),
    left_ear=(262.3, 117.4),
)
FACE = schemas.FoundFace(box=(176.4, 66.2, 274.8, 164.6), landmarks=LANDMARKS, detection_score=0.97)
SOURCE = schemas.Source(**FACE.model_dump(), identity=IDENTITY, reference=REFERENCE, grey=False)
VARIANT = schemas.Variant(
    index=0,
    control=CONTROL,
    similarity=0.63,
    in_band=True,
    media_type="image/jpeg",
    width=128,
    height=128,
    image=JPEG,
)
SEARCH = schemas.Search(similarity_min=0.4, similarity_max=0.74, wanted=1, found=1, tries=4)
RENDERED = schemas.RenderAnswer(
    id=ANSWER_ID, model=MODEL, seed=7, search=SEARCH, measured_against="photograph", variants=[VARIANT]
)

FORMS: dict[str, Example] = {
    "/v1/variants": {"image": "(the file)", "count": 1, "seed": 7, "band": "lookalike"},
    "/v1/sweep": {"image": "(the file)", "control": "0", "steps": 5},
    "/v1/identities": {"image": "(the file)", "face": "all"},
    "/v1/compare": {"reference": "(a file)", "probe": "(another file)"},
}
"""Forms by path; a file stands as a word."""

BODIES: dict[str, Example] = {
    "/v1/variants": {"image": JPEG, "count": 1, "seed": 7, "band": "lookalike"},
    "/v1/sweep": {"image": JPEG, "control": 0, "steps": 5},
    "/v1/identities": {"image": JPEG, "face": "all"},
    "/v1/compare": {"reference": JPEG, "probe": JPEG},
    "/v1/render": {"identity": IDENTITY, "controls": [[0.0] * CONTROL_SIZE, CONTROL], "format": "png"},
}
"""JSON bodies by path."""

ANSWERS: dict[str, BaseModel] = {
    "/v1/variants": schemas.VariantsAnswer(**RENDERED.model_dump(), source=SOURCE),
    "/v1/render": RENDERED,
    "/v1/sweep": schemas.SweepAnswer(
        id=ANSWER_ID, model=MODEL, control=0, measured_against="photograph", source=SOURCE, variants=[VARIANT]
    ),
    "/v1/identities": schemas.IdentitiesAnswer(
        id=ANSWER_ID, model=MODEL, found=1, left_out=0, faces=[schemas.IdentityFace(**SOURCE.model_dump(), index=0)]
    ),
    "/v1/compare": schemas.CompareAnswer(
        id=ANSWER_ID,
        model=MODEL,
        similarity=0.52,
        verdicts=[
            schemas.Verdict(fmr=1e-2, threshold=0.34, match=True),
            schemas.Verdict(fmr=1e-3, threshold=0.44, match=True),
            schemas.Verdict(fmr=1e-4, threshold=0.53, match=False),
        ],
        reference=FACE,
        probe=FACE,
    ),
    "/v1/model:reload": schemas.ReloadAnswer(
        model=schemas.ModelName(name="lookalike", version="0.2.0"), previous=MODEL, changed=True
    ),
}
"""Good JSON answers by path."""

DETAILS: dict[str, str] = {
    "bad-request": "The body is empty. Send multipart/form-data with the file field 'image'.",
    "not-an-image": "The bytes are not a JPEG, PNG or WebP picture.",
    "unauthorized": "Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`.",
    "forbidden": "This key may not administer the service. Use one that is named in LOOKALIKE_ADMIN_KEYS.",
    "not-acceptable": "None of what Accept asks for is made here.",
    "request-timeout": "The body had not arrived after 30 s.",
    "too-many-bytes": "At most 16777216 bytes are accepted.",
    "too-many-pixels": "The picture has 30000 x 30000 pixels; at most 40000000 are accepted.",
    "unsupported-media-type": "text/plain is not taken here. Send multipart/form-data with the file field 'image'.",
    "invalid-parameters": "count: must be less than or equal to 64",
    "no-face": "No face was found. Send a photograph in which a face is visible, upright and well lit.",
    "face-not-found": "Face 3 was asked for; the last in this photograph is 1, the largest is 0.",
    "face-too-small": "The eyes are 9 pixels apart; at least 16 are needed. Send a larger or closer photograph.",
    "unknown-control": "There is no control 'hair'; there are age, skin tone, and eight more.",
    "reference-invalid": "This is no reference, or not a whole one. Send it as it stood in the answer.",
    "band-empty": "Widen the band, or ask for JSON to see how the search went.",
    "too-many-requests": "64 images were asked for, and 12 of 1000 in 60 s are left. Try again in 9 s.",
    "not-ready": "The models are being loaded, or the service is going down.",
    "model-invalid": "decoder.onnx does not have the checksum of its manifest; the old model goes on.",
}
"""Of a problem's kind, what its detail may read like."""
