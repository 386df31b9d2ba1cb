# syntax=docker/dockerfile:1.7
# One image for the service and for Ray's nodes, in two variants:
#   docker build -t sluice:0.1.0 .                                     stages without weights
#   docker build -t sluice:0.1.0-cuda --build-arg VARIANT=cuda .       models of stages 4, 6 and 7, with torch for CUDA
# Behind a mirror, hand pip its settings with --secret id=pip,src=pip.conf; they stay out of the image.
ARG PYTHON=3.11.14-slim-bookworm
ARG VARIANT=cpu

FROM python:${PYTHON} AS build-cpu
ENV EXTRAS="[oss]"

FROM python:${PYTHON} AS build-cuda
ENV EXTRAS="[models,oss]"

FROM build-${VARIANT} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/sluice
WORKDIR /src
COPY pyproject.toml constraints.txt README.md ./
COPY schemas schemas
COPY consumers consumers
COPY service service
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \
    /opt/sluice/bin/pip install -c constraints.txt ".${EXTRAS}" \
    && /opt/sluice/bin/python -m compileall -q /opt/sluice/lib

FROM python:${PYTHON}
# libGL and GLib: OpenCV links them. tini: reaps what Ray leaves behind. wget: KubeRay's probes of Ray's nodes.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libxcb1 tini wget \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 sluice \
    && useradd --uid 10001 --gid sluice --home-dir /tmp --no-create-home --shell /usr/sbin/nologin sluice
COPY --from=build /opt/sluice /opt/sluice
ENV PATH=/opt/sluice/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video
USER 10001:10001
WORKDIR /tmp
# -s: in a pod whose containers share their processes, tini is not the first of them.
ENTRYPOINT ["tini", "-s", "--", "sluice"]
CMD ["run"]
