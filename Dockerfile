# Two images out of one file:
#   docker build --target gateway .      serves requests; no torch, no compiler
#   docker build --target federation .   trains routers, coordinates or joins a federation

# By digest, for all platforms: the tag says what it is for, and is not looked up. It is the one that
# docker-library/repo-info has for the tag (built on 25 August 2026). Renovate proposes newer ones;
# CI scans what is built on it. Every build notes it in org.opencontainers.image.base.name.
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm@sha256:0bee7276f83efd4a1ee05bbbf4281d95ed28e079220a9457f25a93e3f1e3c31b

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt requirements.lock requirements-pip.lock README.md LICENSE ./
# The environment holds what runs and nothing that installs: pip stays in this stage.
RUN python -m venv /opt/pip && /opt/pip/bin/pip install -r requirements-pip.lock \
    && python -m venv --without-pip /opt/venv
# Every version is the lock's, and every file is checked against its hash; this project has none.
ENV PIP_CONSTRAINT="constraints.txt requirements.lock" \
    PIP_BUILD_CONSTRAINT=requirements.lock \
    PIP_NO_REQUIRE_HASHES=1
COPY migrations migrations
COPY router_models router_models
COPY budget budget
COPY federation federation
COPY gateway gateway
COPY waypost.py ./
# What the extra `accurate` asks for comes out of this tree too.
RUN /opt/pip/bin/pip wheel --no-deps --wheel-dir /wheels ./router_models/encoders/minilm

FROM build AS gateway-environment
ARG GATEWAY_EXTRAS=accurate,aws,azure,google,postgres,redis,tokens,tracing
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --find-links /wheels \
    ".[${GATEWAY_EXTRAS}]"

# The registry's own torch carries two gigabytes of CUDA; PIP_EXTRA_INDEX_URL may name PyTorch's
# index of CPU wheels.
FROM build AS federation-environment
ARG FEDERATION_EXTRAS=federation,postgres,redis
ARG PIP_EXTRA_INDEX_URL=
RUN /opt/pip/bin/pip --python /opt/venv/bin/python install --find-links /wheels \
    ".[${FEDERATION_EXTRAS}]"

FROM ${PYTHON_IMAGE} AS runtime
# tini passes SIGTERM on from the first moment and buries the children of children. Its version is
# the distribution's, which mends it.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 waypost \
    && useradd --uid 10001 --gid 10001 --home-dir /var/lib/waypost --no-create-home \
        --shell /usr/sbin/nologin waypost \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/waypost
# Nothing but the data directory need be writable.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/var/lib/waypost/matplotlib \
    OMP_NUM_THREADS=1 \
    WAYPOST_DATA_DIR=/var/lib/waypost
LABEL org.opencontainers.image.title="Waypost" \
      org.opencontainers.image.description="An LLM gateway that learns which model to ask" \
      org.opencontainers.image.licenses="Apache-2.0"
VOLUME /var/lib/waypost
WORKDIR /var/lib/waypost
# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
ENTRYPOINT ["/usr/bin/tini", "--", "waypost"]

FROM runtime AS federation
COPY --from=federation-environment /opt/venv /opt/venv
EXPOSE 9443
# Of a coordinator; a node listens nowhere and is run without it.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import socket; socket.create_connection(('127.0.0.1', 9443), 3)"]
CMD ["federation", "coordinator"]

# Last, so that it is what `docker build .` makes.
FROM runtime AS gateway
COPY --from=gateway-environment /opt/venv /opt/venv
# 8081 is the operators': it listens to this container alone until server.admin_host says otherwise.
EXPOSE 8080 8081
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/health', timeout=3)"]
CMD ["serve", "--host", "0.0.0.0"]
