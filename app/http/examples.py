"""Examples for the OpenAPI description, one of each body and answer: built from the schemas, so that they are valid."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from app.core.generate import CONTROL_SIZE, IDENTITY_SIZE
from app.core.provenance import SYNTHETIC
from app.http import compared, origin, schemas

Example = Any

REQUEST_ID = "0b6e5c1fd1f54c3f9c2a7c52d1e3a8b4"
MODEL = schemas.ModelName(name="lookalike", version="0.1.0")
ANSWER_ID = "f2d9a4c07be1"
REFERENCE = "AQCTn0Zx"
DRAWN = base64.b64encode((Path(__file__).parents[1] / "page" / "example-1.webp").read_bytes()).decode()
"""A face that the model drew, of nobody: what is prefilled in /docs has to work."""
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
QUALITY = schemas.Quality(
    head_pose_yaw=-4.1,
    head_pose_roll=-5.4,
    inter_eye_distance=37.9,
    sharpness=0.27,
    face_likeness=7.4,
    fidelity=0.81,
    doubts=[],
)
FACE = schemas.FoundFace(
    box=(176.4, 66.2, 274.8, 164.6), landmarks=LANDMARKS, detection_score=0.97, rotation=0, face_quality=QUALITY
)
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

JOB = schemas.JobAnswer(
    id=REQUEST_ID,
    state="done",
    created=datetime(2026, 11, 26, 9, 0, tzinfo=UTC),
    started=datetime(2026, 11, 26, 9, 0, 2, tzinfo=UTC),
    ended=datetime(2026, 11, 26, 9, 1, tzinfo=UTC),
    expires=datetime(2026, 11, 27, 9, 1, tzinfo=UTC),
    photographs=200,
    used=198,
    skipped=2,
    images=792,
    seed=7,
    parameters={"count": 4, "strength": 1.0, "format": "jpeg", "quality": 95, "face": "largest"},
    layout="person",
    labels="same-person",
    webhook=schemas.JobWebhook(url="https://hooks.example.org/lookalike", state="delivered", attempts=1),
    problem=None,
    result=f"/v1/jobs/{REQUEST_ID}/result",
)
NEW_JOB = JOB.model_copy(
    update={"state": "queued", "started": None, "ended": None, "expires": None, "result": None, "webhook": None}
    | dict.fromkeys(("used", "skipped", "images"), 0)
)

FORMS: dict[str, Example] = {
    "POST /v1/variants": {"image": "(the file)"},
    "POST /v1/sweep": {"image": "(the file)"},
    "POST /v1/identities": {"image": "(the file)"},
    "POST /v1/compare": {"reference": "(a file)", "probe": "(another file)"},
    "POST /v1/jobs": {"archive": "(the file)"},
    "POST /v1/detect": {"image": "(the file)"},
}
"""Forms by operation; a file stands as a word."""

BODIES: dict[str, Example] = {
    "POST /v1/variants": {"image": DRAWN, "count": 1, "seed": 7, "band": "lookalike"},
    "POST /v1/sweep": {"image": DRAWN, "control": 0, "steps": 5},
    "POST /v1/identities": {"image": DRAWN, "face": "all"},
    "POST /v1/compare": {"reference": DRAWN, "probe": DRAWN},
    "POST /v1/detect": {"image": DRAWN},
    "POST /v1/render": {"identity": IDENTITY, "controls": [[0.0] * CONTROL_SIZE, CONTROL], "format": "png"},
}
"""JSON bodies by operation."""

ANSWERS: dict[str, BaseModel] = {
    "POST /v1/variants": schemas.VariantsAnswer(**RENDERED.model_dump(), source=SOURCE),
    "POST /v1/render": RENDERED,
    "POST /v1/sweep": schemas.SweepAnswer(
        id=ANSWER_ID, model=MODEL, control=0, measured_against="photograph", source=SOURCE, variants=[VARIANT]
    ),
    "POST /v1/identities": schemas.IdentitiesAnswer(
        id=ANSWER_ID, model=MODEL, found=1, left_out=0, faces=[schemas.IdentityFace(**SOURCE.model_dump(), index=0)]
    ),
    "POST /v1/compare": compared.CompareAnswer(
        id=ANSWER_ID,
        model=MODEL,
        similarity=0.52,
        verdicts=[
            compared.Verdict(fmr=1e-2, threshold=0.34, match=True),
            compared.Verdict(fmr=1e-3, threshold=0.44, match=True),
            compared.Verdict(fmr=1e-4, threshold=0.53, match=False),
        ],
        reference=FACE,
        probe=FACE,
    ),
    "POST /v1/detect": origin.DetectAnswer(
        model=MODEL,
        verdict="drawn-by-this-model",
        statement="The mark in the pixels says that version 0.1.0 of the model drew it here.",
        width=128,
        height=128,
        faces=1,
        layers=origin.OriginLayers(
            metadata=origin.MetadataLayer(
                present=True,
                digital_source_type=SYNTHETIC,
                system=MODEL.name,
                version=MODEL.version,
                software=f"{MODEL.name} {MODEL.version}",
                document=ANSWER_ID,
            ),
            credentials=origin.CredentialsLayer(
                present=False,
                valid=False,
                state="absent",
                why=[],
                generator="",
                version="",
                digital_source_type="",
                when="",
                signer="",
            ),
            pixels=origin.PixelsLayer(
                present=True,
                score=26.12,
                threshold=10.28,
                false_alarm_rate=1e-6,
                marks=[
                    origin.PixelMark(
                        score=26.12,
                        version=MODEL.version,
                        installation=0,
                        ours=True,
                        mirrored=False,
                        frame=[(0, 0), (128, 0), (128, 128), (0, 128)],
                    )
                ],
            ),
        ),
    ),
    "POST /v1/jobs": NEW_JOB,
    "GET /v1/jobs": schemas.JobsAnswer(jobs=[JOB]),
    "GET /v1/jobs/{id}": JOB,
    "POST /v1/model:reload": schemas.ReloadAnswer(
        model=schemas.ModelName(name="lookalike", version="0.2.0"), previous=MODEL, changed=True
    ),
}
"""Good JSON answers by operation."""

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
    "no-face": "No face was found. Send a photograph in which a face is visible and well lit.",
    "face-not-found": "Face 3 was asked for; the last in this photograph is 1, the largest is 0.",
    "face-too-small": "The eyes are 9 pixels apart; at least 16 are needed. Send a larger or closer photograph.",
    "unknown-control": "There is no control 'hair'; there are age, skin tone, and eight more.",
    "unknown-size": "There are no pictures of 512 pixels, only of 128 or 256.",
    "head-turned": "The head is turned to the side by about 71 degrees. Send a photograph that faces the camera.",
    "unlike-a-face": "What was found is unlike the photograph of an upright face.",
    "reference-invalid": "This is no reference, or not a whole one. Send it as it stood in the answer.",
    "band-empty": "Widen the band, or ask for JSON to see how the search went.",
    "too-many-requests": "64 images were asked for, and 12 of 1000 in 60 s are left. Try again in 9 s.",
    "not-ready": "The models are being loaded, or the service is going down.",
    "job-too-large": "A job has at most 10000 photographs. Send fewer at a time.",
    "jobs-full": "The disk for jobs is full. Delete jobs whose results you have, or try again later.",
    "job-not-done": "31 of 200 photographs are done. Ask again later.",
    "not-an-archive": "It is neither a tar nor a zip, or it is damaged.",
    "webhook-refused": "Webhooks are off here: the operator would have to allow origins for them.",
    "model-invalid": "decoder.onnx does not have the checksum of its manifest; the old model goes on.",
}
"""Of a problem's kind, what its detail may read like."""
