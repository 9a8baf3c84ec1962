"""The service on Ray Serve: `serve run deploy/ray/serve.yaml` in the folder of the repository.

Each replica builds the same application as `python -m app serve`, has a network runtime of its own, and answers whole
requests; Serve's proxies take the place of the server.
"""

from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import AutoscalingConfig
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.main import create_app
from app.settings import Settings
from app.telemetry import logs, tracing


class Arguments(BaseModel):
    """The `args` of the application in serve.yaml."""

    model_config = ConfigDict(extra="forbid")

    least_replicas: int = Field(1, ge=1)
    """Replicas that are kept without any load."""

    most_replicas: int = Field(1, ge=1)
    """Replicas at the height of the load: on GPUs as many as there are."""

    gpus: float = Field(0, ge=0)
    """GPUs of a replica: 1, or 0 to compute on the CPU. A replica fills a GPU; there is no gain in sharing one."""

    cpus: float = Field(1, gt=0)
    """Cores of a replica. On the CPU its networks use as many, unless the settings say otherwise."""

    target_requests: float = Field(4, gt=0)
    """Requests that a replica should have at once, those that wait included: above it there will be more replicas."""

    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the service by name, in lower case and without LOOKALIKE_; they go before a node's environment."""

    def service(self) -> dict[str, Any]:
        """Settings of the service, as the size of a replica suggests them."""
        fitting = {"device": "cuda"} if self.gpus else {"device": "cpu", "threads": max(int(self.cpus), 1)}
        return fitting | self.settings


class OneRequestId:
    """Leaves the X-Request-ID to Serve's proxy where it would say the same twice."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        given = Headers(scope=scope).get("x-request-id") if scope["type"] == "http" else None

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("x-request-id") == given:
                    del headers["x-request-id"]
            await send(message)

        await self._app(scope, receive, send_on)


class Replica:
    """One copy of the application.

    Args:
        settings: of the service.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        # From the environment of this node, as a process of its own would have them.
        self._settings = Settings(**settings)
        logs.configure(self._settings.log_level)
        if self._settings.tracing:
            tracing.configure()

    def __serve_build_asgi_app__(self) -> FastAPI:
        """The application; Serve runs its lifespan, and so loads the models before the first request."""
        self._app = create_app(self._settings)
        self._app.add_middleware(OneRequestId)
        return self._app

    def check_health(self) -> None:
        """Have the replica replaced where its networks no longer work; a full queue is no illness.

        Raises:
            RuntimeError: they do not.
        """
        if self._app.state.service.failing:
            raise RuntimeError("The networks fail.")


DEPLOYMENT = serve.deployment(name="lookalike")(serve.ingress()(Replica))


def build(arguments: Arguments) -> serve.Application:
    """The application of serve.yaml."""
    Settings(**arguments.service())  # a misspelled setting is refused here, not by every replica for ever
    scaling = AutoscalingConfig(
        min_replicas=arguments.least_replicas,
        max_replicas=arguments.most_replicas,
        target_ongoing_requests=arguments.target_requests,
        upscale_delay_s=10,
        downscale_delay_s=300,
    )
    resources = {"num_cpus": arguments.cpus, "num_gpus": arguments.gpus}
    return DEPLOYMENT.options(autoscaling_config=scaling, ray_actor_options=resources).bind(arguments.service())
