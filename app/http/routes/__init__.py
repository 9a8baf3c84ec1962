"""HTTP: one file a resource. Routes translate; what is done is decided in the service layer."""

from app.http.routes import (
    compare,
    detect,
    docs,
    health,
    identities,
    inference,
    jobs,
    model,
    page,
    reload,
    render,
    sweep,
    variants,
)

ROUTERS = (
    variants.router,
    render.router,
    sweep.router,
    identities.router,
    compare.router,
    detect.router,
    jobs.router,
    model.router,
    reload.router,
    inference.router,
    health.router,
    page.router,
    docs.router,
)
