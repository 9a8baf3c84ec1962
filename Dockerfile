# syntax=docker/dockerfile:1
# Two images of the same service:
#   docker build --target cpu  --tag lookalike:cpu  .
#   docker build --target cuda --tag lookalike:cuda .
# Both run as user 10001 on a read-only root file system without capabilities.

# ---- CPU ----------------------------------------------------------------------------------------------------------
FROM python:3.13-slim-trixie AS cpu-build
WORKDIR /build
RUN python3 -m venv --without-pip /opt/lookalike
COPY pyproject.toml requirements.lock deploy/requirements.py ./
RUN python3 requirements.py otel redis > requirements.txt
# On x86-64 the wheel of ONNX Runtime has CUDA's half as well, which is nine tenths of it and cannot run here.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/lookalike/bin/python3 install --requirement requirements.txt --constraint requirements.lock \
    && rm -f /opt/lookalike/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime_providers_cuda.so \
          /opt/lookalike/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime_providers_tensorrt.so
COPY app app
RUN mv app/models models && python3 -m compileall -q --invalidation-mode unchecked-hash -p /srv/lookalike app

FROM python:3.13-slim-trixie AS cpu
LABEL org.opencontainers.image.title="lookalike" \
      org.opencontainers.image.description="Synthetic look-alikes of a face, to train and test face recognition; on the CPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim-trixie"
RUN useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lookalike
ENV PATH=/opt/lookalike/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOKALIKE_HOST=0.0.0.0 \
    LOOKALIKE_PORT=8000 \
    LOOKALIKE_DEVICE=cpu
WORKDIR /srv/lookalike
# From what changes least to what changes most.
COPY --from=cpu-build /opt/lookalike /opt/lookalike
COPY --from=cpu-build /build/models app/models
COPY LICENSE deploy/healthcheck.py ./
COPY --from=cpu-build /build/app app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python3", "/srv/lookalike/healthcheck.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "app"]
CMD ["serve"]

# ---- NVIDIA GPU ---------------------------------------------------------------------------------------------------
# Ubuntu as below, so that the virtual environment fits its Python.
FROM ubuntu:24.04 AS cuda-build
WORKDIR /build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip python3-venv && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv --without-pip /opt/lookalike
COPY pyproject.toml requirements.lock deploy/requirements.py ./
RUN python3 requirements.py otel redis > requirements.txt
# Not the extra `cuda`: NVIDIA's libraries are in the base image.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/lookalike/bin/python3 install --requirement requirements.txt --constraint requirements.lock
COPY app app
RUN mv app/models models && python3 -m compileall -q --invalidation-mode unchecked-hash -p /srv/lookalike app

# ONNX Runtime 1.31 is built for CUDA 13.0 and cuDNN 9; a driver of release 580 or later runs it.
FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 AS cuda
LABEL org.opencontainers.image.title="lookalike" \
      org.opencontainers.image.description="Synthetic look-alikes of a face, to train and test face recognition; on an NVIDIA GPU" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04"
# Ubuntu's archive keeps the latest build of a package only, so a version here would soon be nowhere.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin lookalike
ENV PATH=/opt/lookalike/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    LOOKALIKE_HOST=0.0.0.0 \
    LOOKALIKE_PORT=8000 \
    LOOKALIKE_DEVICE=cuda
WORKDIR /srv/lookalike
COPY --from=cuda-build /opt/lookalike /opt/lookalike
COPY --from=cuda-build /build/models app/models
COPY LICENSE deploy/healthcheck.py ./
COPY --from=cuda-build /build/app app
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["python3", "/srv/lookalike/healthcheck.py"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python3", "-m", "app"]
CMD ["serve"]
