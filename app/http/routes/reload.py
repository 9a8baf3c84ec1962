"""`POST /v1/model:reload`: serve what the model directory holds now."""

from __future__ import annotations

from fastapi import APIRouter

from app.http import schemas
from app.http.dependencies import Service
from app.http.documentation import errors
from app.http.problems import MODEL_INVALID
from app.ops.reload import tell_siblings

router = APIRouter(tags=["operations"])


@router.post(
    "/v1/model:reload",
    summary="Reload the model",
    operation_id="reload_model",
    responses=errors(409, 503, also=(MODEL_INVALID,)),
)
async def reload_model(service: Service) -> schemas.ReloadAnswer:
    """Verify, load and warm what the model directory holds now, and serve it in place of the model in force.

    No request fails for it: whatever began with the old model finishes with it. If the new one cannot be served the old
    one stays, and the problem says why. Needs a key; SIGHUP does the same. Where several processes share the port, the
    answer is that of one; the others follow.
    """
    before, after = await service.reload()
    if service.settings.workers > 1 and before != after:
        tell_siblings()
    return schemas.ReloadAnswer(
        model=schemas.ModelName(name=after.name, version=after.version),
        previous=schemas.ModelName(name=before.name, version=before.version),
        changed=before != after,
    )
